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
    let asking = false;
    const ask = async () => {
      if (asking) return;
      asking = true;
      clearTimeout(timer);
      if (!document.hidden) {
        try {
          setAnswer(await load(stop.signal));
          setError("");
        } catch (failure) {
          if (!stop.signal.aborted) setError(wordsOf(failure));
        }
      }
      asking = false;
      if (!stop.signal.aborted) timer = setTimeout(ask, everyMs);
    };
    void ask();
    // Whoever loses the network, finds it again or comes back to this tab is told at once.
    const now = () => void ask();
    addEventListener("online", now, { signal: stop.signal });
    addEventListener("offline", now, { signal: stop.signal });
    document.addEventListener("visibilitychange", now, { signal: stop.signal });
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [...asked, everyMs, tries]);
  return { answer, error, again: () => setTries((before) => before + 1) };
}
