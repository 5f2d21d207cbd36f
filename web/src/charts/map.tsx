// Opens or clicks by country on a map of the world: Natural Earth's data (public domain), loaded with this file only.

import { MapChart } from "echarts/charts";
import { GeoComponent, VisualMapComponent } from "echarts/components";
import { registerMap, use } from "echarts/core";
import type { FeatureCollection } from "geojson";
import { useCallback } from "preact/hooks";
import { feature } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import atlas from "world-atlas/countries-110m.json";
import type { Places } from "../api/types";
import { compact, country, number } from "../format";
import { Chart, type Colours } from "./chart";
import { lettersOf } from "./countries";
import { acrossTheDateLine } from "./date-line";
import type { Option } from "./echarts";

use([MapChart, GeoComponent, VisualMapComponent]);

function world(): FeatureCollection {
  const topology = atlas as unknown as Topology<{ countries: GeometryCollection<{ name: string }> }>;
  const all = feature(topology, topology.objects.countries);
  const features = all.features
    .filter((one) => one.properties.name !== "Antarctica")
    .map((one) => ({ ...acrossTheDateLine(one), properties: { name: lettersOf(one.id, one.properties.name) ?? one.properties.name } }));
  return { type: "FeatureCollection", features };
}

registerMap("world", world() as Parameters<typeof registerMap>[1]);

export default function WorldMap({ places, by }: { places: Places; by: "opens" | "clicks" }) {
  const option = useCallback((colours: Colours) => optionOf(places, by, colours), [places, by]);
  return <Chart tall label={`${by} by country; the list below has the numbers`} option={option} />;
}

function optionOf(places: Places, by: "opens" | "clicks", colours: Colours): Option {
  const data = places.countries.filter((row) => /^[A-Z]{2}$/.test(row.country)).map((row) => ({ name: row.country, value: row[by] }));
  const most = Math.max(1, ...data.map((row) => row.value));
  const values = new Map(data.map((row) => [row.name, row.value]));
  return {
    animation: false,
    tooltip: {
      renderMode: "richText", confine: true,
      backgroundColor: colours("card"), borderColor: colours("line"), textStyle: { color: colours("text"), fontSize: 13 },
      formatter: (point: unknown) => {
        const name = (point as { name: string }).name;
        return `${country(name)}: ${number(values.get(name) ?? 0)} ${by}`;
      },
    },
    visualMap: {
      min: 0, max: most, calculable: false, orient: "horizontal", left: "center", bottom: 0, itemHeight: 120, itemWidth: 10,
      text: [compact(most), "0"], textStyle: { color: colours("quiet") }, inRange: { color: [colours("tint"), colours("accent")] },
    },
    series: [{
      type: "map", map: "world", data, roam: false, top: 4, bottom: 34, left: 0, right: 0, selectedMode: false,
      label: { show: false },
      itemStyle: { areaColor: colours("page"), borderColor: colours("line"), borderWidth: 0.6 },
      emphasis: { label: { show: false }, itemStyle: { areaColor: colours("scanner") } },
    }],
  } as Option;
}
