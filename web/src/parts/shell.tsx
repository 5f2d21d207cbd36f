// What stands around every page.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { wordsOf } from "../api/http";
import { may, session, signOut } from "../api/session";
import { path } from "../router";
import { dark, theme } from "../settings";
import { Text } from "./text";

const PLACES = [
  { to: "/", name: "Campaigns", part: "campaigns", scope: "read" },
  { to: "/compare", name: "Compare", part: "compare", scope: "read" },
  { to: "/connect", name: "Sources", part: "connect", scope: "ops" },
  { to: "/operations", name: "Operations", part: "operations", scope: "ops" },
] as const;

export function Shell({ children }: { children: ComponentChildren }) {
  const part = path.value[0] ?? "campaigns";
  const [failure, setFailure] = useState("");
  const leave = () => {
    setFailure("");
    signOut().catch((error: unknown) => setFailure(wordsOf(error)));
  };
  return (
    <>
      <a class="skip" href="#main">Skip to content</a>
      <header class="top">
        <a class="brand" href="/"><Logo />Campaign Reports</a>
        <nav aria-label="Main">
          {PLACES.filter((place) => may(place.scope)).map((place) => (
            <a key={place.to} href={place.to} aria-current={part === place.part ? "page" : undefined}>{place.name}</a>
          ))}
        </nav>
        <span class="account">
          <span class="org quiet"><Text>{session.value?.name ?? ""}</Text></span>
          <ThemeButton />
          <button type="button" class="plain" id="sign-out" onClick={leave}>Sign out</button>
        </span>
      </header>
      <main id="main" tabIndex={-1}>
        {failure && <p class="notice warn" role="alert">You are still signed in. {failure}</p>}
        {children}
      </main>
    </>
  );
}

export function ThemeButton() {
  const to = dark.value ? "light" : "dark";
  return (
    <button type="button" class="plain icon" id="theme" title={`Switch to the ${to} theme`} aria-label={`Switch to the ${to} theme`}
      onClick={() => { theme.value = to; }}>
      <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
        <circle cx="12" cy="12" r="8" fill="none" stroke="currentColor" stroke-width="2" />
        <path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor" />
      </svg>
    </button>
  );
}

export function Logo() {
  return (
    <svg class="logo" viewBox="0 0 24 24" width="26" height="26" aria-hidden="true">
      <rect width="24" height="24" rx="6" />
      <path d="M6 17v-4M10 17V9M14 17v-6M18 17V6" stroke-width="2.4" stroke-linecap="round" />
    </svg>
  );
}
