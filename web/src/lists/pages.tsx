// Forth and back through a list whose API knows only "next": the way that was gone is kept in this tab.

import { useEffect, useRef } from "preact/hooks";
import type { Page } from "../api/types";
import { number } from "../format";
import { filters } from "../router";

type Step = { page: number; before: string };

function stepOf(cursor: string): Step | null {
  if (!cursor) return { page: 1, before: "" };
  try {
    const found = sessionStorage.getItem(`page ${cursor}`);
    return found ? (JSON.parse(found) as Step) : null;
  } catch {
    return null;
  }
}

function keep(cursor: string, step: Step): void {
  try {
    sessionStorage.setItem(`page ${cursor}`, JSON.stringify(step));
  } catch {
    // then "first page" stands in place of "previous page"
  }
}

function forget(cursor: string): void {
  try {
    sessionStorage.removeItem(`page ${cursor}`);
  } catch {
    // nothing was kept
  }
}

/** The address of this view at another cursor. */
function at(cursor: string): string {
  const query = new URLSearchParams(filters.value);
  if (cursor) query.set("cursor", cursor);
  else query.delete("cursor");
  const text = query.toString();
  return location.pathname + (text ? `?${text}` : "");
}

/** `busy`: the answer is the one of before, and its next page is perhaps this one. */
export function Pages({ answer, busy, list }: { answer: Page<unknown>; busy: boolean; list: string }) {
  const cursor = filters.value.get("cursor") ?? "";
  const step = stepOf(cursor);
  const next = busy ? null : answer.next;
  const kept = useRef({ cursor: "", next: "" });
  useEffect(() => {
    if (!next || !step) return;
    // A list that moves has another next page every few seconds: the ways that nobody went are forgotten.
    if (kept.current.cursor === cursor && kept.current.next !== next) forget(kept.current.next);
    keep(next, { page: step.page + 1, before: cursor });
    kept.current = { cursor, next };
  }, [next, cursor]);
  const shown = useRef(cursor);
  useEffect(() => {
    if (shown.current !== cursor) document.getElementById(list)?.scrollIntoView();
    shown.current = cursor;
  }, [cursor, list]);
  if (!answer.next && !cursor) return null;
  return (
    <nav class="pages" aria-label="Pages">
      {!cursor ? <span class="quiet" aria-disabled="true">← Previous</span>
        : step ? <a href={at(step.before)} rel="prev">← Previous</a> : <a href={at("")}>← First page</a>}
      <span class="quiet">{step ? `Page ${number(step.page)}` : "A later page"}</span>
      {next ? <a href={at(next)} rel="next">Next →</a> : <span class="quiet" aria-disabled="true">Next →</span>}
    </nav>
  );
}
