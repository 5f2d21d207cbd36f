// What the workers say is wrong with them: above everything else, since each names the way out.

import type { Worker } from "../../api/operations";
import { moment, number } from "../../format";
import { Text } from "../../parts/text";

export function Conditions({ workers, zone }: { workers: Worker[] | null; zone: string }) {
  const found = (workers ?? []).flatMap((worker) => worker.conditions.map((condition) => ({ worker, condition })));
  if (found.length === 0) return null;
  return (
    <section class="card" aria-label="What is wrong">
      <h2>What is wrong</h2>
      <ul class="conditions">
        {found.map(({ worker, condition }) => (
          <li key={`${worker.role}/${worker.worker}/${condition.code}/${condition.partition}`}>
            <p><Text cut={false}>{condition.message}</Text>{condition.progress !== null && ` (${number(Math.floor(condition.progress * 100))} % done)`}{condition.count !== null && ` (${number(condition.count)} so far)`}</p>
            <p class="quiet small">
              {condition.partition !== null && <>Partition {number(condition.partition)}, </>}
              <Text>{worker.worker}</Text>{worker.host !== null && !worker.worker.startsWith(worker.host) && <> on <Text>{worker.host}</Text></>}, since {moment(condition.since, zone, true)}{condition.stale && ", reports are stale"}
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}
