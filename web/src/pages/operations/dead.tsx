// What could not be read: a list with filters in the address, one letter, and sending it once more.

import { useEffect, useState } from "preact/hooks";
import { address, get, send, sendBody, wordsOf } from "../../api/http";
import type { DeadLetters as Listed, Replayed, WholeDeadLetter } from "../../api/operations";
import { moment, number } from "../../format";
import { useLanding } from "../../parts/landing";
import { save } from "../../parts/save";
import { Empty, Failed, Loading, Notice } from "../../parts/states";
import { Table } from "../../parts/table";
import { Text } from "../../parts/text";
import { filter, filters } from "../../router";

const STEP = 50;
/** A field with more takes browsers seconds to lay out, at every letter that is typed. */
const EDITABLE = 100_000;
const SHOWN = 20_000;
const STAGES: Record<string, string> = { parse: "the whole body", event: "one event of a body", record: "a record that is no webhook" };

export function DeadLetters({ known, zone }: { known: number | null; zone: string }) {
  const chosen = filters.value.get("letter");
  const title = useLanding<HTMLHeadingElement>(location.search);
  return (
    <section class="card" aria-label="Dead letters">
      <h2 ref={title} tabIndex={-1}>Dead letters</h2>
      <p class="quiet small">What was accepted and can't be read. Everything around it counts, and it is kept for 90 days
        {known === null ? "." : `: ${number(known)} at the moment, of all organisations.`}</p>
      {chosen === null ? <Letters known={known} zone={zone} /> : <Letter key={chosen} id={chosen} zone={zone} />}
    </section>
  );
}

function Letters({ known, zone }: { known: number | null; zone: string }) {
  const reason = filters.value.get("reason") ?? "";
  const source = filters.value.get("source") ?? "";
  const [answer, setAnswer] = useState<Listed | null>(null);
  const [error, setError] = useState("");
  const [again, setAgain] = useState(0);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    const stop = new AbortController();
    get<Listed>("/ops/dead", { reason, source, limit: STEP }, stop.signal).then((found) => {
      setAnswer(found);
      setError("");
    }, (failure) => {
      if (!stop.signal.aborted) setError(wordsOf(failure));
    });
    return () => stop.abort();
  }, [reason, source, known, again]);
  const more = async () => {
    if (!answer?.next || busy) return;
    setBusy(true);
    try {
      const next = await get<Listed>("/ops/dead", { reason, source, limit: STEP, cursor: answer.next });
      setAnswer({ items: [...answer.items, ...next.items], next: next.next });
    } catch (failure) {
      setError(wordsOf(failure));
    }
    setBusy(false);
  };
  if (answer === null) return error ? <Failed message={error} again={() => setAgain(again + 1)} /> : <Loading what="Looking for dead letters" />;
  return (
    <>
      {error && <Notice>{error} The list is that of before.</Notice>}
      {(reason || source) && (
        <p class="chosen">
          {reason && <button type="button" class="plain" onClick={() => filter({ reason: undefined })}>Reason: <Text>{reason}</Text> <span aria-hidden="true">×</span><span class="hidden">(show all)</span></button>}
          {source && <button type="button" class="plain" onClick={() => filter({ source: undefined })}>Source: <Text>{source}</Text> <span aria-hidden="true">×</span><span class="hidden">(show all)</span></button>}
        </p>
      )}
      {answer.items.length === 0
        ? <Empty title={reason || source ? "None of these" : "No dead letters"}>{!reason && !source && <p>Everything that came in could be read.</p>}</Empty>
        : (
          <Table label="Dead letters" rows={answer.items} keyOf={(row) => String(row.id)} shown={answer.items.length} columns={[
            { title: "Letter", cell: (row) => <a href={letterAddress(row.id)}>Show {row.id}</a> },
            { title: "Died", cell: (row) => moment(row.died_at, zone, true) },
            { title: "Reason", wide: true, cell: (row) => <button type="button" class="plain cell" onClick={() => filter({ reason: row.reason })}><Text>{row.reason}</Text></button> },
            { title: "Source", cell: (row) => <button type="button" class="plain cell" onClick={() => filter({ source: row.source })}><Text>{row.source}</Text></button> },
            { title: "What", cell: (row) => STAGES[row.stage] ?? row.stage },
            { title: "Bytes", number: true, cell: (row) => number(row.size) },
            { title: "Replayed", cell: (row) => (row.replayed ? "yes" : row.replayed === null ? "not known" : "no") },
          ]} />
        )}
      {answer.next && <button type="button" class="plain more" aria-disabled={busy} onClick={() => void more()}>{busy ? "Looking…" : "Show older ones"}</button>}
    </>
  );
}

function letterAddress(id: number): string {
  return address("/operations", { ...Object.fromEntries(filters.value), letter: id });
}

