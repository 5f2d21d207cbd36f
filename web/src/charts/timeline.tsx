// Opens, clicks or sendings by the hour or day, with zoom by wheel, fingers, the slider below, and buttons.

import type { EChartsType } from "echarts/core";
import { useCallback, useRef } from "preact/hooks";
import type { Timeline } from "../api/types";
import { compact, hourLabel, number } from "../format";
import { Chart, type Colours } from "./chart";
import type { Option } from "./echarts";

export type Series = "opens" | "clicks" | "sent";
const NAMES = { opens: ["First opens", "Repeated opens"], clicks: ["First clicks", "Repeated clicks"], sent: ["Sent", ""] } as const;
const RANGES = [["All", 0], ["7 days", 7 * 24], ["24 hours", 24]] as const;

export default function TimelineChart({ timeline, series }: { timeline: Timeline; series: Series }) {
  const chart = useRef<EChartsType | null>(null);
  const option = useCallback((colours: Colours) => optionOf(timeline, series, colours), [timeline, series]);
  const rows = timeline.rows;
  const zoom = (hours: number) => {
    const shown = timeline.unit === "day" ? Math.ceil(hours / 24) : hours;
    const startValue = hours ? Math.max(0, rows.length - shown) : 0;
    chart.current?.dispatchAction({ type: "dataZoom", startValue, endValue: rows.length - 1 });
  };
  const ranges = RANGES.filter(([, hours]) => (timeline.unit === "day" ? hours / 24 : hours) < rows.length);
  const first = rows[0];
  const last = rows[rows.length - 1];
  const words = first && last
    ? `${NAMES[series][0]} from ${hourLabel(first.start, timeline.timezone, timeline.unit)} to ${hourLabel(last.start, timeline.timezone, timeline.unit)}; the table below has the numbers`
    : "Nothing to draw yet";
  return (
    <>
      <Chart label={words} option={option} ready={(made) => { chart.current = made; }} />
      <div class="ranges">
        {series !== "sent" && (
          <span class="key quiet small" aria-hidden="true">
            <i class="dot human" /> {NAMES[series][0]} <i class="dot again" /> {NAMES[series][1]}
          </span>
        )}
        {ranges.length > 1 && ranges.map(([name, hours]) => (
          <button key={name} type="button" class="plain small" onClick={() => zoom(hours)}>{name}</button>
        ))}
      </div>
    </>
  );
}

function optionOf(timeline: Timeline, series: Series, colours: Colours): Option {
  const { rows, timezone, unit } = timeline;
  const first = rows.map((row) => (series === "sent" ? row.sent : series === "opens" ? row.opened : row.clicked));
  const again = rows.map((row, index) =>
    series === "sent" ? 0 : Math.max(0, (series === "opens" ? row.total_opens : row.total_clicks) - (first[index] ?? 0)));
  const quiet = colours("quiet");
  const bar = (name: string, data: number[], color: string) => ({
    type: "bar" as const, name, data, stack: "all", large: rows.length > 500, barMaxWidth: 28, itemStyle: { color },
  });
  return {
    animation: false,
    aria: { enabled: false },
    grid: { left: 8, right: 8, top: 16, bottom: 58, containLabel: true },
    tooltip: {
      trigger: "axis", renderMode: "richText", confine: true,
      backgroundColor: colours("card"), borderColor: colours("line"), textStyle: { color: colours("text"), fontSize: 13 },
      formatter: (points: unknown) => {
        const index = (points as { dataIndex: number }[])[0]?.dataIndex ?? 0;
        const row = rows[index];
        if (!row) return "";
        const lines = series === "sent" ? [`Sent ${number(row.sent)}`]
          : [`${NAMES[series][0]} ${number(first[index])}`, `${NAMES[series][1]} ${number(again[index])}`];
        return [hourLabel(row.start, timezone, unit), ...lines].join("\n");
      },
    },
    xAxis: {
      type: "category", data: rows.map((row) => row.start),
      axisLabel: { color: quiet, hideOverlap: true, formatter: (start: string) => hourLabel(start, timezone, unit) }, axisLine: { lineStyle: { color: colours("line") } }, axisTick: { show: false },
    },
    yAxis: {
      type: "value", minInterval: 1, axisLabel: { color: quiet, formatter: (value: number) => compact(value) },
      splitLine: { lineStyle: { color: colours("line") } },
    },
    dataZoom: [
      { type: "inside", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false },
      {
        type: "slider", height: 26, bottom: 8, brushSelect: false, borderColor: "transparent", showDetail: false,
        fillerColor: `${colours("accent")}22`, backgroundColor: colours("page"), handleStyle: { color: colours("accent"), borderColor: colours("accent") },
        moveHandleStyle: { color: colours("accent"), opacity: 0.5 },
        dataBackground: { lineStyle: { color: colours("soft") }, areaStyle: { color: colours("soft") } },
        selectedDataBackground: { lineStyle: { color: colours("accent") }, areaStyle: { color: colours("soft") } },
      },
    ],
    series: [bar(NAMES[series][0], first, colours("accent")), bar(NAMES[series][1], again, colours("soft"))],
  };
}
