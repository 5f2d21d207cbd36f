// A/B tests of one campaign: each variant with its interval and the verdict in words, and any two fields as a heatmap.
// People only unless somebody chooses otherwise: machines open every variant alike.

import { useEffect, useState } from "preact/hooks";
import { campaignPath, get, wordsOf } from "../api/http";
import { session } from "../api/session";
import type { Count, Rate, Variant, Variants } from "../api/types";
import { number, percent } from "../format";
import { useReport } from "../live/report";
import { Select, Switch } from "../parts/controls";
import { PaperFacts } from "../parts/paper-facts";
import { Empty, Failed, Loading, Notice } from "../parts/states";
import { Notices, Status } from "../parts/status";
import { Table } from "../parts/table";
import { Text, useTitle } from "../parts/text";
import { filter, filters } from "../router";
import { HeatmapTable } from "./ab/heatmap";
import { Interval, scaleOf } from "./ab/interval";
import { CampaignHead } from "./campaign-head";
import { labelOf } from "./report/variants";

export const RATES: readonly [Rate, string][] = [
  ["click_rate", "Click rate"], ["open_rate", "Open rate"], ["click_to_open_rate", "Click-to-open rate"],
  ["openers_who_clicked_rate", "Openers who clicked"], ["bounce_rate", "Bounce rate"], ["complaint_rate", "Complaint rate"],
  ["unsubscribe_rate", "Unsubscribe rate"], ["delivery_rate", "Delivery rate"],
];
const SECTIONS = ["variants"] as const;
const WAIT_MS = 300;

/** The section with the rate and fields asked for, again whenever the live one has moved; at most every `WAIT_MS`. */
function useVariants(campaign: string, moved: Variants | undefined, count: Count, rate: Rate, x: string, y: string) {
  const [answer, setAnswer] = useState<{ variants: Variants | null; error: string }>({ variants: null, error: "" });
  useEffect(() => {
    if (!moved) return;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      const fields = x && y && x !== y ? { x, y } : {};
      get<{ variants: Variants }>(campaignPath(campaign, "/variants"), { count, rate, ...fields }, stop.signal).then(
        (came) => setAnswer({ variants: came.variants, error: "" }),
        (failure) => { if (!stop.signal.aborted) setAnswer((now) => ({ ...now, error: wordsOf(failure) })); },
      );
    }, WAIT_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [campaign, moved, count, rate, x, y]);
  return answer;
}

export function AbPage({ campaign }: { campaign: string }) {
  const asked = filters.value;
  const count: Count = asked.get("count") === "all" ? "all" : "people";
  const rate = RATES.find(([name]) => name === asked.get("rate"))?.[0] ?? "click_rate";
  const live = useReport(campaign, count, undefined, SECTIONS);
  const { report, state, error, again } = live.value;
  const fields = Object.keys(report?.variants?.fields ?? {});
  const x = asked.get("x") ?? fields[0] ?? "";
  const y = asked.get("y") ?? fields.find((field) => field !== x) ?? "";
  const { variants, error: failure } = useVariants(campaign, report?.variants, count, rate, x, y);
  useTitle(`A/B test, ${report?.name || campaign}`);
  return (
    <>
      <CampaignHead campaign={campaign} name={report?.name} subject={report?.subject} page="ab">
        <Switch label="What counts" value={count} set={(value) => filter({ count: value === "all" ? "all" : undefined })}
          choices={[{ value: "all", label: "Every event" }, { value: "people", label: "People only" }]} />
      </CampaignHead>
      {report && <PaperFacts organisation={session.value?.name ?? ""} counted={count} timezone={session.value?.timezone ?? "UTC"} asOf={report.as_of} />}
      {report && <Status state={state} report={report} timezone={session.value?.timezone ?? "UTC"} />}
      {report && <Notices of={report} timezone={session.value?.timezone ?? "UTC"} />}
      {failure && <Notice>{failure}</Notice>}
      {report?.variants && report.variants.rows.length === 0
        ? <Empty title="This campaign has no variants"><p>Variants come with the events: a source's <code>variant_prefix</code> names them.</p></Empty>
        : variants
          ? <Shown variants={variants} fields={fields} rate={rate} x={x} y={y} />
          : error?.status === 404
            ? <Empty title="There is no campaign of this name" />
            : error ? <Failed message={`${error.message} Trying again…`} again={again} /> : <Loading what="Loading the variants" />}
    </>
  );
}

function Shown({ variants, fields, rate, x, y }: { variants: Variants; fields: string[]; rate: Rate; x: string; y: string }) {
  const name = RATES.find(([one]) => one === rate)?.[1] ?? rate;
  const scale = scaleOf(variants.rows.map((row) => row.interval[rate] ?? null));
  return (
    <>
      {variants.warning && <Notice>{variants.warning}</Notice>}
      <section class="card" aria-label="Variants">
        <div class="title">
          <h2>Variants</h2>
          <Select label="Rate" value={rate} choices={RATES} set={(value) => filter({ rate: value === "click_rate" ? undefined : value })} />
        </div>
        <Table label="Variants" rows={variants.rows} keyOf={(row) => JSON.stringify(row.variant)} columns={[
          { title: "Variant", wide: true, cell: (row) => <Text>{labelOf(row.variant, variants.fields)}</Text> },
          { title: "Recipients", number: true, cell: (row) => number(row.recipients) },
          { title: name, number: true, cell: (row) => <b>{percent(row.summary[rate])}</b> },
          { title: "95 % interval", cell: (row) => <Interval ends={row.interval[rate] ?? null} value={row.summary[rate]} scale={scale} /> },
          { title: "Opened", number: true, cell: (row) => number(row.summary.opened) },
          { title: "Clicked", number: true, cell: (row) => number(row.summary.clicked) },
          { title: "Verdict", cell: (row) => <Verdict row={row} /> },
        ]} />
        {variants.without > 0 && <p class="quiet small">{number(variants.without)} recipients have no variant.</p>}
        <Method variants={variants} />
      </section>
      {variants.heatmap && <HeatmapTable heatmap={variants.heatmap} labels={variants.fields} fields={fields} name={name} x={x} y={y} />}
    </>
  );
}

function Verdict({ row }: { row: Variant }) {
  if (!row.verdict) return <span class="quiet">not tested</span>;
  return <span class={`verdict ${row.verdict === "better" || row.verdict === "worse" ? row.verdict : ""}`}>{row.verdict}</span>;
}

function Method({ variants: { method } }: { variants: Variants }) {
  return (
    <p class="quiet small">
      Interval: {method.interval}.{" "}
      {method.test && <>Test: {method.test}; correction for many comparisons: {method.correction}. </>}
      {method.minimum_recipients !== undefined && (
        <>Below {number(method.minimum_recipients)} recipients, or where a difference of {percent(method.relevant_difference_percent)} of the
          rate could have been missed, it is too early to tell. </>
      )}
      The verdict holds for one look: who looks until something shows finds differences by chance.
    </p>
  );
}
