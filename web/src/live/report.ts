// A campaign's report that moves: snapshots and changes merged by section, drawn at most once a frame.

import { type Signal, signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { address, ApiError, get } from "../api/http";
import type { Count, Report, Section } from "../api/types";
import { useReportPath } from "./path";
import { LiveStream, type State } from "./stream";

/** `again`: try at once, without waiting for the next pause's end. */
export type LiveReport = { report: Report | null; state: State; error: ApiError | null; again: () => void };

/** Sections are absolute values: what comes replaces what was, and never adds. */
export function merged(before: Report | null, event: string, came: Partial<Report>): Report {
  return event === "snapshot" || before === null ? (came as Report) : { ...before, ...came };
}

/** Sets a signal at most once a frame, to the newest value. */
export function perFrame<T>(target: Signal<T>): { set(change: (value: T) => T): void; stop(): void } {
  let pending: T | undefined;
  let frame = 0;
  return {
    set(change) {
      pending = change(frame ? (pending as T) : target.peek());
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        target.value = pending as T;
      });
    },
    stop() {
      cancelAnimationFrame(frame);
    },
  };
}

export function useReport(
  campaign: string, count: Count, timezone: string | undefined, sections?: readonly Section[],
): Signal<LiveReport> {
  const wanted = sections?.join(",");
  const base = useReportPath(campaign);
  const live = useMemo(
    () => signal<LiveReport>({ report: null, state: "connecting", error: null, again: () => undefined }),
    [campaign],
  );
  useEffect(() => {
    const frame = perFrame(live);
    const stream = new LiveStream(
      address(`${base}/live`, { count, timezone, sections: wanted }),
      ["snapshot", "change"],
      {
        data: (name, came) => frame.set((now) => ({ ...now, error: null, report: merged(now.report, name, came as Report) })),
        state: (state) => frame.set((now) => ({ ...now, state })),
        // A stream doesn't tell why it failed; a plain request does.
        failed: async () => {
          try {
            await get(`${base}/summary`, { count }, undefined, 1);
            return true;
          } catch (error) {
            const known = error instanceof ApiError ? error : null;
            frame.set((now) => ({ ...now, error: known }));
            return known?.status !== 401; // a campaign that isn't there may come
          }
        },
      },
    );
    frame.set((now) => ({ ...now, again: () => stream.again() }));
    return () => {
      stream.close();
      frame.stop();
    };
  }, [live, base, count, timezone, wanted]);
  return live;
}
