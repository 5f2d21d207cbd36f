import type { Worker } from "../../api/operations";
import { duration, moment, number } from "../../format";
import { Empty, Notice } from "../../parts/states";
import { Table } from "../../parts/table";
import { Text } from "../../parts/text";

const ROLES: Record<string, string> = { aggregate: "counts", api: "answers", normalize: "parses", query: "reads" };

// The others have no partitions at any time.
const HOLDING = ["aggregate", "normalize"];

export function Workers({ workers, zone }: { workers: Worker[] | null; zone: string }) {
  return (
    <section class="card" aria-label="Workers">
      <h2>Workers</h2>
      {workers === null && <Notice>Who works can't be told at the moment: Redis does not answer.</Notice>}
      {workers?.length === 0 && <Empty title="No worker has been seen" />}
      {workers !== null && workers.length > 0 && (
        <Table label="Workers" rows={workers} keyOf={(row) => `${row.role}/${row.worker}`} columns={[
          { title: "Worker", cell: (row) => <><Text>{row.worker}</Text>{row.host !== null && !row.worker.startsWith(row.host) && <small class="quiet"><br /><Text>{row.host}</Text></small>}</> },
          { title: "Does", cell: (row) => ROLES[row.role] ?? row.role },
          { title: "State", cell: (row) => <State row={row} zone={zone} /> },
          { title: "Partitions", cell: (row) => <Held row={row} /> },
          { title: "Facts", number: true, cell: (row) => (row.facts_per_s === null ? number(null) : `${number(Math.round(row.facts_per_s))}/s`) },
          { title: "Delay, 50 and 99 %", number: true, cell: (row) => (row.p50_ms === null ? number(null) : `${duration(row.p50_ms)}, ${duration(row.p99_ms)}`) },
          { title: "Since", cell: (row) => moment(row.since, zone) },
          { title: "Version", cell: (row) => <Version row={row} /> },
        ]} />
      )}
    </section>
  );
}

function State({ row, zone }: { row: Worker; zone: string }) {
  if (row.alive) return <span class="light live"><i class="dot" aria-hidden="true" />Works</span>;
  const refused = row.conditions.some((one) => one.code === "role_refused");
  return (
    <>
      <span class="light offline"><i class="dot" aria-hidden="true" />{refused ? "Refused" : "Silent"}</span>
      <small class="quiet"><br />{refused ? "last tried" : "since"} {moment(row.at, zone, true)}</small>
    </>
  );
}

function Held({ row }: { row: Worker }) {
  if (row.partitions.length === 0) return HOLDING.includes(row.role) ? <span class="quiet">none</span> : number(null);
  const old = row.partitions.filter((held) => held.rebuild_needed).map((held) => number(held.partition));
  return (
    <>
      {row.partitions.map((held) => number(held.partition)).join(", ")}
      {old.length > 0 && <small class="quiet"><br />{old.join(", ")} by older rules: <code>reports rebuild</code></small>}
    </>
  );
}

function Version({ row: { versions } }: { row: Worker }) {
  if (versions.product === null) return <span class="quiet">not told</span>;
  return <><Text>{versions.product}</Text>{versions.layout !== null && <small class="quiet"><br />layout {versions.layout}, rules {versions.rules}</small>}</>;
}
