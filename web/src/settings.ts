// What the reader chose, remembered in this browser: theme, and what counts.

import { effect, signal } from "@preact/signals";
import type { Count } from "./api/types";

export type Theme = "system" | "light" | "dark";

function stored<T extends string>(name: string, choices: readonly T[], fallback: T) {
  const found = read(name);
  const value = signal<T>(choices.find((choice) => choice === found) ?? fallback);
  effect(() => write(name, value.value));
  return value;
}

// A browser that keeps nothing (private mode, blocked storage) is no reason to show nothing.
function read(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // remembered until the page is left
  }
}

export const theme = stored<Theme>("theme", ["system", "light", "dark"], "system");
export const count = stored<Count>("count", ["all", "people"], "all");

const systemDark = matchMedia("(prefers-color-scheme: dark)");
/** Whether the page is dark now. */
export const dark = signal(false);

export function startTheme(): void {
  const look = () => {
    const chosen = theme.value;
    dark.value = chosen === "system" ? systemDark.matches : chosen === "dark";
    document.documentElement.dataset.theme = dark.value ? "dark" : "light";
  };
  systemDark.addEventListener("change", look);
  effect(look);
}
