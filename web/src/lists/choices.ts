// What filters can be set to: the campaign's links, countries and variants, asked for once a minute at most.

import { useEffect, useState } from "preact/hooks";
import { campaignPath, get } from "../api/http";
import type { Links, Places, Variants } from "../api/types";

export type Choices = {
  links: { id: string; link: string | null }[];
  countries: string[];
  /** Field → its values. */
  variants: Record<string, string[]>;
};

const NONE: Choices = { links: [], countries: [], variants: {} };
const MAX_TEXT = 320; // of a filter's value, for the API

export function variantsOf({ fields, rows }: Pick<Variants, "fields" | "rows">): Record<string, string[]> {
  const found = new Map<string, Set<string>>();
  const add = (field: string, value: string) => {
    if (field.length > MAX_TEXT || value.length > MAX_TEXT || !field || !value) return;
    found.set(field, (found.get(field) ?? new Set()).add(value));
  };
  for (const [field, labels] of Object.entries(fields)) for (const value of Object.keys(labels)) add(field, value);
  for (const row of rows) for (const [field, value] of Object.entries(row.variant)) add(field, value);
  return Object.fromEntries([...found].sort().map(([field, values]) => [field, [...values].sort()]));
}

export function useChoices(campaign: string, asOf: string | null | undefined): Choices {
  const [choices, setChoices] = useState(NONE);
  const minute = asOf === undefined || asOf === null ? undefined : Math.floor(Date.parse(asOf) / 60_000);
  useEffect(() => {
    if (minute === undefined) return;
    const stop = new AbortController();
    const section = <T>(name: string) => get<T>(campaignPath(campaign, `/${name}`), {}, stop.signal);
    Promise.all([section<{ links: Links }>("links"), section<{ places: Places }>("places"), section<{ variants: Variants }>("variants")])
      .then(([{ links }, { places }, { variants }]) => setChoices({
        links: links.rows.filter((row) => row.link !== null),
        countries: places.countries.map((row) => row.country),
        variants: variantsOf(variants),
      }), () => undefined); // the choices of before stay
    return () => stop.abort();
  }, [campaign, minute]);
  return choices;
}
