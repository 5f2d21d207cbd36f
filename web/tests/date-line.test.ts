import { feature } from "topojson-client";
import type { GeometryCollection, Topology } from "topojson-specification";
import { expect, test } from "vitest";
import atlas from "world-atlas/countries-110m.json";
import { acrossTheDateLine, joined } from "../src/charts/date-line";

test("a ring across the date line stays together, wherever it begins", () => {
  const east = [[179, 1], [-179, 2], [-178, 3], [179, 1]];
  expect(joined(east)).toEqual([[179, 1], [181, 2], [182, 3], [179, 1]]);
  const west = [[-179, 2], [-178, 3], [179, 1], [-179, 2]];
  expect(joined(west)).toEqual([[181, 2], [182, 3], [179, 1], [181, 2]]);
  const elsewhere = [[-170, 1], [10, 2], [100, 3], [-170, 1]];
  expect(joined([[-10, 1], [10, 2], [-10, 1]])).toEqual([[-10, 1], [10, 2], [-10, 1]]);
  expect(joined(elsewhere)).toHaveLength(4);
});

test("no country is drawn as a line around the world", () => {
  const topology = atlas as unknown as Topology<{ countries: GeometryCollection<{ name: string }> }>;
  for (const one of feature(topology, topology.objects.countries).features) {
    if (one.properties.name === "Antarctica") continue;
    const { geometry } = acrossTheDateLine(one);
    const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.type === "MultiPolygon" ? geometry.coordinates : [];
    for (const ring of polygons.flat()) {
      const steps = ring.slice(1).map(([to = 0], index) => Math.abs(to - (ring[index]?.[0] ?? 0)));
      expect(Math.max(...steps), one.properties.name).toBeLessThan(100);
    }
  }
});
