// The organisation's campaigns, newest activity first: one page of them, which moves, or those that a search finds.

import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api/http";
import { session } from "../api/session";
import type { Count, Listed, Page } from "../api/types";
import { Sparkline } from "../charts/sparkline";
import { moment, number, percent } from "../format";
import { lazy } from "../lazy";
import { LIMIT, useAnswer } from "../lists/answer";
import { Pages } from "../lists/pages";
import { CountSwitch } from "../parts/controls";
import { Empty, Failed, Loading, Notice } from "../parts/states";
import { Stale } from "../parts/status";
import { Text, useTitle } from "../parts/text";
import { campaignList, filter, filters, pathTo } from "../router";
import { count } from "../settings";

const FirstRun = lazy(() => import("./connect").then((module) => module.FirstRun));

const EVERY_MS = 3_000;
const MAX_SEARCH = 320; // for the API
const LIST = "campaigns";

type Answer = Page<Listed>;

function load(path: string, values: Record<string, string | number | undefined>, signal: AbortSignal): Promise<Answer> {
  return get<Answer>(path, { ...values, limit: LIMIT }, signal);
}

export function CampaignsPage() {
  const search = (filters.value.get("search") ?? "").trim().slice(0, MAX_SEARCH);
  const cursor = filters.value.get("cursor") ?? undefined;
  const counted = count.value;
  const { answer, error, busy, again } = useAnswer(load, "/api/v1/campaigns", { search, cursor, count: counted },
    { moved: useTurns(EVERY_MS), everyMs: EVERY_MS / 2 });
  const stale = answer?.items.find((item) => item.stale);
  useTitle("Campaigns");
  useEffect(() => { campaignList.value = `/${location.search}`; }, [search, cursor]);
  // A cursor belongs to its search: of another one, or another secret, it leads nowhere, and the list begins anew.
  const lost = error?.status === 400 && cursor !== undefined;
  useEffect(() => {
    if (lost) filter({ cursor: undefined }, true);
  }, [lost]);
  return (
    <>
      <div class="title" id={LIST}>
        <h1 tabIndex={-1}>Campaigns</h1>
        <Search />
        <span class="quiet matching" role="status">{answer && (search || answer.matching) ? how(answer.matching, search) : ""}</span>
        <CountSwitch />
      </div>
      {error && answer && <Notice>{error.message} The numbers are those of before; trying again…</Notice>}
      {stale && <Stale of={stale} />}
      {answer === null
        ? error && !lost ? <Failed message={error.message} again={again} /> : <Loading what="Loading the campaigns" />
        : answer.items.length > 0 ? <List items={answer.items} counted={answer.items[0]?.count ?? counted} busy={busy} />
          : cursor ? <Empty title="Nothing is on this page any more"><a href="/">To the newest campaigns</a></Empty>
            : search || busy ? <Nothing /> : <FirstRun />}
      {answer && <Pages answer={answer} busy={busy} list={LIST} />}
    </>
  );
}

function how(matching: number | null, search: string): string {
  return `${number(matching)} ${search ? "found" : matching === 1 ? "campaign" : "campaigns"}`;
}

/** Another number every so often, while somebody looks. */
function useTurns(everyMs: number): number {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => { if (!document.hidden) setTurn((before) => before + 1); }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return turn;
}

/** One search is one step back, however many letters it has: the first letter makes the step. */
function Search() {
  const typing = useRef(false);
  return (
    <input class="search" type="search" placeholder="Words of name, subject or id" aria-label="Search campaigns" maxLength={MAX_SEARCH}
      autocomplete="off" spellcheck={false} value={filters.value.get("search") ?? ""}
      onInput={(event) => { filter({ search: event.currentTarget.value, cursor: undefined }, typing.current); typing.current = true; }}
      onBlur={() => { typing.current = false; }} />
  );
}

function Nothing() {
  return (
    <Empty title="No campaign has all these words in its name, subject or id.">
      <button type="button" class="plain" onClick={() => filter({ search: undefined, cursor: undefined })}>Show all campaigns</button>
    </Empty>
  );
}

function List({ items, counted, busy }: { items: Listed[]; counted: Count; busy: boolean }) {
  const zone = session.value?.timezone ?? "UTC";
  return (
    <ul class="campaigns" aria-busy={busy}>
      {items.map((item) => (
        <li key={item.campaign}>
          <a class="card campaign" href={pathTo("campaigns", item.campaign)}>
            <span class="what">
              <strong><Text>{item.name ?? item.campaign}</Text></strong>
              {(item.subject ?? item.name) && <span class="quiet small"><Text>{item.subject ?? item.campaign}</Text></span>}
            </span>
            <Sparkline campaign={item.campaign} asOf={item.as_of} count={counted} />
            <Figure label="sent" text={number(item.summary.sent)} />
            <Figure label="opened" text={percent(item.summary.open_rate)} />
            <Figure label="clicked" text={percent(item.summary.click_rate)} />
            <span class="figure when"><time dateTime={item.as_of ?? undefined}>{moment(item.as_of, zone)}</time><small>newest event</small></span>
          </a>
        </li>
      ))}
    </ul>
  );
}

function Figure({ label, text }: { label: string; text: string }) {
  return <span class="figure"><b>{text}</b><small>{label}</small></span>;
}
