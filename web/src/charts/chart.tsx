// A canvas that ECharts draws on: made once, told what changed, as wide as its place, in the theme's colours.
// A long chart takes tens of milliseconds to draw: it is drawn again when `REST` times as long has gone by, so that it
// never takes more than that share of the browser's time, however often the numbers move.

import type { EChartsType } from "echarts/core";
import { useEffect, useRef } from "preact/hooks";
import { charts } from "../parts/paper";
import { dark } from "../settings";
import { init, type Option } from "./echarts";
import { drawnOnPaper } from "./on-paper";

const REST = 15;

export type Colours = (name: string) => string;

/** `option` is made anew when it or the theme changes; `ready` is given the chart once, for what isn't an option. */
export function Chart({ label, option, ready, tall = false }: {
  label: string; option: (colours: Colours) => Option; ready?: (chart: EChartsType) => void; tall?: boolean;
}) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const isDark = dark.value;
  const latest = useRef(option);
  latest.current = option;
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const made = init(element, null, { renderer: "canvas" });
    chart.current = made;
    ready?.(made);
    charts.set(element, (colours, size) => drawnOnPaper(made, latest.current(colours), size));
    const watching = new ResizeObserver(() => { if (element.clientWidth) made.resize(); });
    watching.observe(element);
    return () => {
      charts.delete(element);
      watching.disconnect();
      made.dispose();
      chart.current = null;
    };
  }, []);
  const next = useRef(0);
  useEffect(() => {
    const timer = setTimeout(() => {
      const began = performance.now();
      const style = getComputedStyle(document.documentElement);
      chart.current?.setOption(option((name) => style.getPropertyValue(`--${name}`).trim()));
      chart.current?.getZr().flush();
      const ended = performance.now();
      next.current = ended + REST * (ended - began);
    }, Math.max(0, next.current - performance.now()));
    return () => clearTimeout(timer);
  }, [option, isDark]);
  return <div ref={place} class={tall ? "chart tall" : "chart"} role="img" aria-label={label} />;
}
