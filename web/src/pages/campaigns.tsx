import { useEffect, useMemo, useState } from "preact/hooks";
import { useEvery } from "../api/every";
import { get } from "../api/http";
import { session } from "../api/session";
import type { Count, Listed, Page } from "../api/types";
import { Sparkline } from "../charts/sparkline";
import { moment, number, percent } from "../format";
import { lazy } from "../lazy";
import { CountSwitch } from "../parts/controls";
import { Empty, Failed, Loading, Notice } from "../parts/states";
import { setTitle, Text } from "../parts/text";
import { filter, filters, pathTo } from "../router";
import { count } from "../settings";

const FirstRun = lazy(() => import("./connect").then((module) => module.FirstRun));

const EVERY_MS = 3_000;
const SEARCH_EVERY_MS = 15_000;
const STEP = 50;
const MOST = 500;
const SEARCHED_PAGES = 20;

type Answer = { items: Listed[]; matching: number | null; more: boolean };

/** The newest campaigns; all of them (up to 10,000) while somebody searches, for the API's list knows no search. */
async function load(wanted: number, counted: Count, all: boolean, signal: AbortSignal): Promise<Answer> {
  const items: Listed[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < (all ? SEARCHED_PAGES : 1); page += 1) {
    const answer = await get<Page<Listed>>("/api/v1/campaigns", { limit: all ? MOST : wanted, count: counted, cursor }, signal);
    items.push(...answer.items);
    if (answer.next === null) return { items, matching: answer.matching, more: false };
    cursor = answer.next;
  }
  return { items, matching: null, more: !all };
}

export function found(item: { campaign: string; name: string | null; subject: string | null }, search: string): boolean {
  const words = search.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const text = [item.campaign, item.name, item.subject].join("\n").toLocaleLowerCase();
  return words.every((word) => text.includes(word));
}

export function CampaignsPage() {
  const search = filters.value.get("search") ?? "";
  const searching = search !== "";
  const counted = count.value;
  const [wanted, setWanted] = useState(STEP);
  useEffect(() => setTitle("Campaigns"), []);
  const { answer, error, again } = useEvery(
    (signal) => load(wanted, counted, searching, signal), searching ? SEARCH_EVERY_MS : EVERY_MS, [wanted, counted, searching],
  );
  const items = useMemo(() => answer?.items.filter((item) => found(item, search)) ?? [], [answer, search]);
  return (
    <>
      <div class="title">
        <h1 tabIndex={-1}>Campaigns</h1>
        <input class="search" type="search" placeholder="Search" aria-label="Search campaigns" value={search}
          onInput={(event) => filter({ search: event.currentTarget.value }, true)} />
        <CountSwitch />
      </div>
      {error && answer && <Notice>{error} The numbers are those of before; trying again…</Notice>}
      {items.some((item) => item.stale) && <Notice>Counting is behind: these numbers are stale and may be old.</Notice>}
      {answer === null
        ? error ? <Failed message={error} again={again} /> : <Loading what="Loading the campaigns" />
        : items.length === 0
          ? searching
            ? <Empty title="No campaign has these words in its name, subject or id." />
            : <FirstRun />
          : <List items={items} counted={counted} />}
      {answer?.more && wanted < MOST && !searching && (
        <p class="center"><button type="button" class="button quiet-button" onClick={() => setWanted(Math.min(MOST, wanted + 100))}>
          Show more of {number(answer.matching)}</button></p>
      )}
    </>
  );
}

function List({ items, counted }: { items: Listed[]; counted: Count }) {
  const zone = session.value?.timezone ?? "UTC";
  return (
    <ul class="campaigns">
      {items.map((item) => (
        <li key={item.campaign}>
          <a class="card campaign" href={pathTo("campaigns", item.campaign)}>
            <span class="what">
              <strong><Text>{item.name ?? item.campaign}</Text></strong>
              <span class="quiet small"><Text>{item.subject ?? item.campaign}</Text></span>
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
