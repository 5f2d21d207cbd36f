// The summary's numbers.

import { number, percent } from "../format";
import type { Verdicts } from "../api/types";

export function Tile({ label, value, rate, of, children }: {
  label: string; value: number; rate?: number | null; of?: string; children?: preact.ComponentChildren;
}) {
  return (
    <div class="tile">
      <dt>{label}</dt>
      <dd>
        <b class="value">{number(value)}</b>
        {rate !== undefined && <span class="rate">{percent(rate)}{of && <small> {of}</small>}</span>}
        {children}
      </dd>
    </div>
  );
}

const VERDICTS = [
  ["human", "People", "Nothing says that a machine did it"],
  ["proxy", "Mail proxies", "Fetched by the mailbox provider: Apple Mail Privacy Protection, Gmail's and Yahoo's image proxies"],
  ["scanner", "Scanners", "Security products that follow links"],
] as const;

/** Who was it: a bar in parts with their numbers below. */
export function Split({ title, verdicts }: { title: string; verdicts: Verdicts }) {
  const sum = verdicts.human + verdicts.proxy + verdicts.scanner;
  return (
    <section class="card" aria-label={title}>
      <h2>{title}</h2>
      <div class="split" aria-hidden="true">
        {VERDICTS.map(([verdict]) => (
          <i key={verdict} class={verdict} style={{ flexGrow: verdicts[verdict], display: verdicts[verdict] ? "block" : "none" }} />
        ))}
      </div>
      <dl class="legend">
        {VERDICTS.map(([verdict, name, meaning]) => (
          <div key={verdict} title={meaning}>
            <dt><i class={`dot ${verdict}`} aria-hidden="true" />{name}</dt>
            <dd><b>{number(verdicts[verdict])}</b> <span class="quiet">{percent(sum ? (100 * verdicts[verdict]) / sum : null)}</span></dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
