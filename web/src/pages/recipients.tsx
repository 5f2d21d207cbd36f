// The people of one campaign: a table that is filtered and paged in the address.

import { useMemo } from "preact/hooks";
import { campaignPath } from "../api/http";
import { session } from "../api/session";
import type { Recipient, Recipients } from "../api/types";
import { clockOf, country, DASH, dayOf, number, rowName } from "../format";
import { page, useAnswer } from "../lists/answer";
import { useChoices } from "../lists/choices";
import { Who } from "../lists/who";
import { Export } from "../lists/export";
import { asked, ClearFilters, SelectField, TextField, VariantFields } from "../lists/fields";
import { ListCard } from "../lists/list-card";
import { choiceText, STATUSES, statusWords, variantWords } from "../lists/words";
import { useReport } from "../live/report";
import { CountSwitch, Switch } from "../parts/controls";
import { PaperFacts } from "../parts/paper-facts";
import { Empty } from "../parts/states";
import { Status } from "../parts/status";
import { Table } from "../parts/table";
import { Text, useTitle } from "../parts/text";
import { filter, filters } from "../router";
import { count } from "../settings";
import { CampaignHead } from "./campaign-head";

const FILTERS = ["status", "search", "country", "link"];
const EVERY_MS = 2_000;
const SUMMARY = ["summary"] as const;

export function RecipientsPage({ campaign }: { campaign: string }) {
  const zone = session.value?.timezone ?? "UTC";
  const { report, state, error } = useReport(campaign, count.value, undefined, SUMMARY).value;
  const sort = filters.value.get("sort") === "-last_event_at" ? "-last_event_at" : undefined;
  const wanted = askedRecipients();
  const values = { ...wanted, count: count.value, sort, cursor: filters.value.get("cursor") ?? undefined };
  const answered = useAnswer<Recipients>(page, campaignPath(campaign, "/recipients"), values, { moved: report, everyMs: EVERY_MS });
  const choices = useChoices(campaign, report?.as_of);
  const head = report ?? answered.answer;
  useTitle(`Recipients of ${head?.name || campaign}`);
  const table = useMemo(() => answered.answer && <People rows={answered.answer.items} campaign={campaign} zone={zone} />,
    [answered.answer, campaign, zone]);
  return (
    <>
      <CampaignHead campaign={campaign} name={head?.name} subject={head?.subject} page="recipients"><CountSwitch /></CampaignHead>
      {report && <PaperFacts organisation={session.value?.name ?? ""} counted={count.value} timezone={zone} asOf={report.as_of} />}
      <Status state={state} report={report} timezone={zone} error={error} />
      <ListCard id="recipients" title="Recipients" one="recipient" many="recipients" answered={answered}
        filtered={Object.keys(wanted).length > 0}
        none={<Empty title="No recipients yet"><p>They appear here when the first mail is sent.</p></Empty>}
        actions={<Export path={campaignPath(campaign, "/exports/recipients.csv")} values={{ ...wanted, count: count.value }} name={`${campaign}-recipients.csv`} />}
        fields={
          <>
            <TextField name="search" label="Address" placeholder="Its start, or @domain" />
            <SelectField name="status" label="Status" all="Everybody" choices={Object.entries(STATUSES)} />
            <SelectField name="country" label="Country" all="Any" choices={choices.countries.map((code) => [code, choiceText(country(code))])} />
            <SelectField name="link" label="Clicked the link" all="Any" choices={choices.links.map((link) => [link.id, choiceText(link.link ?? "")])} />
            <VariantFields variants={choices.variants} />
            <ClearFilters names={FILTERS} />
          </>
        }
        bar={
          <>
            <span class="quiet">Times in {zone}</span>
            <Switch label="Order" value={sort ?? "recipient"} set={(value) => filter({ sort: value === "recipient" ? undefined : value, cursor: undefined })}
              choices={[{ value: "recipient", label: "By address" }, { value: "-last_event_at", label: "Newest activity" }]} />
          </>
        }>
        {table}
      </ListCard>
    </>
  );
}

/** What the address asks for; one "@" alone, on the way to a domain, asks for nothing yet. */
function askedRecipients(): Record<string, string> {
  const found = asked(FILTERS);
  const search = found.search?.trim();
  if (search === undefined || (search !== "" && search !== "@")) return found;
  const { search: _, ...others } = found;
  return others;
}

function People({ rows, campaign, zone }: { rows: readonly Recipient[]; campaign: string; zone: string }) {
  const times = (did: boolean, how: number, at: string | null) =>
    did ? <>{number(how)}× <When at={at} zone={zone} /></> : <span class="quiet">{DASH}</span>;
  return (
    <Table label="Recipients" rows={rows} shown={rows.length} keyOf={(row, index) => row.recipient ?? `erased ${index}`} columns={[
      { title: "Recipient", cell: (row) => <Who campaign={campaign} recipient={row.recipient} /> },
      { title: "Status", cell: (row) => statusWords(row.status) },
      { title: "Opened", cell: (row) => times(row.opened, row.opens, row.opened_at) },
      { title: "Clicked", cell: (row) => times(row.clicked, row.clicks, row.clicked_at) },
      { title: "Sent", cell: (row) => <When at={row.sent_at} zone={zone} /> },
      { title: "Newest event", cell: (row) => <When at={row.last_event_at} zone={zone} /> },
      { title: "Country", cell: (row) => row.country === null ? DASH : <Text>{country(row.country)}</Text> },
      { title: "Client", cell: (row) => row.client === null ? DASH : <Text>{rowName(row.client)}</Text> },
      { title: "Variant", cell: (row) => row.variant === null ? DASH : <Text>{variantWords(row.variant)}</Text> },
    ]} />
  );
}

/** On two lines where one would make the table wider than the page. */
function When({ at, zone }: { at: string | null; zone: string }) {
  if (at === null) return <span class="quiet">{DASH}</span>;
  return <time class="when" dateTime={at}><span>{dayOf(at, zone)}</span> <span class="quiet small">{clockOf(at, zone)}</span></time>;
}
