import { useState } from "preact/hooks";
import type { Places } from "../../api/types";
import { country } from "../../format";
import { InSight, lazy } from "../../lazy";
import { isCountry, useListTo } from "../../lists/to";
import { Bars } from "../../parts/bars";
import { Switch } from "../../parts/controls";

const WorldMap = lazy<{ places: Places; by: By }>(() => import("../../charts/map").then((module) => module.default));
export type By = "opens" | "clicks";

export function PlacesCard({ campaign, places }: { campaign: string; places: Places }) {
  const to = useListTo(campaign);
  const [by, setBy] = useState<By>("opens");
  const descending = <Row extends { opens: number; clicks: number }>(rows: Row[]) =>
    by === "opens" ? rows : [...rows].sort((one, other) => other.clicks - one.clicks);
  return (
    <section class="card" aria-label="Places">
      <div class="title">
        <h2>Places</h2>
        <Switch label="Places by" value={by} set={setBy}
          choices={[{ value: "opens", label: "Opens" }, { value: "clicks", label: "Clicks" }]} />
      </div>
      <InSight height="320px"><WorldMap places={places} by={by} /></InSight>
      <div class="two">
        <Bars title="Countries" unit={by} bars={descending(places.countries).map((row) => ({
          key: row.country, name: country(row.country), value: row[by],
          to: isCountry(row.country) ? to("recipients", { country: row.country }) : undefined,
          says: `${by} there; the list shows the recipients whose own country it is`,
        }))} />
        <Bars title="Cities" unit={by} bars={descending(places.cities).map((row) => ({
          key: `${row.country}/${row.city}`, name: row.city,
          ...(row.country && row.country !== row.city ? { aside: country(row.country) } : {}), value: row[by],
        }))} />
      </div>
      <p class="quiet small credit"><a href="https://db-ip.com" target="_blank" rel="noopener noreferrer">IP Geolocation by DB-IP</a></p>
    </section>
  );
}
