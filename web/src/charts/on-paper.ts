// A chart once more, for paper: in the paper's colours and size, with the range that is zoomed to and nothing to zoom with.

import type { EChartsType } from "echarts/core";
import type { Size } from "../parts/paper";
import { init, type Option } from "./echarts";

type Zoom = { startValue?: number; endValue?: number };

export function drawnOnPaper(live: EChartsType, option: Option, size: Size): HTMLCanvasElement {
  const made = init(document.createElement("div"), null, {
    renderer: "canvas", width: size.width, height: size.height, devicePixelRatio: size.ratio,
  });
  try {
    made.setOption(option.dataZoom ? { ...option, ...zoomed(live, option) } : option);
    made.getZr().flush();
    const canvas = made.renderToCanvas({ pixelRatio: size.ratio });
    canvas.removeAttribute("style"); // it says where the canvas lay in the chart
    return canvas;
  } finally {
    made.dispose();
  }
}

function zoomed(live: EChartsType, option: Option): Option {
  const [zoom] = (live.getOption() as { dataZoom?: Zoom[] } | undefined)?.dataZoom ?? [];
  const { startValue, endValue } = zoom ?? {};
  return {
    grid: { ...(option.grid as object), bottom: 8 },
    dataZoom: startValue === undefined || endValue === undefined ? [] : [{ type: "inside", startValue, endValue }],
  };
}
