// Campaigns side by side at the same age. Which ones, and at what age, stands in the address.

import { useMemo, useState } from "preact/hooks";
import { useEvery } from "../api/every";
import { get } from "../api/http";
import { session } from "../api/session";
import type { ComparedCampaign, Comparison, Count } from "../api/types";
import type { Line } from "../charts/lines";
import { duration, number, percent } from "../format";
import { lazy } from "../lazy";
import { CountSwitch, Select, Switch } from "../parts/controls";
import { useLanding } from "../parts/landing";
import { PaperFacts } from "../parts/paper-facts";
import { CampaignPicker } from "../parts/picker";
import { Empty, Failed, Loading, Notice } from "../parts/states";
import { Stale } from "../parts/status";
import { Table } from "../parts/table";
import { Text, useTitle } from "../parts/text";
import { filter, filters, go, pathTo } from "../router";
import { count } from "../settings";

const MOST = 20;
const EVERY_MS = 5_000;
const AGES = [["1", "1 hour"], ["6", "6 hours"], ["24", "1 day"], ["48", "2 days"], ["168", "7 days"], ["720", "30 days"]] as const;
const Drawn = lazy<{ label: string; lines: Line[] }>(() => import("../charts/lines").then((module) => module.default));
type What = "opened" | "clicked";

export function ComparePage() {
  const asked = filters.value;
  const campaigns = [...new Set(asked.getAll("campaign"))].slice(0, MOST);
  const age = AGES.find(([hours]) => hours === asked.get("age_hours"))?.[0] ?? "48";
  const what: What = asked.get("what") === "clicked" ? "clicked" : "opened";
  const { answer, error, again } = useComparison(campaigns, age, count.value);
  useTitle("Compare");
  return (
    <>
      <div class="title"><h1 tabIndex={-1}>Compare</h1><CountSwitch /></div>
      {answer && <PaperFacts organisation={session.value?.name ?? ""} counted={count.value} timezone={session.value?.timezone ?? "UTC"} asOf={answer.as_of} />}
      <Chooser chosen={campaigns} compared={answer?.campaigns ?? []} />
      {error && <>{answer ? <Notice>{error} The numbers are those of before; trying again…</Notice> : <Failed message={error} again={again} />}</>}
      {answer && <Stale of={answer} />}
      {campaigns.length === 0
        ? <Empty title="Choose campaigns to compare"><p>They stand side by side at the same age: hours since their mailing began.</p></Empty>
        : answer === null ? !error && <Loading what="Comparing" /> : (
          <section class="card" aria-label="Comparison">
            <div class="title">
              <h2>At the same age</h2>
              <Select label="Age" value={age} choices={AGES} set={(value) => filter({ age_hours: value })} />
              <Switch label="What is drawn" value={what} set={(value) => filter({ what: value })}
                choices={[{ value: "opened", label: "Opened" }, { value: "clicked", label: "Clicked" }]} />
            </div>
            <Curves rows={answer.campaigns} what={what} />
            <Rows rows={answer.campaigns} />
            <p class="quiet small">Newest event counted {answer.as_of ? `${duration(Math.max(0, Date.now() - Date.parse(answer.as_of)))} ago` : "–"}, behind by {duration(answer.lag_ms)}.</p>
          </section>
        )}
    </>
  );
}

function useComparison(campaigns: string[], age: string, counted: Count) {
  const query = new URLSearchParams([...campaigns.map((name) => ["campaign", name]), ["age_hours", age], ["count", counted]]).toString();
  const load = (signal: AbortSignal) => get<Comparison>(`/api/v1/compare?${query}`, {}, signal);
  return useEvery(campaigns.length ? load : null, EVERY_MS, [query]);
}

function choose(campaigns: string[]): void {
  const query = new URLSearchParams(location.search);
  query.delete("campaign");
  for (const campaign of campaigns) query.append("campaign", campaign);
  go(`${location.pathname}?${query}`);
}

function Chooser({ chosen, compared }: { chosen: string[]; compared: readonly ComparedCampaign[] }) {
  const [names, setNames] = useState<Record<string, string | null>>({});
  const place = useLanding<HTMLFieldSetElement>(chosen.length);
  const nameOf = (campaign: string) => compared.find((row) => row.campaign === campaign)?.name ?? names[campaign] ?? campaign;
  return (
    <fieldset class="chips" ref={place} tabIndex={-1}>
      <legend class="hidden">Campaigns</legend>
      {chosen.map((campaign) => (
        <span key={campaign} class="chip">
          <Text>{nameOf(campaign)}</Text>
          <button type="button" class="plain icon" aria-label={`Remove ${nameOf(campaign).slice(0, 80)}`} onClick={() => choose(chosen.filter((one) => one !== campaign))}>×</button>
        </span>
      ))}
      {chosen.length < MOST && (
        <CampaignPicker without={chosen} choose={({ campaign, name }) => {
          setNames({ ...names, [campaign]: name });
          choose([...chosen, campaign]);
        }} />
      )}
    </fieldset>
  );
}

function Curves({ rows, what }: { rows: ComparedCampaign[]; what: What }) {
  const lines = useMemo(() => rows.map((row) => ({
    name: row.name ?? row.campaign,
    points: row.curve.filter((point) => point.sent > 0).map((point): [number, number] => [point.age_hours, (100 * point[what]) / point.sent]),
  })), [rows, what]);
  return <Drawn label={`${what} in percent of sent, by age; the table below has the numbers`} lines={lines} />;
}

function Rows({ rows }: { rows: ComparedCampaign[] }) {
  return (
    <Table label="Comparison" rows={rows} keyOf={(row) => row.campaign} columns={[
      {
        title: "Campaign", wide: true, cell: (row) => (
          <span class="keyed"><i class={`dot series-${rows.indexOf(row) % 6}`} aria-hidden="true" /><a href={pathTo("campaigns", row.campaign)}><Text>{row.name ?? row.campaign}</Text></a></span>
        ),
      },
      { title: "Sent", number: true, cell: (row) => number(row.numbers.sent) },
      { title: "Opened", number: true, cell: (row) => number(row.numbers.opened) },
      { title: "Open rate", number: true, cell: (row) => <b>{percent(row.numbers.open_rate)}</b> },
      { title: "Clicked", number: true, cell: (row) => number(row.numbers.clicked) },
      { title: "Click rate", number: true, cell: (row) => <b>{percent(row.numbers.click_rate)}</b> },
      { title: "Click-to-open", number: true, cell: (row) => percent(row.numbers.click_to_open_rate) },
      { title: "Age", cell: (row) => (row.reached ? "reached" : "not that old yet") },
    ]} />
  );
}
