// What stands at the head of a page only on paper: there nobody sees the switches.

import type { Count } from "../api/types";
import { moment } from "../format";
import { Text } from "./text";

const COUNTED: Record<Count, string> = { all: "Every event", people: "People only" };

export function PaperFacts({ organisation, counted, timezone, asOf }: {
  organisation: string; counted?: Count; timezone: string; asOf: string | null | undefined;
}) {
  const facts: [string, string][] = [
    ...(counted ? [["What counts", COUNTED[counted]] satisfies [string, string]] : []),
    ["Timezone", timezone], ["As of", moment(asOf, timezone, true)],
  ];
  return (
    <div class="paper-only">
      <p class="paper-org"><b><Text>{organisation}</Text></b><span class="quiet">Campaign Reports</span></p>
      <dl class="paper-facts">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
    </div>
  );
}
