import type { Provider } from "../../api/types";
import { number } from "../../format";
import { Empty } from "../../parts/states";
import { Table } from "../../parts/table";
import { Text } from "../../parts/text";

export function ProvidersCard({ rows }: { rows: Provider[] }) {
  return (
    <section class="card" aria-label="Mailbox providers">
      <h2>Mailbox providers</h2>
      {rows.length === 0 ? <Empty title="Nothing was delivered yet" /> : (
        <Table label="Mailbox providers" rows={rows} keyOf={(row) => row.provider} columns={[
          { title: "Provider", cell: (row) => <Text>{row.provider}</Text> },
          { title: "Sent", number: true, cell: (row) => number(row.sent) },
          { title: "Delivered", number: true, cell: (row) => number(row.delivered) },
          { title: "Bounced", number: true, cell: (row) => number(row.bounced) },
          { title: "Deferred", number: true, cell: (row) => number(row.deferred) },
          { title: "Complained", number: true, cell: (row) => number(row.complained) },
          { title: "Reasons of bounces", wide: true, cell: (row) => <Reasons reasons={row.reasons} /> },
        ]} />
      )}
    </section>
  );
}

const SHOWN = 3;

function Reasons({ reasons }: { reasons: Record<string, number> }) {
  const rows = Object.entries(reasons).sort((one, other) => other[1] - one[1]);
  if (rows.length === 0) return <span class="quiet">–</span>;
  const list = (some: [string, number][]) => (
    <ul class="pairs">{some.map(([reason, number_]) => <li key={reason}><Text>{reason}</Text><b>{number(number_)}</b></li>)}</ul>
  );
  return (
    <>
      {list(rows.slice(0, SHOWN))}
      {rows.length > SHOWN && <details class="whole"><summary class="small">{number(rows.length - SHOWN)} more</summary>{list(rows.slice(SHOWN))}</details>}
    </>
  );
}