function Letter({ id, zone }: { id: string; zone: string }) {
  const [letter, setLetter] = useState<WholeDeadLetter | null>(null);
  const [error, setError] = useState("");
  const [again, setAgain] = useState(0);
  const path = `/ops/dead/${encodeURIComponent(id)}`;
  useEffect(() => {
    const stop = new AbortController();
    setError("");
    get<WholeDeadLetter>(path, {}, stop.signal).then(setLetter, (failure) => {
      if (!stop.signal.aborted) setError(wordsOf(failure));
    });
    return () => stop.abort();
  }, [path, again]);
  return (
    <>
      <button type="button" class="plain more" onClick={() => filter({ letter: undefined })}>← All dead letters</button>
      {letter === null
        ? error ? <Failed message={error} again={() => setAgain(again + 1)} /> : <Loading what="Loading the letter" />
        : <Whole letter={letter} path={path} zone={zone} />}
    </>
  );
}

function Whole({ letter, path, zone }: { letter: WholeDeadLetter; path: string; zone: string }) {
  return (
    <>
      <h3>Letter {letter.id}</h3>
      <dl class="facts">
        <div><dt>Reason</dt><dd><Text cut={false}>{letter.reason}</Text></dd></div>
        <div><dt>What</dt><dd>{STAGES[letter.stage] ?? letter.stage}{letter.index !== null && `, number ${number(letter.index + 1)}`}</dd></div>
        <div><dt>Source</dt><dd><Text>{letter.source}</Text> (<Text>{letter.esp}</Text>)</dd></div>
        <div><dt>Arrived</dt><dd>{moment(letter.received_at, zone, true)}</dd></div>
        <div><dt>Died</dt><dd>{moment(letter.died_at, zone, true)}</dd></div>
        {letter.replay_of !== null && <div><dt>Replay of</dt><dd><a href={letterAddress(letter.replay_of)}>letter {letter.replay_of}</a></dd></div>}
      </dl>
      {letter.headers.length > 0 && (
        <details>
          <summary>Headers ({number(letter.headers.length)})</summary>
          <ul class="headers">{letter.headers.map(([name = "", value = ""], place) => <li key={`${place}${name}`}><b><Text>{name}</Text></b> <Text cut={false}>{value}</Text></li>)}</ul>
        </details>
      )}
      <Replay letter={letter} path={path} />
    </>
  );
}

/** The body as bytes. */
function fileOf(letter: WholeDeadLetter): Blob {
  if (letter.encoding === null) return new Blob([letter.body]);
  return new Blob([Uint8Array.from(atob(letter.body), (character) => character.charCodeAt(0))]);
}

/** The body, which may be mended, and sent once more. */
function Replay({ letter, path }: { letter: WholeDeadLetter; path: string }) {
  const [body, setBody] = useState(letter.body);
  const [busy, setBusy] = useState(false);
  const [done, setDone] = useState<Replayed | null>(null);
  const [error, setError] = useState("");
  const edited = body !== letter.body;
  const replay = async () => {
    if (busy) return; // not `disabled`, which would take the focus away
    setBusy(true);
    setError("");
    setDone(null);
    try {
      setDone(await (edited ? sendBody<Replayed>(`${path}/replay`, body) : send<Replayed>("POST", `${path}/replay`)));
    } catch (failure) {
      setError(wordsOf(failure));
    }
    setBusy(false);
  };
  const text = letter.encoding === null;
  const whole = letter.body.length <= EDITABLE;
  const note = whole ? "" : `, the first ${number(SHOWN)} of ${number(letter.body.length)} characters`;
  return (
    <>
      <label class="field">
        <span>{text ? "Body" : "Body (not a text: as base64)"}{note}</span>
        <textarea class="body" rows={10} spellcheck={false} readOnly={!text || !whole} value={whole ? body : body.slice(0, SHOWN)}
          onInput={(event) => setBody(event.currentTarget.value)} />
      </label>
      {!whole && <p class="quiet small">Too large to be mended here: <code>reports dead replay {letter.id} --body FILE</code> sends a mended file.</p>}
      <p class="actions">
        <button type="button" class="button" aria-disabled={busy} disabled={body === ""} onClick={() => void replay()}>
          {busy ? "Sending…" : edited ? "Replay with this body" : "Replay"}
        </button>
        {edited && <button type="button" class="plain" onClick={() => setBody(letter.body)}>Body as it came</button>}
        <button type="button" class="plain" onClick={() => save(fileOf(letter), `letter-${letter.id}${text ? ".txt" : ".bin"}`)}>Download the body</button>
      </p>
      {(letter.replayed || done?.replayed_before) && !done && <p class="quiet small">It was replayed before. Once more changes no number that was counted.</p>}
      {error && <p class="error" role="alert">{error}</p>}
      {done && (
        <Notice kind="info">Sent once more{done.edited ? " with the mended body" : ""}.
          {done.replayed_before ? " It had been replayed before; what was counted is not counted again." : ""} If it can't be read again, it
          comes back as a new letter.</Notice>
      )}
    </>
  );
}
