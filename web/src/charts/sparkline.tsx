// Opens over the last days of a campaign, as a line in the list. Asked for when it comes into sight, and again when the
// campaign has moved, but not more often than every `AGAIN_MS`.

import { useEffect, useRef, useState } from "preact/hooks";
import { campaignPath, get } from "../api/http";
import type { Count, Timeline } from "../api/types";

const DAYS = 7;
const AGAIN_MS = 15_000;
const WIDTH = 120;
const HEIGHT = 32;

/** The line's points and the area below it as SVG paths; values scaled to the largest one. */
export function paths(values: readonly number[], width: number, height: number): { line: string; area: string } {
  if (values.length === 0) return { line: "", area: "" };
  const most = Math.max(1, ...values);
  const step = values.length > 1 ? width / (values.length - 1) : 0;
  const points = values.map((value, index) => `${(index * step).toFixed(1)} ${(height - (value / most) * height).toFixed(1)}`);
  if (values.length === 1) points.push(`${width} ${points[0]?.split(" ")[1] ?? height}`);
  const line = `M${points.join("L")}`;
  return { line, area: `${line}L${width} ${height}L0 ${height}Z` };
}

export function Sparkline({ campaign, asOf, count }: { campaign: string; asOf: string | null; count: Count }) {
  const frame = useRef<HTMLDivElement>(null);
  const [values, setValues] = useState<number[]>([]);
  const [seen, setSeen] = useState(false);
  const asked = useRef(0);
  useEffect(() => {
    const watching = new IntersectionObserver((entries) => setSeen(entries.some((entry) => entry.isIntersecting)));
    if (frame.current) watching.observe(frame.current);
    return () => watching.disconnect();
  }, []);
  useEffect(() => {
    const newest = Date.parse(asOf ?? "");
    if (!seen || !(newest > 0)) return;
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      asked.current = Date.now();
      const from = newest - DAYS * 86_400_000;
      try {
        const answer = await get<{ timeline: Timeline }>(campaignPath(campaign, "/timeline"), { unit: "hour", count, from: Math.max(0, from) }, stop.signal);
        setValues(answer.timeline.rows.map((row) => row.total_opens));
      } catch {
        // The list says what is wrong; a line that is missing says nothing more.
      }
    }, Math.max(0, asked.current + AGAIN_MS - Date.now()));
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [campaign, asOf, count, seen]);
  const { line, area } = paths(values, WIDTH, HEIGHT - 2);
  return (
    <div ref={frame} class="spark">
      <svg viewBox={`0 -1 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
        <path class="area" d={area} /><path class="line" d={line} />
      </svg>
    </div>
  );
}
