// Always shown: whether the page is live, the time of the newest event counted, and how far counting is behind.

import type { ApiError } from "../api/http";
import type { Report } from "../api/types";
import { duration, moment, number } from "../format";
import type { State } from "../live/stream";
import { Notice } from "./states";
import { Text } from "./text";

export const WORDS: Record<State, string> = {
  connecting: "Connecting…",
  live: "Live",
  reconnecting: "Connection lost, reconnecting…",
  offline: "You are offline",
};

/** Why numbers may be wrong or old; nothing where they are not. */
export function Stale({ of }: { of: Pick<Report, "stale" | "reason" | "progress"> }) {
  if (!of.stale) return null;
  return (
    <Notice>
      These numbers are stale: <Text>{of.reason ?? "counting is behind"}</Text>
      {of.progress !== null && ` (${number(Math.floor(of.progress * 100))} % done)`}.
    </Notice>
  );
}

/** What holds for the campaign's numbers for good: a part of the event log or of the webhooks was lost. */
export function Notices({ of }: { of: Pick<Report, "notices"> }) {
  const [first, ...more] = of.notices;
  if (!first) return null;
  return (
    <div class="notice info" role="status">
      Note: <Text cut={false}>{first.message}</Text>.
      {more.length > 0 && (
        <details>
          <summary>{more.length === 1 ? "1 more note" : `${more.length} more notes`}</summary>
          <ul>
            {more.map((notice) => (
              <li key={`${notice.code}/${notice.at}/${notice.partition}`}><Text cut={false}>{notice.message}</Text>.</li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

export function Status({ state, report, timezone, error = null }: {
  state: State; report: Pick<Report, "as_of" | "lag_ms" | "stale" | "reason" | "progress"> | null; timezone: string; error?: ApiError | null;
}) {
  // A campaign that isn't there is no lost connection.
  if (report === null && error?.status === 404) return null;
  return (
    <>
      <p class="status">
        <span role="status" class={`light ${state}`}><i class="dot" aria-hidden="true" />{WORDS[state]}</span>
        {report && (
          <>
            <span>Newest event <time dateTime={report.as_of ?? undefined}>{moment(report.as_of, timezone, true)}</time></span>
            <span>Behind by <span class="lag">{duration(report.lag_ms)}</span></span>
          </>
        )}
      </p>
      {report && <Stale of={report} />}
      {report && state !== "live" && state !== "connecting" && (
        <Notice>{state === "offline" ? "You are offline. The numbers are those of before." : "Connection lost. The numbers are those of before, until it is back."}</Notice>
      )}
    </>
  );
}
