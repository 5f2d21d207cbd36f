// Where the focus lands when what had it is gone: a row that was opened, a choice that was taken back.

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";

/** For an element with `tabIndex={-1}`: it takes the focus after `moved` has become another, if nothing else has it. */
export function useLanding<E extends HTMLElement>(moved: unknown): RefObject<E | null> {
  const place = useRef<E>(null);
  const before = useRef(moved);
  useEffect(() => {
    if (Object.is(before.current, moved)) return;
    before.current = moved;
    if (document.activeElement === null || document.activeElement === document.body) place.current?.focus();
  }, [moved]);
  return place;
}
