// An interval as numbers and as a line on a scale that all rows share.

import { percent } from "../../format";

/** Lower and upper end in percent. */
type Ends = readonly number[] | null;

/** The scale that holds all intervals, in percent. */
export function scaleOf(intervals: readonly Ends[]): [number, number] {
  const known = intervals.flatMap((ends) => ends ?? []);
  if (known.length === 0) return [0, 1];
  const [low, high] = [Math.min(...known), Math.max(...known)];
  return high > low ? [low, high] : [low, low + 1];
}

export function Interval({ ends, value, scale }: { ends: Ends; value: number | null; scale: [number, number] }) {
  const [low, high] = ends ?? [];
  if (low === undefined || high === undefined) return <span class="quiet">–</span>;
  const place = (at: number) => `${Math.min(100, Math.max(0, (100 * (at - scale[0])) / (scale[1] - scale[0])))}%`;
  return (
    <span class="interval">
      <span class="track" aria-hidden="true">
        <i style={{ left: place(low), right: `calc(100% - ${place(high)})` }} />
        {value !== null && <b style={{ left: place(value) }} />}
      </span>
      <small class="quiet">{percent(low)} – {percent(high)}</small>
    </span>
  );
}
