// What the workers say is wrong with them: above everything else, since each names the way out.

import type { Worker } from "../../api/operations";
import { moment, number } from "../../format";
import { Text } from "../../parts/text";

type Condition = Worker["conditions"][number];

/** Each thing that is wrong once, with all who say it: the roles of a host say the same of one file. */
export function told(workers: Worker[]): { condition: Condition; by: Worker[] }[] {
  const found = new Map<string, { condition: Condition; by: Worker[] }>();
  for (const worker of workers)
    for (const condition of worker.conditions) {
      const { since: _, ...same } = condition;
      const key = JSON.stringify(same);
      const one = found.get(key);
      if (one === undefined) found.set(key, { condition, by: [worker] });
      else {
        one.by.push(worker);
        if (condition.since < one.condition.since) one.condition = condition;
      }
    }
  return [...found.values()];
}

export function Conditions({ workers, zone }: { workers: Worker[] | null; zone: string }) {
  const found = told(workers ?? []);
  if (found.length === 0) return null;
  return (
    <section class="card" aria-label="What is wrong">
      <h2>What is wrong</h2>
      <ul class="conditions">
        {found.map(({ condition, by }) => (
          <li key={`${by[0]?.worker}/${condition.code}/${condition.partition}`}>
            <p><Text cut={false}>{condition.message}</Text>{condition.progress !== null && ` (${number(Math.floor(condition.progress * 100))} % done)`}{condition.count !== null && ` (${number(condition.count)} so far)`}</p>
            <p class="quiet small">
              {condition.partition !== null && <>Partition {number(condition.partition)}, </>}
              {by.map((worker) => (
                <span key={`${worker.role}/${worker.worker}`}>{worker.role} <Text>{worker.worker}</Text>{worker.host !== null && !worker.worker.startsWith(worker.host) && <> on <Text>{worker.host}</Text></>}, </span>
              ))}
              since {moment(condition.since, zone, true)}{condition.stale && ", reports are stale"}
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}
