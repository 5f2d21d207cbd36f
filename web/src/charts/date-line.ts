// Shapes that lie on both sides of the date line: drawn as one, beyond 180°, rather than as a line around the world.

import type { Feature, Geometry, Position } from "geojson";

/** A ring whose neighbouring points are less than half a world apart. */
export function joined(ring: readonly Position[]): Position[] {
  let turn = 0;
  let before = ring[0]?.[0] ?? 0;
  const shifted = ring.map(([longitude = 0, latitude = 0]): Position => {
    if (longitude - before > 180) turn -= 360;
    else if (longitude - before < -180) turn += 360;
    before = longitude;
    return [longitude + turn, latitude];
  });
  // Which side it began on is chance: it is drawn in the east.
  const west = Math.min(...shifted.map(([longitude = 0]) => longitude));
  return west < -180 ? shifted.map(([longitude = 0, latitude = 0]) => [longitude + 360, latitude]) : shifted;
}

export function acrossTheDateLine<Properties>(feature: Feature<Geometry, Properties>): Feature<Geometry, Properties> {
  const { geometry } = feature;
  if (geometry.type === "Polygon") {
    return { ...feature, geometry: { ...geometry, coordinates: geometry.coordinates.map(joined) } };
  }
  if (geometry.type === "MultiPolygon") {
    const coordinates = geometry.coordinates.map((polygon) => polygon.map(joined));
    return { ...feature, geometry: { ...geometry, coordinates } };
  }
  return feature;
}
