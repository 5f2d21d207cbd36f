// Who is signed in. `undefined`: not asked yet; `null`: nobody.

import { signal } from "@preact/signals";
import { ApiError, get, send, wordsOf } from "./http";
import type { Session } from "./types";

export const session = signal<Session | null | undefined>(undefined);
export const notice = signal("");
/** Why nobody could be asked who is signed in; "" where that is known. */
export const unasked = signal("");

export function signedOut(): void {
  if (session.peek()) notice.value = "Your session has ended. Sign in again to go on.";
  session.value = null;
}

export async function signIn(key: string): Promise<void> {
  session.value = await send<Session>("POST", "/session", new URLSearchParams({ key }));
  notice.value = "";
}

export async function signOut(): Promise<void> {
  await send("DELETE", "/session");
  notice.value = "";
  session.value = null;
}

export function may(scope: string): boolean {
  return session.value?.scopes.includes(scope) ?? false;
}

let given: string | null = null;

/** At the start: a key behind `#key=` (the link that `make demo` prints) signs in and leaves the address at once. Where
 * nobody answers, nothing is known: neither that somebody is signed in nor that nobody is, and it can be begun again. */
export async function begin(): Promise<void> {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key) {
    history.replaceState(null, "", location.pathname + location.search);
    given = key;
  }
  try {
    if (given) await signIn(given);
    else session.value = await get<Session>("/session");
  } catch (error) {
    if (!(error instanceof ApiError) || error.status === 0 || error.status === 429 || error.status >= 500) {
      unasked.value = wordsOf(error);
      return;
    }
    session.value = null;
    if (given) notice.value = "The key in this link is not known.";
    else if (error.status !== 401) notice.value = error.message;
  }
  given = null;
  unasked.value = "";
}
