// The parts of ECharts that are used, on a canvas: its other renderer and its HTML tooltips write inline styles.

import { BarChart, type BarSeriesOption } from "echarts/charts";
import {
  AriaComponent, DataZoomComponent, type DataZoomComponentOption, GridComponent, type GridComponentOption,
  TooltipComponent, type TooltipComponentOption,
} from "echarts/components";
import { type ComposeOption, init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

use([BarChart, GridComponent, TooltipComponent, DataZoomComponent, AriaComponent, CanvasRenderer]);

export type Option = ComposeOption<BarSeriesOption | GridComponentOption | TooltipComponentOption | DataZoomComponentOption>;
export { init };
