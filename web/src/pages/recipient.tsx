// One recipient of one campaign: where they stand, and everything that happened.

import { campaignPath, get } from "../api/http";
import { session } from "../api/session";
import type { RecipientHistory } from "../api/types";
import { country, moment, number, rowName } from "../format";
import { useAnswer } from "../lists/answer";
import { Events } from "../lists/events";
import { statusWords, variantWords } from "../lists/words";
import { useReport } from "../live/report";
import { CountSwitch } from "../parts/controls";
import { PaperFacts } from "../parts/paper-facts";
import { Empty, Failed, Loading, Notice } from "../parts/states";
import { Status } from "../parts/status";
import { Text, useTitle } from "../parts/text";
import { pathTo } from "../router";
import { count } from "../settings";
import { CampaignHead } from "./campaign-head";

const EVERY_MS = 1_000;
const SUMMARY = ["summary"] as const;

export function RecipientPage({ campaign, one }: { campaign: string; one: string }) {
  const zone = session.value?.timezone ?? "UTC";
  const { report, state, error: failure } = useReport(campaign, count.value, undefined, SUMMARY).value;
  const { answer, error, again } = useAnswer<RecipientHistory>((path, values, signal) => get(path, values, signal),
    campaignPath(campaign, `/recipients/${encodeURIComponent(one)}`), { count: count.value }, { moved: report, everyMs: EVERY_MS });
  const head = report ?? answer;
  useTitle(one);
  return (
    <>
      <CampaignHead campaign={campaign} name={head?.name} subject={head?.subject} page="recipients"><CountSwitch /></CampaignHead>
      {report && <PaperFacts organisation={session.value?.name ?? ""} counted={count.value} timezone={zone} asOf={report.as_of} />}
      <Status state={state} report={report} timezone={zone} error={failure} />
      {error && answer && <Notice>{error.message} What is shown is from before; trying again…</Notice>}
      <section class="card" aria-label="Recipient">
        <nav class="small" aria-label="Back to the list"><a href={pathTo("campaigns", campaign, "recipients")}>← All recipients</a></nav>
        <h2><Text cut={false}>{one}</Text></h2>
        {answer ? <Standing answer={answer} zone={zone} />
          : error?.status === 404 ? <Empty title="This campaign has no such recipient" />
            : error ? <Failed message={error.message} again={again} /> : <Loading what="Loading the history" />}
      </section>
      {answer && (
        <section class="card" aria-label="History">
          <div class="list-head"><h2>History</h2><span class="quiet small">Times in {zone}</span></div>
          {!answer.events_complete && (
            <Notice kind="info">There are more events than are shown here: <a href={`${pathTo("campaigns", campaign, "events")}?recipient=${encodeURIComponent(one)}`}>all of them, page by page</a></Notice>
          )}
          {answer.events.length === 0 ? <Empty title="No events" /> : <Events events={answer.events} campaign={campaign} zone={zone} who={false} />}
        </section>
      )}
    </>
  );
}

function Standing({ answer, zone }: { answer: RecipientHistory; zone: string }) {
  const twice = (times: number, first: string | null, last: string | null) =>
    `${number(times)}×, ${moment(first, zone)}${last && last !== first ? ` to ${moment(last, zone)}` : ""}`;
  const rows: [string, string | null][] = [
    ["Status", statusWords(answer.status)],
    ["Sent", answer.sent_at && moment(answer.sent_at, zone)],
    ["Delivered", answer.delivered_at && moment(answer.delivered_at, zone)],
    ["Deferred", answer.deferred_at && moment(answer.deferred_at, zone)],
    ["Bounced", answer.bounced_at && moment(answer.bounced_at, zone)],
    ["Opened", answer.opened ? twice(answer.opens, answer.opened_at, answer.last_opened_at) : "no"],
    ["Clicked", answer.clicked ? twice(answer.clicks, answer.clicked_at, answer.last_clicked_at) : "no"],
    ["Complained", answer.complained_at && moment(answer.complained_at, zone)],
    ["Unsubscribed", answer.unsubscribed_at && moment(answer.unsubscribed_at, zone)],
    ["Country", answer.country && country(answer.country)],
    ["Client", answer.client && rowName(answer.client)],
    ["Variant", variantWords(answer.variant)],
  ];
  return (
    <dl class="facts">
      {rows.map(([name, value]) => value ? <div key={name}><dt>{name}</dt><dd><Text cut={false}>{value}</Text></dd></div> : null)}
    </dl>
  );
}
