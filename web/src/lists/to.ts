// From a number to the rows behind it: the addresses of a campaign's lists with their filters set.

import type { Count } from "../api/types";
import { useShared } from "../live/path";
import { pathTo } from "../router";

export type ListTo = (list: "recipients" | "events", filters: Record<string, string>) => string | undefined;

export function listTo(campaign: string, list: "recipients" | "events", filters: Record<string, string>): string {
  return `${pathTo("campaigns", campaign, list)}?${new URLSearchParams(filters)}`;
}

/** Of the report that is shown. Who was sent a shared report may see nobody: there, numbers lead nowhere. */
export function useListTo(campaign: string): ListTo {
  const shared = useShared();
  return (list, filters) => (shared ? undefined : listTo(campaign, list, filters));
}

/** Clicks as they are counted: of everybody and everything, or of people. */
export function clicksOf(link: string, count: Count): Record<string, string> {
  return { type: "clicked", link, ...(count === "people" ? { verdict: "human" } : {}) };
}

/** Whether a row of links is one link, and not what stands in place of one ("overflow"): those have the first numbers. */
export function isLink(id: string): boolean {
  return !/^0{14}/.test(id);
}

/** Whether a row of countries is one, and not what stands in place of one ("proxy"). */
export function isCountry(code: string): boolean {
  return /^[A-Z]{2}$/.test(code);
}
