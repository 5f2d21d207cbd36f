// A GET again and again while somebody looks. What was there stays while asking fails.

import { useEffect, useState } from "preact/hooks";
import { wordsOf } from "./http";

export type Polled<T> = { answer: T | null; error: string; again(): void };

/** `load` null: nothing is to be asked. `asked`: what `load` depends on; when it changes it is asked at once. */
export function useEvery<T>(
  load: ((signal: AbortSignal) => Promise<T>) | null, everyMs: number, asked: readonly unknown[],
): Polled<T> {
  const [answer, setAnswer] = useState<T | null>(null);
  const [error, setError] = useState("");
  const [tries, setTries] = useState(0);
  useEffect(() => {
    if (load === null) return setAnswer(null);
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const ask = async () => {
      if (!document.hidden) {
        try {
          setAnswer(await load(stop.signal));
          setError("");
        } catch (failure) {
          if (!stop.signal.aborted) setError(wordsOf(failure));
        }
      }
      if (!stop.signal.aborted) timer = setTimeout(ask, everyMs);
    };
    void ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [...asked, everyMs, tries]);
  return { answer, error, again: () => setTries((before) => before + 1) };
}
