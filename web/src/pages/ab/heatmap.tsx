// Two fields against each other, as a table whose cells are tinted by the rate: who doesn't see colours reads numbers.

import type { Heatmap, HeatmapCell, Variants } from "../../api/types";
import { number, percent } from "../../format";
import { Select } from "../../parts/controls";
import { Text } from "../../parts/text";
import { filter } from "../../router";

/** At most so much of the accent's colour: text stays readable on it, in both themes. */
const MOST_TINT = 38;

export function HeatmapTable({ heatmap, labels, fields, name, x, y }: {
  heatmap: Heatmap; labels: Variants["fields"]; fields: string[]; name: string; x: string; y: string;
}) {
  const cells = new Map(heatmap.cells.map((cell) => [JSON.stringify([cell.x, cell.y]), cell]));
  const rates = heatmap.cells.map((cell) => cell.rate).filter((rate) => rate !== null);
  const [low, high] = [Math.min(...rates), Math.max(...rates)];
  const tint = (cell: HeatmapCell) => (cell.rate === null || high <= low ? 0 : Math.round((MOST_TINT * (cell.rate - low)) / (high - low)));
  const value = (field: string, of: string | null) => (of === null ? "not given" : (labels[field]?.[of] ?? of));
  const choices = fields.map((field) => [field, field] as const);
  return (
    <section class="card" aria-label="Heatmap">
      <div class="title">
        <h2>{name} by two fields</h2>
        <Select label="Rows" value={y} choices={choices.filter(([field]) => field !== x)} set={(field) => filter({ y: field, x })} />
        <Select label="Columns" value={x} choices={choices.filter(([field]) => field !== y)} set={(field) => filter({ x: field, y })} />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a frame that scrolls must be reachable by keyboard */}
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms */}
      <div class="scroll" role="group" aria-label="Cells" tabIndex={0}>
        <table class="heatmap">
          <thead>
            <tr><td />{heatmap.x.map((one) => <th key={one} scope="col"><Text>{value(heatmap.field_x, one)}</Text></th>)}</tr>
          </thead>
          <tbody>
            {heatmap.y.map((row) => (
              <tr key={row}>
                <th scope="row"><Text>{value(heatmap.field_y, row)}</Text></th>
                {heatmap.x.map((column) => {
                  const cell = cells.get(JSON.stringify([column, row]));
                  if (!cell) return <td key={column} class="quiet">nobody</td>;
                  return (
                    <td key={column} style={{ backgroundColor: `color-mix(in srgb, var(--accent) ${tint(cell)}%, var(--card))` }}>
                      <b>{percent(cell.rate)}</b>
                      <span>{number(cell.numerator)} of {number(cell.denominator)}</span>
                      <span>{cell.verdict ?? "not tested"}</span>
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
