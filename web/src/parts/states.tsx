// What a page shows instead of numbers: that they are coming, that there are none, that they could not be had.

import type { ComponentChildren } from "preact";

export function Loading({ what = "Loading" }: { what?: string }) {
  return (
    <div class="state" role="status">
      <span class="spinner" aria-hidden="true" /> {what}…
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="state">
      <p class="state-title">{title}</p>
      {children}
    </div>
  );
}

export function Failed({ message, again }: { message: string; again?: (() => void) | undefined }) {
  return (
    <div class="state bad" role="alert">
      <p class="state-title">{message}</p>
      {again && <button type="button" class="button" onClick={again}>Try again</button>}
    </div>
  );
}

export function Notice({ children, kind = "warn" }: { children: ComponentChildren; kind?: "warn" | "info" }) {
  return <p class={`notice ${kind}`} role="status">{children}</p>;
}
