// A table that scrolls in its own frame where it is wider than the page.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { number } from "../format";

export type Column<Row> = { title: string; cell: (row: Row) => ComponentChildren; number?: boolean; wide?: boolean };

export function Table<Row>({ label, columns, rows, keyOf, shown = 20 }: {
  label: string; columns: readonly Column<Row>[]; rows: readonly Row[]; keyOf: (row: Row, index: number) => string; shown?: number;
}) {
  const [all, setAll] = useState(false);
  const visible = all ? rows : rows.slice(0, shown);
  return (
    <>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a frame that scrolls must be reachable by keyboard */}
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms */}
      <div class="scroll" role="group" aria-label={label} tabIndex={0}>
        <table>
          <thead>
            <tr>{columns.map((column) => <th key={column.title} scope="col" class={kind(column)}>{column.title}</th>)}</tr>
          </thead>
          <tbody>
            {visible.map((row, index) => (
              <tr key={keyOf(row, index)}>
                {columns.map((column) => <td key={column.title} class={kind(column)}>{column.cell(row)}</td>)}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length > shown && !all && <p class="paper-only quiet small">{number(shown)} of {number(rows.length)}</p>}
      {rows.length > shown && (
        <button type="button" class="plain more" onClick={() => setAll(!all)}>
          {all ? "Show fewer" : `Show all ${number(rows.length)}`}
        </button>
      )}
    </>
  );
}

function kind(column: { number?: boolean; wide?: boolean }): string {
  return [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ");
}
