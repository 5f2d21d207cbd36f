// How to connect a mail service: the address to copy, what to do there, and a light that turns green when something came.

import { useEvery } from "../api/every";
import { get } from "../api/http";
import { may, session } from "../api/session";
import type { Source, Sources } from "../api/types";
import { duration, moment, number } from "../format";
import { Copy } from "../parts/copy";
import { Needs } from "../parts/needs";
import { Empty, Failed, Loading, Notice } from "../parts/states";
import { Text, useTitle } from "../parts/text";
import { ESPS, REFUSED, VERIFIED } from "./connect/esps";

const EVERY_MS = 2_000;

export function ConnectPage() {
  useTitle("Sources");
  return (
    <>
      <h1 tabIndex={-1}>Sources</h1>
      <Needs scope="ops">
        <p class="quiet">Where your mail service posts its webhooks. A light turns green when the first event has come.</p>
        <SourceList />
      </Needs>
    </>
  );
}

/** In place of the list of campaigns while there is none. */
export function FirstRun() {
  if (!may("ops")) {
    return (
      <Empty title="No campaign yet">
        <p>The first webhook that is counted makes one appear here, by itself. Somebody whose key has the scope <code>ops</code> sees
          on this page how to connect a mail service.</p>
      </Empty>
    );
  }
  return (
    <>
      <div class="state">
        <p class="state-title">No campaign yet</p>
        <p>Connect a mail service: copy the address, do what stands beside it. The first event makes its campaign appear here, by itself.</p>
      </div>
      <SourceList />
    </>
  );
}

function SourceList() {
  const { answer, error, again } = useEvery((signal) => get<Sources>("/api/v1/sources", {}, signal), EVERY_MS, []);
  if (answer === null) return error ? <Failed message={error} again={again} /> : <Loading what="Loading the sources" />;
  return (
    <>
      {error && <Notice>{error} The lights are those of before; trying again…</Notice>}
      {!answer.known && <Notice>What came in can't be told at the moment. Webhooks are taken all the same.</Notice>}
      {answer.sources.length === 0 && <Empty title="No source yet"><p>Sources stand in <code>reports.toml</code>.</p></Empty>}
      {answer.sources.map((source) => <SourceCard key={source.source} source={source} known={answer.known} since={answer.counted_since} />)}
    </>
  );
}

function SourceCard({ source, known, since }: { source: Source; known: boolean; since: string | null }) {
  const esp = Object.hasOwn(ESPS, source.esp) ? ESPS[source.esp] : undefined;
  const zone = session.value?.timezone ?? "UTC";
  const byKey = source.verification.includes("api_key");
  return (
    <section class="card source" aria-label={`Source ${source.source}`}>
      <div class="title">
        <h2><Text>{source.source}</Text> <span class="quiet small">{esp?.name ?? <Text>{source.esp}</Text>}</span></h2>
        <Light source={source} known={known} />
      </div>
      <Copy label={byKey ? "Address for events" : "Webhook address"} text={source.address} />
      {esp && <p>{esp.steps}</p>}
      {source.esp === "generic" && <Example address={source.address} byKey={byKey} />}
      {source.insecure
        ? <Notice>Nothing verifies what comes here (<code>insecure</code>): anybody who knows the address can add events.</Notice>
        : <p class="quiet small">Verified by {source.verification.map((name) => VERIFIED[name] ?? name).join(" and ")}.</p>}
      {source.key_missing && (
        <Notice>A key of this source is missing on the server that answered, or is not a key of this mail service. Webhooks that it
          can't verify are answered “try again later”, so nothing is lost for now. Operations says which file it is and what to do.</Notice>
      )}
      {source.silent && (
        <Notice>Nothing has come for {duration(source.silent_for_ms)}; usually at most {duration(source.allowed_silence_ms)} pass. Look at the
          webhook's settings at the mail service.</Notice>
      )}
      {source.counts && (
        <p class="quiet small counts">
          <span>{source.counts.accepted === 0 && since !== null
            ? `none accepted since ${moment(since, zone)}` : `${number(source.counts.accepted)} accepted`}</span>
          {source.last_event_at && <span>last one <time dateTime={source.last_event_at}>{moment(source.last_event_at, zone, true)}</time></span>}
          {Object.entries(source.counts.refused).map(([code, times]) => (
            <span key={code} class="error">{number(times)} refused: {REFUSED[code] ?? code}</span>
          ))}
        </p>
      )}
    </section>
  );
}

function Light({ source, known }: { source: Source; known: boolean }) {
  const [kind, words] = source.key_missing ? ["offline", "Key missing or wrong"]
    : !known ? ["", "Not known"]
    : source.last_event_at === null ? ["", "Waiting for an event"]
      : source.silent ? ["connecting", "Silent"] : ["live", "Events come in"];
  return <span role="status" class={`light ${kind}`}><i class="dot" aria-hidden="true" />{words}</span>;
}

function Example({ address, byKey }: { address: string; byKey: boolean }) {
  const event = '{"type": "sent", "campaign": "first", "recipient": "ada@example.com", "at": "2026-11-23T09:00:00Z"}';
  return (
    <details>
      <summary>An example</summary>
      <Copy label="Command" hidden text={`curl '${address}' -H 'Authorization: Bearer ${byKey ? "KEY" : "TOKEN"}' -d '{"events": [${event}]}'`} />
    </details>
  );
}
