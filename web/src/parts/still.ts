// Long lists in which most rows stand still while others move.

import type { VNode } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

/** Elements of rows, made anew only where a row's content or one of `inputs` has changed: Preact passes over the others. */
export function useStill<Row>(
  rows: readonly Row[], keyOf: (row: Row) => string, draw: (row: Row) => VNode, inputs: readonly unknown[],
): VNode[] {
  const drawn = useMemo(() => new Map<string, { content: string; element: VNode }>(), inputs);
  return useMemo(
    () => rows.map((row) => {
      const key = keyOf(row);
      const content = JSON.stringify(row);
      const before = drawn.get(key);
      if (before?.content === content) return before.element;
      const element = draw(row);
      drawn.set(key, { content, element });
      return element;
    }),
    [rows, drawn],
  );
}

/** A value as it was at most `ms` ago; 0: as it is. */
export function useEvery<Value>(value: Value, ms: number): Value {
  const [seen, setSeen] = useState(value);
  const next = useRef(0);
  useEffect(() => {
    if (!ms) return;
    const timer = setTimeout(() => {
      next.current = performance.now() + ms;
      setSeen(() => value);
    }, Math.max(0, next.current - performance.now()));
    return () => clearTimeout(timer);
  }, [value, ms]);
  return ms ? seen : value;
}
