// The event log of one campaign: every fact with its verdict, newest first, and it moves unless it is paused.

import { useMemo, useState } from "preact/hooks";
import { campaignPath } from "../api/http";
import { session } from "../api/session";
import type { EventLog } from "../api/types";
import { page, useAnswer } from "../lists/answer";
import { useChoices } from "../lists/choices";
import { Events } from "../lists/events";
import { Export } from "../lists/export";
import { asked, ClearFilters, SelectField, TextField, TimeField, VariantFields } from "../lists/fields";
import { ListCard } from "../lists/list-card";
import { choiceText, TYPES, VERDICTS } from "../lists/words";
import { useReport } from "../live/report";
import { Switch } from "../parts/controls";
import { PaperFacts } from "../parts/paper-facts";
import { Empty } from "../parts/states";
import { Status } from "../parts/status";
import { useTitle } from "../parts/text";
import { filter, filters } from "../router";
import { CampaignHead } from "./campaign-head";

const FILTERS = ["type", "verdict", "recipient", "link", "from", "to"];
const EVERY_MS = 1_000;
const SUMMARY = ["summary"] as const;

export function EventsPage({ campaign }: { campaign: string }) {
  const zone = session.value?.timezone ?? "UTC";
  const [paused, setPaused] = useState(false);
  const { report, state, error } = useReport(campaign, "all", undefined, SUMMARY).value;
  const wanted = asked(FILTERS);
  const order = filters.value.get("order") === "asc" ? "asc" : undefined;
  const cursor = filters.value.get("cursor") ?? undefined;
  const tail = order === undefined && cursor === undefined;
  const answered = useAnswer<EventLog>(page, campaignPath(campaign, "/events"), { ...wanted, order, cursor },
    { moved: report, everyMs: EVERY_MS, paused: paused && tail });
  const choices = useChoices(campaign, report?.as_of);
  const head = report ?? answered.answer;
  useTitle(`Events of ${head?.name || campaign}`);
  const rows = useMemo(() => answered.answer && <Events events={answered.answer.items} campaign={campaign} zone={zone} who />,
    [answered.answer, campaign, zone]);
  return (
    <>
      <CampaignHead campaign={campaign} name={head?.name} subject={head?.subject} page="events" />
      {report && <PaperFacts organisation={session.value?.name ?? ""} timezone={zone} asOf={report.as_of} />}
      <Status state={state} report={report} timezone={zone} error={error} />
      <ListCard id="events" title="Event log" one="event" many="events" answered={answered}
        filtered={Object.keys(wanted).length > 0} none={<Empty title="No events yet" />}
        actions={<Export path={campaignPath(campaign, "/exports/events.csv")} values={{ ...wanted, order: order ?? "desc" }} name={`${campaign}-events.csv`} />}
        fields={
          <>
            <SelectField name="type" label="Event" all="All" choices={Object.entries(TYPES)} />
            <SelectField name="verdict" label="Who opened or clicked" all="Anybody" choices={Object.entries(VERDICTS)} />
            <TextField name="recipient" label="Recipient" placeholder="Whole address" />
            <SelectField name="link" label="Link" all="Any" choices={choices.links.map((link) => [link.id, choiceText(link.link ?? "")])} />
            <TimeField name="from" label="From" zone={zone} />
            <TimeField name="to" label="Before" zone={zone} />
            <VariantFields variants={choices.variants} />
            <ClearFilters names={FILTERS} />
          </>
        }
        bar={
          <>
            <span class="quiet">Times in {zone}</span>
            <span role="status">{tail && paused && "Paused: new events wait."}</span>
            {tail && (
              <button type="button" class="plain" id="pause" onClick={() => setPaused(!paused)}>{paused ? "Go on" : "Pause"}</button>
            )}
            <Switch label="Order" value={order ?? "desc"} set={(value) => filter({ order: value === "asc" ? "asc" : undefined, cursor: undefined })}
              choices={[{ value: "desc", label: "Newest first" }, { value: "asc", label: "Oldest first" }]} />
          </>
        }>
        {rows}
      </ListCard>
    </>
  );
}
