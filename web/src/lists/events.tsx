// Events one below the other, each with all that is known about it behind a handle.

import type { ComponentChildren } from "preact";
import type { LoggedEvent } from "../api/types";
import { country, moment, number, rowName } from "../format";
import { OutLink, Text } from "../parts/text";
import { Who } from "./who";
import { named, reasonWords, TYPES, variantWords, VERDICTS } from "./words";

export function Events({ events, campaign, zone, who }: {
  events: readonly LoggedEvent[]; campaign: string; zone: string; who: boolean;
}) {
  return <ol class="events">{events.map((event) => <Row key={event.id} event={event} campaign={campaign} zone={zone} who={who} />)}</ol>;
}

function Row({ event, campaign, zone, who }: { event: LoggedEvent; campaign: string; zone: string; who: boolean }) {
  return (
    <li class={who ? "with-who" : ""}>
      <time dateTime={event.at}>{moment(event.at, zone, true)}</time>
      <span class="kind">
        <b>{named(TYPES, event.type)}</b>
        {event.verdict && <span class="verdict small"><i class={`dot ${event.verdict}`} aria-hidden="true" />{named(VERDICTS, event.verdict)}</span>}
        {event.excluded && <span class="quiet small">not counted</span>}
      </span>
      {who && <span class="who"><Who campaign={campaign} recipient={event.recipient} /></span>}
      <span class="about"><About event={event} /></span>
      <details>
        <summary class="small">All<span class="hidden"> about this event</span></summary>
        <All event={event} />
      </details>
    </li>
  );
}

function About({ event }: { event: LoggedEvent }) {
  if (event.link !== null) return <OutLink to={event.link} />;
  if (event.reason !== null) return <Text>{event.reason}</Text>;
  const parts = [event.client, event.device, event.city].filter((part) => part !== null).map(rowName);
  return parts.length ? <span class="quiet small"><Text>{parts.join(" · ")}</Text></span> : null;
}

function All({ event }: { event: LoggedEvent }) {
  const text = (value: string | null) => value === null ? null : <Text cut={false}>{value}</Text>;
  const rows: [string, ComponentChildren][] = [
    ["Judged so because", text(reasonWords(event.verdict_reason))],
    ["Link", text(event.link)],
    ["Position in the mail", event.position === null ? null : number(event.position)],
    ["Reason", text(event.reason)],
    ["Answer of the mail server", text(event.smtp_reply)],
    ["Country", event.country === null ? null : text(country(event.country))],
    ["City", event.city === null ? null : text(rowName(event.city))],
    ["Client", event.client === null ? null : text(rowName(event.client))],
    ["Device", event.device === null ? null : text(rowName(event.device))],
    ["Mailbox provider", event.provider === null ? null : text(rowName(event.provider))],
    ["IP address", text(event.ip)],
    ["User agent", text(event.user_agent)],
    ["Variant", event.variant === null ? null : text(variantWords(event.variant))],
    ["Tags", event.tags?.length ? text(event.tags.join(", ")) : null],
    ...Object.entries(event.metadata ?? {}).map(([name, value]): [string, ComponentChildren] => [name, text(value)]),
    ["Mail service", text(event.esp)],
    ["Its event", text(event.esp_event_id)],
    ["Message", text(event.message_id)],
    ["Counts", event.excluded ? "no: the organisation excludes this address" : null],
  ];
  return (
    <dl class="facts">
      {rows.map(([name, value], index) => value === null ? null : <div key={index}><dt><Text>{name}</Text></dt><dd>{value}</dd></div>)}
    </dl>
  );
}
