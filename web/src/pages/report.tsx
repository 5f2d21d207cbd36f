// The report of one campaign: everything that has a fixed size, and it moves.

import { may, session } from "../api/session";
import type { Count, Report, Summary } from "../api/types";
import { number, percent } from "../format";
import { useListTo } from "../lists/to";
import { useReport } from "../live/report";
import { CountSwitch } from "../parts/controls";
import { PaperButtons } from "../parts/paper-buttons";
import { PaperFacts } from "../parts/paper-facts";
import { Empty, Failed, Loading } from "../parts/states";
import { Notices, Status } from "../parts/status";
import { useTitle } from "../parts/text";
import { Split, Tile } from "../parts/tiles";
import { filters } from "../router";
import { count } from "../settings";
import { CampaignHead } from "./campaign-head";
import { ClientsCard } from "./report/clients";
import { LinksCard } from "./report/links";
import { PlacesCard } from "./report/places";
import { ProvidersCard } from "./report/providers";
import { Share } from "./report/share";
import { TimelineCard } from "./report/timeline";
import { VariantsCard } from "./report/variants";

export function ReportPage({ campaign }: { campaign: string }) {
  const home = session.value?.timezone ?? "UTC";
  const timezone = filters.value.get("timezone") ?? home;
  const live = useReport(campaign, count.value, timezone === home ? undefined : timezone);
  const { report, state, error, again } = live.value;
  useTitle(report?.name || campaign);
  return (
    <>
      <CampaignHead campaign={campaign} name={report?.name} subject={report?.subject} page="">{report && <PaperButtons campaign={campaign} />}{may("write") && <Share campaign={campaign} zone={timezone} />}<CountSwitch /></CampaignHead>
      {report && <PaperFacts organisation={session.value?.name ?? ""} counted={report.count} timezone={timezone} asOf={report.as_of} />}
      {report && <Status state={state} report={report} timezone={timezone} />}
      {report && <Notices of={report} timezone={timezone} />}
      {report ? <Sections campaign={campaign} report={report} timezone={timezone} home={home} />
        : error?.status === 404
          ? <Empty title="There is no campaign of this name"><p>It appears here by itself when its first event is counted.</p></Empty>
          : error ? <Failed message={`${error.message} Trying again…`} again={again} /> : <Loading what="Loading the report" />}
    </>
  );
}

export function Sections({ campaign, report, timezone, home }: { campaign: string; report: Report; timezone: string; home: string }) {
  const { summary, timeline, links, places, clients, providers, variants } = report;
  return (
    <>
      {summary && <SummaryTiles campaign={campaign} summary={summary} count={report.count} />}
      {timeline && <TimelineCard campaign={campaign} timeline={timeline} asOf={report.as_of} count={report.count} home={home} />}
      {summary && (
        <div class="two">
          <Split title="Who opened" verdicts={summary.opens_by_verdict} />
          <Split title="Who clicked" verdicts={summary.clicks_by_verdict} />
        </div>
      )}
      {links && <LinksCard campaign={campaign} links={links} count={report.count} timezone={timezone} />}
      {variants && variants.rows.length > 0 && <VariantsCard campaign={campaign} variants={variants} />}
      {places && <PlacesCard campaign={campaign} places={places} />}
      {clients && <ClientsCard clients={clients} />}
      {providers && <ProvidersCard rows={providers.rows} />}
    </>
  );
}

function SummaryTiles({ campaign, summary, count }: { campaign: string; summary: Summary; count: Count }) {
  const list = useListTo(campaign);
  const to = (status: string) => list("recipients", { status });
  const who = count === "people" ? " (people only)" : "";
  return (
    <section class="summary" aria-label="Summary">
      <dl class="tiles">
        <Tile label="Sent" value={summary.sent} to={to("sent")} who="Recipients to whom the mail was sent" />
        <Tile label="Delivered" value={summary.delivered} rate={summary.delivery_rate} of="of sent"
          to={to("delivered")} who="Recipients whose mail was delivered" />
        <Tile label="Opened" value={summary.opened} rate={summary.open_rate} of="of sent" to={to("opened")} who={`Recipients who opened${who}`}>
          <small>{number(summary.total_opens)} opens in all</small>
        </Tile>
        <Tile label="Clicked" value={summary.clicked} rate={summary.click_rate} of="of sent" to={to("clicked")} who={`Recipients who clicked${who}`}>
          <small>{percent(summary.click_to_open_rate)} of openers, {number(summary.total_clicks)} clicks in all</small>
        </Tile>
      </dl>
      <dl class="tiles lesser">
        <Tile label="Bounced" value={summary.bounced} rate={summary.bounce_rate} of="of sent"
          to={to("bounced")} who="Recipients whose mail bounced" />
        <Tile label="Complained" value={summary.complained} rate={summary.complaint_rate} of="of sent"
          to={to("complained")} who="Recipients who complained" />
        <Tile label="Unsubscribed" value={summary.unsubscribed} rate={summary.unsubscribe_rate} of="of sent"
          to={to("unsubscribed")} who="Recipients who unsubscribed" />
      </dl>
    </section>
  );
}
