import type { Variants } from "../../api/types";
import { number, percent } from "../../format";
import { Table } from "../../parts/table";
import { Text } from "../../parts/text";

/** "A – Hello" where the campaign's own record names the value, else the value. */
export function labelOf(variant: Record<string, string>, fields: Variants["fields"]): string {
  return Object.entries(variant).map(([field, value]) => {
    const label = fields[field]?.[value];
    return `${field} ${label && label !== value ? `${value}: ${label}` : value}`;
  }).join(", ");
}

export function VariantsCard({ variants }: { variants: Variants }) {
  return (
    <section class="card" aria-label="A/B test">
      <h2>A/B test</h2>
      {variants.warning && <p class="notice warn">{variants.warning}</p>}
      <Table label="A/B test" rows={variants.rows} keyOf={(row) => JSON.stringify(row.variant)} shown={6} columns={[
        { title: "Variant", wide: true, cell: (row) => <Text>{labelOf(row.variant, variants.fields)}</Text> },
        { title: "Recipients", number: true, cell: (row) => number(row.recipients) },
        { title: "Open rate", number: true, cell: (row) => percent(row.summary.open_rate) },
        { title: "Click rate", number: true, cell: (row) => percent(row.summary.click_rate) },
        { title: "Verdict", cell: (row) => row.verdict },
      ]} />
    </section>
  );
}
