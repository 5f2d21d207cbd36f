// The summary's numbers.

import { number, percent } from "../format";
import type { Verdicts } from "../api/types";

/** `to`: the list of those whom the number counts; `who` says who they are. */
export function Tile({ label, value, rate, of, to, who, children }: {
  label: string; value: number; rate?: number | null; of?: string; to?: string | undefined; who?: string; children?: preact.ComponentChildren;
}) {
  return (
    <div class="tile">
      <dt>{label}</dt>
      <dd>
        <Figure class="value" value={value} to={to} says={who ?? label} />
        {rate !== undefined && <span class="rate">{percent(rate)}{of && <small> {of}</small>}</span>}
        {children}
      </dd>
    </div>
  );
}

/** A number that leads to the rows behind it, where there is a list of them. */
export function Figure({ value, to, says, class: name }: { value: number; to: string | undefined; says: string; class?: string }) {
  if (to === undefined) return <b class={name}>{number(value)}</b>;
  return <b class={name}><a class="to-list" href={to} title={says} aria-label={`${number(value)}: ${says}`}>{number(value)}</a></b>;
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
