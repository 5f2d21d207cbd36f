// The stream, for who looks after it: how far behind, how fast, who works, and what could not be read.

import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { ApiError, get } from "../api/http";
import type { Lag } from "../api/operations";
import { session } from "../api/session";
import { duration, moment, number } from "../format";
import { perFrame } from "../live/report";
import { LiveStream, type State } from "../live/stream";
import { Needs } from "../parts/needs";
import { Failed, Loading, Notice } from "../parts/states";
import { WORDS } from "../parts/status";
import { Text, useTitle } from "../parts/text";
import { DeadLetters } from "./operations/dead";
import { Partitions } from "./operations/partitions";
import { Conditions } from "./operations/conditions";
import { Workers } from "./operations/workers";

type Watched = { lag: Lag | null; state: State; error: ApiError | null; again: () => void };

function useLag() {
  const live = useMemo(() => signal<Watched>({ lag: null, state: "connecting", error: null, again: () => undefined }), []);
  useEffect(() => {
    const frame = perFrame(live);
    const stream = new LiveStream("/ops/live", ["lag"], {
      data: (_, came) => frame.set((now) => ({ ...now, error: null, lag: came as Lag })),
      state: (state) => frame.set((now) => ({ ...now, state })),
      // A stream doesn't tell why it failed; a plain request does.
      failed: async () => {
        try {
          await get("/ops/lag", {}, undefined, 1);
          return true;
        } catch (error) {
          const known = error instanceof ApiError ? error : null;
          frame.set((now) => ({ ...now, error: known }));
          return known?.status !== 401 && known?.status !== 403;
        }
      },
    });
    frame.set((now) => ({ ...now, again: () => stream.again() }));
    return () => {
      stream.close();
      frame.stop();
    };
  }, [live]);
  return live;
}

export function OperationsPage() {
  useTitle("Operations");
  return (
    <>
      <h1 tabIndex={-1}>Operations</h1>
      <Needs scope="ops"><Watching /></Needs>
    </>
  );
}

function Watching() {
  const { lag, state, error, again } = useLag().value;
  const zone = session.value?.timezone ?? "UTC";
  if (error?.status === 403) return <Failed message={error.message} />;
  if (lag === null) return error ? <Failed message={`${error.message} Trying again…`} again={again} /> : <Loading what="Loading how it goes" />;
  // One that is set aside has a worker, and its condition says how it goes on.
  const said = (lag.workers ?? []).flatMap((worker) => worker.conditions);
  const aside = new Set(said.filter((one) => one.code === "partition_set_aside").map((one) => one.partition));
  const full = said.some((one) => one.code === "disk_full");
  const away = (lag.away ?? []).filter((partition) => !aside.has(partition));
  return (
    <>
      <p class="status">
        <span role="status" class={`light ${state}`}><i class="dot" aria-hidden="true" />{WORDS[state]}</span>
        <span>As of <time dateTime={lag.known_at ?? lag.at}>{moment(lag.known_at ?? lag.at, zone, true)}</time></span>
        <span>Times in {zone}</span>
      </p>
      {state !== "live" && state !== "connecting" && (
        <Notice>{state === "offline" ? "You are offline." : "Connection lost."} The numbers are those of before, until it is back.</Notice>
      )}
      {lag.trouble !== null && <Notice><Text cut={false}>{lag.trouble}</Text></Notice>}
      {lag.stale && <Notice>The reports say that their numbers are stale: <Text>{lag.reason ?? "counting is behind"}</Text>.</Notice>}
      <Conditions workers={lag.workers} zone={zone} />
      {away.length > 0 && (
        <Notice>Nobody counts {away.length === 1 ? "partition" : "partitions"} {away.map(number).join(", ")} of the facts at
          the moment. What comes in for {away.length === 1 ? "it" : "them"} is not lost, and is counted when a worker has taken
          {away.length === 1 ? " it" : " them"} over{full ? ", or has room on its disk again" : ""}.</Notice>
      )}
      <Figures lag={lag} zone={zone} />
      <Partitions lag={lag} zone={zone} />
      <Workers workers={lag.workers} zone={zone} />
      <DeadLetters known={lag.dead_letters} zone={zone} />
    </>
  );
}

function rate(value: number | null | undefined): string {
  return value === null || value === undefined ? number(null) : `${number(Math.round(value * 10) / 10)}/s`;
}

function Figures({ lag, zone }: { lag: Lag; zone: string }) {
  const { delay, rates } = lag;
  const known = (ms: number | null) => (ms === null ? number(null) : duration(ms));
  return (
    <section class="summary" aria-label="At a glance">
      <dl class="tiles">
        {lag.known_at === lag.at
          ? <Figure label="Behind by" value={known(lag.lag_ms)} note={`${number(lag.lag.webhooks ?? null)} webhooks, ${number(lag.lag.facts ?? null)} records of facts pending`} />
          : <Figure label="Behind by" value={number(null)} note={lag.known_at === null ? "not measured yet" : `last known at ${moment(lag.known_at, zone, true)}`} />}
        <Figure label="From webhook to number" value={known(delay.p50_ms)} note={`99 of 100 within ${known(delay.p99_ms)}`} />
        <Figure label="Webhooks" value={rate(rates.webhooks_in)} note={`${rate(rates.webhooks_out)} parsed`} />
        <Figure label="Facts" value={rate(rates.facts_in)} note={`${rate(rates.facts_out)} counted`} />
      </dl>
    </section>
  );
}

function Figure({ label, value, note }: { label: string; value: string; note: string }) {
  return <div class="tile"><dt>{label}</dt><dd><b class="value">{value}</b><small>{note}</small></dd></div>;
}
