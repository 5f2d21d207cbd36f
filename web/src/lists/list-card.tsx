// The frame of a list: its filters, its count, and the states that it can be in.

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import type { Page } from "../api/types";
import { number } from "../format";
import { useLanding } from "../parts/landing";
import { Empty, Failed, Loading, Notice } from "../parts/states";
import { filter, filters } from "../router";
import type { Answered } from "./answer";
import { Pages } from "./pages";

export function ListCard<T extends Page<unknown>>({ id, title, one, many, answered, filtered, fields, actions, bar, children, none }: {
  id: string; title: string; one: string; many: string; answered: Answered<T>; filtered: boolean;
  fields: ComponentChildren; actions: ComponentChildren; bar: ComponentChildren; children: ComponentChildren; none: ComponentChildren;
}) {
  const { answer, error, busy, again } = answered;
  const cursor = filters.value.get("cursor");
  // A cursor belongs to its list: of another count or another secret it leads nowhere, and the list begins anew.
  const lost = error?.status === 400 && cursor !== null;
  useEffect(() => {
    if (lost) filter({ cursor: undefined }, true);
  }, [lost]);
  const matching = answer?.matching ?? null;
  // "Next" is no link on the last page.
  const place = useLanding<HTMLDivElement>(answer);
  return (
    <section class="card" aria-label={title} id={id}>
      <div class="list-head">
        <h2>{title} {matching !== null && <span class="quiet matching">{number(matching)} {matching === 1 ? one : many}</span>}</h2>
        {actions}
      </div>
      <fieldset class="filters"><legend class="hidden">Filters</legend>{fields}</fieldset>
      <div class="list-head small">{bar}</div>
      {error && answer && <Notice>{error.message} The list is the one of before; trying again…</Notice>}
      {error && !answer && !lost && error.status !== 404 && <Failed message={error.message} again={again} />}
      {error?.status === 404 && <Empty title="There is no campaign of this name"><p>It appears here by itself when its first event is counted.</p></Empty>}
      {!answer && !error && <Loading what={`Loading the ${many}`} />}
      {answer && (
        <div class="list" aria-busy={busy} ref={place} tabIndex={-1}>
          {answer.items.length === 0
            ? answer.next !== null ? <Empty title="Nothing found so far"><p>There is more to look through: go on with the next page.</p></Empty>
              : filtered ? <Empty title={`No ${many} that match these filters`} /> : none
            : children}
        </div>
      )}
      {answer && <Pages answer={answer} busy={busy} list={id} />}
    </section>
  );
}
