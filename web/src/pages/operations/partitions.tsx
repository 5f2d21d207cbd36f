import type { Lag, PartitionLag } from "../../api/operations";
import { moment, number } from "../../format";
import { Empty } from "../../parts/states";
import { Table } from "../../parts/table";
import { Text } from "../../parts/text";

export function Partitions({ lag, zone }: { lag: Lag; zone: string }) {
  const holders = new Map<string, string>();
  for (const worker of lag.workers ?? []) {
    if (worker.alive) for (const held of worker.partitions) holders.set(nameOf(held), worker.worker);
  }
  return (
    <section class="card" aria-label="Partitions">
      <h2>Partitions</h2>
      {lag.known_at !== null && lag.known_at !== lag.at && <p class="quiet">Last known at {moment(lag.known_at, zone, true)}.</p>}
      {lag.partitions.length === 0 ? <Empty title="Not measured yet" /> : (
        <Table label="Partitions" rows={lag.partitions} keyOf={nameOf} shown={40} columns={[
          { title: "Topic", cell: (row) => row.topic },
          { title: "Partition", number: true, cell: (row) => number(row.partition) },
          { title: "Behind", number: true, cell: (row) => <b class={row.lag > 0 ? "behind" : undefined}>{number(row.lag)}</b> },
          { title: "Processed", number: true, cell: (row) => number(row.position) },
          { title: "End of log", number: true, cell: (row) => number(row.end) },
          { title: "Oldest pending", cell: (row) => moment(row.oldest_at, zone, true) },
          { title: "Worker", cell: (row) => <Holder row={row} lag={lag} name={holders.get(nameOf(row))} /> },
        ]} />
      )}
    </section>
  );
}

function Holder({ row, lag, name }: { row: PartitionLag; lag: Lag; name: string | undefined }) {
  if (name !== undefined) return <Text>{name}</Text>;
  return <span class="quiet">{row.topic === "facts" && lag.away?.includes(row.partition) ? "away" : "not known"}</span>;
}

function nameOf(row: { topic: string; partition: number }): string {
  return `${row.topic}/${row.partition}`;
}
