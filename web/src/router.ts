// The address is the state of a view: path and filters are signals, links change them, and the back button works.

import { computed, signal } from "@preact/signals";

const here = signal({ path: location.pathname, search: location.search });

/** The parts of the path, decoded: `/campaigns/a%2Fb/recipients` → ["campaigns", "a/b", "recipients"]. */
export const path = computed(() => partsOf(here.value.path));
export const filters = computed(() => new URLSearchParams(here.value.search));

/** Where the list of campaigns was left: the way back to it leads to the same search and page. */
export const campaignList = signal("/");

export function partsOf(pathname: string): string[] {
  return pathname.split("/").filter(Boolean).map(decoded);
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function pathTo(...parts: string[]): string {
  return `/${parts.map(encodeURIComponent).join("/")}`;
}

export function go(to: string, replace = false): void {
  const target = new URL(to, location.href);
  if (replace) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  const moved = target.pathname !== here.peek().path;
  here.value = { path: target.pathname, search: target.search };
  if (moved && !replace) {
    scrollTo(0, 0);
    headingTakesFocus();
  }
}

let stopWaiting = (): void => undefined;

/** Who listens instead of looking hears where they are: the focus goes to the heading of the page that was opened, as soon
 * as it is there (its code may have to be loaded), unless somebody has gone on in the meantime. */
export function headingTakesFocus(): void {
  stopWaiting();
  const left = document.activeElement;
  const look = (): void => {
    const now = document.activeElement;
    const heading = document.querySelector<HTMLElement>("main h1");
    const goneOn = now !== left && now !== document.body && now !== null;
    if (!heading && !goneOn) return;
    stopWaiting();
    // The place that was scrolled to stays: at the top, or, on the way back, where the browser remembers it.
    if (!goneOn) heading?.focus({ preventScroll: true });
  };
  const watching = new MutationObserver(look);
  // Not before the page of before is gone.
  const frame = requestAnimationFrame(() => {
    watching.observe(document.body, { childList: true, subtree: true });
    look();
  });
  stopWaiting = () => {
    cancelAnimationFrame(frame);
    watching.disconnect();
  };
}

/** Sets filters; empty ones leave the address. `replace` while somebody types. */
export function filter(changes: Record<string, string | undefined>, replace = false): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  // What stands behind # of a shared link stays, so that it can be loaded anew.
  go(location.pathname + (text ? `?${text}` : "") + location.hash, replace);
}

export function startRouter(): void {
  addEventListener("popstate", () => {
    const moved = location.pathname !== here.peek().path;
    here.value = { path: location.pathname, search: location.search };
    if (moved) headingTakesFocus();
  });
  document.addEventListener("click", (event) => {
    const link = (event.target as Element | null)?.closest?.("a");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (link.target || link.origin !== location.origin || link.hasAttribute("download")) return;
    if (link.hash && link.pathname === location.pathname) return; // a jump within the page
    event.preventDefault();
    go(link.href);
  });
}
