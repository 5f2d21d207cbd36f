// Several campaigns by their age, a line each, told apart by colour and by dashes.

import { LineChart } from "echarts/charts";
import { use } from "echarts/core";
import { useCallback } from "preact/hooks";
import { percent } from "../format";
import { Chart, type Colours } from "./chart";
import type { Option } from "./echarts";

use([LineChart]);

export type Line = { name: string; points: [age: number, rate: number][] };
export const COLOURS = 6;
const DASHES = ["solid", "dashed", "dotted"] as const;

export default function Lines({ label, lines }: { label: string; lines: Line[] }) {
  const option = useCallback((colours: Colours) => optionOf(lines, colours), [lines]);
  return <Chart label={label} option={option} key={lines.length} />;
}

function optionOf(lines: Line[], colours: Colours): Option {
  const quiet = colours("quiet");
  return {
    animation: false,
    grid: { left: 8, right: 20, top: 16, bottom: 8, containLabel: true },
    tooltip: {
      trigger: "axis", renderMode: "richText", confine: true,
      backgroundColor: colours("card"), borderColor: colours("line"), textStyle: { color: colours("text"), fontSize: 13 },
      formatter: (points: unknown) => {
        const all = points as { seriesName: string; value: [number, number] }[];
        return [`After ${all[0]?.value[0] ?? 0} hours`, ...all.map((one) => `${one.seriesName.slice(0, 40)}: ${percent(one.value[1])}`)].join("\n");
      },
    },
    xAxis: { type: "value", minInterval: 1, axisLabel: { color: quiet, formatter: "{value} h" }, splitLine: { show: false }, axisLine: { lineStyle: { color: colours("line") } } },
    yAxis: { type: "value", axisLabel: { color: quiet, formatter: (value: number) => percent(value) }, splitLine: { lineStyle: { color: colours("line") } } },
    series: lines.map((line, index) => ({
      type: "line", name: line.name, data: line.points, showSymbol: false,
      lineStyle: { width: 2, type: DASHES[Math.floor(index / COLOURS) % DASHES.length] },
      itemStyle: { color: colours(`series-${index % COLOURS}`) },
    })),
  } as Option;
}
