// Always shown: whether the page is live, the time of the newest event counted, and how far counting is behind.

import type { ApiError } from "../api/http";
import type { Report } from "../api/types";
import { duration, moment } from "../format";
import type { State } from "../live/stream";
import { Notice } from "./states";

export const WORDS: Record<State, string> = {
  connecting: "Connecting…",
  live: "Live",
  reconnecting: "Connection lost, reconnecting…",
  offline: "You are offline",
};

export function Status({ state, report, timezone, error = null }: {
  state: State; report: Pick<Report, "as_of" | "lag_ms" | "stale"> | null; timezone: string; error?: ApiError | null;
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
      {report?.stale && <Notice>Counting is behind: these numbers are stale and may be old.</Notice>}
      {report && state !== "live" && state !== "connecting" && (
        <Notice>{state === "offline" ? "You are offline. The numbers are those of before." : "Connection lost. The numbers are those of before, until it is back."}</Notice>
      )}
    </>
  );
}
