// A CSV file with the filters of the page: read here with its bytes counted, so that it can be cancelled and a file that
// broke off is never taken for a whole one. The link beside it leaves all that to the browser.

import { useEffect, useRef, useState } from "preact/hooks";
import { address, wordsOf } from "../api/http";
import { signedOut } from "../api/session";
import { save } from "../parts/save";

type Values = Record<string, string | number | undefined>;
type State = { kind: "idle" } | { kind: "running"; bytes: number } | { kind: "done"; bytes: number } | { kind: "failed"; message: string };

const DRAWN_EVERY_MS = 200;
const units = ["byte", "kilobyte", "megabyte", "gigabyte"];

export function bytes(count: number): string {
  const step = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return new Intl.NumberFormat(undefined, {
    style: "unit", unit: units[step] ?? "byte", maximumFractionDigits: step ? 1 : 0, ...(step ? {} : { unitDisplay: "long" }),
  }).format(count / 1_000 ** step);
}

async function failureOf(answer: Response): Promise<string> {
  if (answer.status === 401) signedOut();
  const said = (await answer.json().catch(() => null)) as { message?: string } | null;
  const text = said?.message ?? `the server answered ${answer.status}`;
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** The whole file, or an error. */
async function read(path: string, signal: AbortSignal, came: (bytes: number) => void): Promise<Blob> {
  const answer = await fetch(path, { signal });
  if (!answer.ok || !answer.body) throw new Error(await failureOf(answer));
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let count = 0;
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Blob(chunks, { type: "text/csv" });
    chunks.push(value);
    count += value.length;
    came(count);
  }
}

export function Export({ path, values, name }: { path: string; values: Values; name: string }) {
  const [state, setState] = useState<State>({ kind: "idle" });
  const stop = useRef<AbortController | null>(null);
  useEffect(() => () => stop.current?.abort(), []);
  const begin = async () => {
    const own = new AbortController();
    stop.current = own;
    setState({ kind: "running", bytes: 0 });
    let drawn = 0;
    try {
      const blob = await read(address(path, values), own.signal, (count) => {
        if (performance.now() - drawn < DRAWN_EVERY_MS) return;
        drawn = performance.now();
        setState({ kind: "running", bytes: count });
      });
      save(blob, name);
      setState({ kind: "done", bytes: blob.size });
    } catch (error) {
      if (own.signal.aborted) setState({ kind: "idle" });
      // A TypeError is all that browsers tell about a connection that broke.
      else setState({ kind: "failed", message: error instanceof TypeError ? "The export broke off. Nothing was saved." : wordsOf(error) });
    }
  };
  return (
    <div class="export">
      {state.kind === "running"
        ? (
          <>
            <progress aria-label="Export" />
            <span class="small">{bytes(state.bytes)} so far</span>
            <button type="button" class="plain" onClick={() => stop.current?.abort()}>Cancel</button>
          </>
        )
        : <button type="button" class="button quiet-button" onClick={() => void begin()}>Export as CSV</button>}
      <a class="small" href={address(path, { ...values, gzip: 1 })} download={`${name}.gz`}>Compressed file (.csv.gz)</a>
      <span class="small" role="status">
        {state.kind === "running" ? "Exporting…" : state.kind === "done" ? `Saved ${bytes(state.bytes)}.` : ""}
        {state.kind === "failed" && <span class="error">{state.message}</span>}
      </span>
    </div>
  );
}
