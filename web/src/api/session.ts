// Who is signed in. `undefined`: not asked yet; `null`: nobody.

import { signal } from "@preact/signals";
import { ApiError, send, get } from "./http";
import type { Session } from "./types";

export const session = signal<Session | null | undefined>(undefined);
export const notice = signal("");

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
  session.value = null;
}

export function may(scope: string): boolean {
  return session.value?.scopes.includes(scope) ?? false;
}

/** At the start: a key behind `#key=` (the link that `make demo` prints) signs in and leaves the address at once. */
export async function begin(): Promise<void> {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key) history.replaceState(null, "", location.pathname + location.search);
  try {
    if (key) return await signIn(key);
    session.value = await get<Session>("/session");
  } catch (error) {
    session.value = null;
    if (key) notice.value = "The key in this link is not known.";
    else if (error instanceof ApiError && error.status !== 401) notice.value = error.message;
  }
}
