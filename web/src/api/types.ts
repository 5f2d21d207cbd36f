// The API's documents by short names. `openapi.d.ts` is made from its own description (`make web/src/api/openapi.d.ts`).

import type { components } from "./openapi";

type Shapes = components["schemas"];

export type Count = "all" | "people";
export type Verdicts = Shapes["ByVerdict"];
export type Summary = Shapes["Summary"];
export type Rate = {
  [Name in keyof Summary]: number | null extends Summary[Name] ? Name : never;
}[keyof Summary];

export type Hour = Shapes["TimelineRow"];
export type Timeline = Shapes["Timeline"];
export type Link = Shapes["LinkRow"];
export type Links = Shapes["Links"];
export type Places = Shapes["Places"];
export type Clients = Shapes["Clients"];
export type Provider = Shapes["ProviderRow"];
export type Variant = Shapes["VariantRow"];
export type Variants = Shapes["Variants"];
export type Heatmap = Shapes["Heatmap"];
export type HeatmapCell = Shapes["HeatmapCell"];
export type Report = Shapes["Report"];
export type Section = "summary" | "timeline" | "links" | "places" | "clients" | "providers" | "variants";

export type Listed = Shapes["SummaryDocument"];
export type Page<T> = { items: T[]; next: string | null; matching: number | null };
export type Comparison = Shapes["Comparison"];
export type ComparedCampaign = Shapes["ComparedCampaign"];
export type Session = Shapes["Session"];
export type Source = Shapes["Source"];
export type SharedReport = Shapes["SharedReport"];
export type ShareItem = Shapes["Share"];
export type Shares = Shapes["Shares"];
export type Sources = Shapes["Sources"];
export type Recipient = Shapes["Recipient"];
export type LoggedEvent = Shapes["Event"];
export type Recipients = Shapes["Recipients"];
export type EventLog = Shapes["Events"];
export type RecipientHistory = Shapes["RecipientHistory"];
