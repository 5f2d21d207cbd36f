// Where the sections of the report that is shown are read from: a campaign's own address, or a shared link's.

import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { campaignPath } from "../api/http";

/** Set around the report of a shared link, where there are no people: no recipients, events or clickers. */
export const SharedPath = createContext<string | null>(null);

export function useReportPath(campaign: string): string {
  return useContext(SharedPath) ?? campaignPath(campaign);
}

export function useShared(): boolean {
  return useContext(SharedPath) !== null;
}
