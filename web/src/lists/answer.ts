// A list's answer: what the address asks for, asked again when the campaign moved, and kept while that fails.

import { useEffect, useRef, useState } from "preact/hooks";
import { address, ApiError, get } from "../api/http";
import type { Page } from "../api/types";
import { Asking } from "./asking";

export const LIMIT = 50;
const TYPING_MS = 250;
const FALLBACK_MS = 15_000;
const ROUNDS = 40;

type Values = Record<string, string | number | undefined>;
type Known<T> = { asked: string; answer: T | null; error: ApiError | null };
export type Answered<T> = {
  /** Of what is asked now, or of what was asked before while `busy`. */
  answer: T | null;
  error: ApiError | null;
  busy: boolean;
  again(): void;
};

/** A page of rows. The API ends a search after 50 ms, with fewer rows than wanted: go on until there are enough. */
export async function page<T extends Page<unknown>>(path: string, values: Values, signal: AbortSignal): Promise<T> {
  const first = await get<T>(path, { ...values, limit: LIMIT }, signal);
  const items = [...first.items];
  let { next } = first;
  for (let round = 1; next !== null && items.length < LIMIT && round < ROUNDS; round += 1) {
    const more = await get<T>(path, { ...values, limit: LIMIT - items.length, cursor: next }, signal);
    items.push(...more.items);
    next = more.next;
  }
  return { ...first, items, next };
}

/** `moved`: anything that is another one when the campaign moved; `everyMs`: the shortest pause between two requests. */
export function useAnswer<T>(
  load: (path: string, values: Values, signal: AbortSignal) => Promise<T>, path: string, values: Values,
  { moved, everyMs, paused = false }: { moved: unknown; everyMs: number; paused?: boolean },
): Answered<T> {
  const asked = address(path, values);
  const [known, setKnown] = useState<Known<T>>({ asked: "", answer: null, error: null });
  const [tries, setTries] = useState(0);
  const asking = useRef<Asking | null>(null);
  const changedAt = useRef(Number.NEGATIVE_INFINITY);
  useEffect(() => {
    const own = new Asking(async (signal) => {
      try {
        const answer = await load(path, values, signal);
        if (!signal.aborted) setKnown({ asked, answer, error: null });
      } catch (failure) {
        if (signal.aborted) return;
        const error = failure instanceof ApiError ? failure : new ApiError(0, "error", "Something went wrong.");
        setKnown((before) => ({ asked, answer: before.asked === asked ? before.answer : null, error }));
      }
    }, everyMs);
    asking.current = own;
    // Who types isn't asked for at every letter.
    const now = performance.now();
    own.moved(now - changedAt.current < 2 * TYPING_MS ? TYPING_MS : 0);
    changedAt.current = now;
    return () => own.close();
  }, [asked, tries, everyMs]);
  useEffect(() => {
    if (paused) return;
    asking.current?.moved();
    // What moves no number of the report is found as well, and a failure is tried again.
    const look = () => { if (!document.hidden) asking.current?.moved(); };
    const timer = setInterval(look, FALLBACK_MS);
    const over = new AbortController();
    addEventListener("online", look, { signal: over.signal });
    addEventListener("offline", look, { signal: over.signal });
    document.addEventListener("visibilitychange", look, { signal: over.signal });
    return () => {
      clearInterval(timer);
      over.abort();
    };
  }, [moved, paused]);
  const busy = known.asked !== asked;
  return { answer: known.answer, error: busy ? null : known.error, busy, again: () => setTries(tries + 1) };
}
