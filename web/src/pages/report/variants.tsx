import type { Variants } from "../../api/types";
import { percent } from "../../format";
import { useListTo } from "../../lists/to";
import { Table } from "../../parts/table";
import { Text } from "../../parts/text";
import { Figure } from "../../parts/tiles";

/** "A – Hello" where the campaign's own record names the value, else the value. */
export function labelOf(variant: Record<string, string>, fields: Variants["fields"]): string {
  return Object.entries(variant).map(([field, value]) => {
    const label = fields[field]?.[value];
    return `${field} ${label && label !== value ? `${value}: ${label}` : value}`;
  }).join(", ");
}

function filtersOf(variant: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(variant).map(([field, value]) => [`variant.${field}`, value]));
}

export function VariantsCard({ campaign, variants }: { campaign: string; variants: Variants }) {
  const to = useListTo(campaign);
  return (
    <section class="card" aria-label="A/B test">
      <h2>A/B test</h2>
      {variants.warning && <p class="notice warn">{variants.warning}</p>}
      <Table label="A/B test" rows={variants.rows} keyOf={(row) => JSON.stringify(row.variant)} shown={6} columns={[
        { title: "Variant", wide: true, cell: (row) => <Text>{labelOf(row.variant, variants.fields)}</Text> },
        { title: "Recipients", number: true, cell: (row) => <Figure value={row.recipients} to={Object.keys(row.variant).length ? to("recipients", filtersOf(row.variant)) : undefined} says="recipients of this variant" /> },
        { title: "Open rate", number: true, cell: (row) => percent(row.summary.open_rate) },
        { title: "Click rate", number: true, cell: (row) => percent(row.summary.click_rate) },
        { title: "Verdict", cell: (row) => row.verdict },
      ]} />
    </section>
  );
}
