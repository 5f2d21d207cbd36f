// Always shown: whether the page is live, the time of the newest event counted, and how far counting is behind.

import type { ApiError } from "../api/http";
import type { Report } from "../api/types";
import { duration, moment, number } from "../format";
import type { State } from "../live/stream";
import { Notice } from "./states";
import { Text } from "./text";

const SHOWN = 3;

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
export function Notices({ of, timezone }: { of: Pick<Report, "notices">; timezone: string }) {
  if (of.notices.length === 0) return null;
  const told = (notice: Report["notices"][number]) => <><Text cut={false}>{noticeWords(notice.message, timezone)}</Text>.</>;
  const list = (notices: Report["notices"]) => (
    <ul>
      {notices.map((notice) => <li key={`${notice.code}/${notice.at}/${notice.partition}`}>{told(notice)}</li>)}
    </ul>
  );
  const [only] = of.notices;
  if (only && of.notices.length === 1) return <div class="notice info" role="status">Note: {told(only)}</div>;
  const more = of.notices.slice(SHOWN);
  return (
    <div class="notice info" role="status">
      Notes:
      {list(of.notices.slice(0, SHOWN))}
      {more.length > 0 && (
        <details>
          <summary>{more.length === 1 ? "1 more note" : `${more.length} more notes`}</summary>
          {list(more)}
        </details>
      )}
    </div>
  );
}

/** Its times as the page tells them, and without the partitions, which are for operators. */
export function noticeWords(message: string, timezone: string): string {
  return message
    .replace(/ \(partitions? [\d, ]+\)/g, "")
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (time) => moment(time, timezone));
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
