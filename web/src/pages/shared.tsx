// What a shared link shows: one report, to anybody, without signing in.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ApiError, send, wordsOf } from "../api/http";
import type { SharedReport } from "../api/types";
import { moment } from "../format";
import { SharedPath } from "../live/path";
import { useReport } from "../live/report";
import { CountSwitch } from "../parts/controls";
import { PaperButtons } from "../parts/paper-buttons";
import { PaperFacts } from "../parts/paper-facts";
import { Logo, ThemeButton } from "../parts/shell";
import { Empty, Failed, Loading } from "../parts/states";
import { Notices, Status } from "../parts/status";
import { Text, useTitle } from "../parts/text";
import { filters } from "../router";
import { count } from "../settings";
import { Sections } from "./report";

const ENDED = "This link has ended";

/** A token that never was and one that no longer is are for the reader the same. */
function hasEnded(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 401 || error.status === 400);
}

export function SharedPage() {
  const [token, setToken] = useState(location.hash.slice(1));
  const [opened, setOpened] = useState<SharedReport | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [again, setAgain] = useState(0);
  useEffect(() => {
    const changed = () => setToken(location.hash.slice(1));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  useEffect(() => {
    let left = false;
    setOpened(null);
    setError(null);
    send<SharedReport>("POST", "/api/v1/shared", { token }).then(
      (found) => { if (!left) setOpened(found); }, (failure) => { if (!left) setError(failure); });
    return () => { left = true; };
  }, [token, again]);
  return (
    <Frame organisation={opened?.organisation ?? ""}>
      {opened ? <SharedPath.Provider value={opened.path}><Shown key={opened.id} about={opened} /></SharedPath.Provider>
        : error === null ? <Unopened><Loading what="Opening the report" /></Unopened>
          : hasEnded(error) ? <Ended /> : <Unopened><Failed message={wordsOf(error)} again={() => setAgain(again + 1)} /></Unopened>}
    </Frame>
  );
}

function Unopened({ children }: { children: ComponentChildren }) {
  useTitle("Shared report");
  return <><h1 class="hidden">Shared report</h1>{children}</>;
}

function Shown({ about }: { about: SharedReport }) {
  const home = about.timezone;
  const timezone = filters.value.get("timezone") ?? home;
  const { report, state, error, again } = useReport(about.campaign, count.value, timezone === home ? undefined : timezone).value;
  const name = report?.name || about.campaign;
  const ended = error?.status === 401;
  useTitle(ended ? ENDED : name);
  if (ended) return <Ended />;
  return (
    <>
      <div class="title">
        <div class="names">
          <h1 tabIndex={-1}><Text>{name}</Text></h1>
          <p class="quiet counts">
            {report?.subject && <Text>{report.subject}</Text>}
            <span class="small not-on-paper">Shared until <time dateTime={about.expires}>{moment(about.expires, home)}</time></span>
          </p>
        </div>
        {report && <PaperButtons campaign={name} />}
        <CountSwitch />
      </div>
      {report && <PaperFacts organisation={about.organisation} counted={report.count} timezone={timezone} asOf={report.as_of} />}
      {report && <Status state={state} report={report} timezone={timezone} />}
      {report && <Notices of={report} timezone={timezone} />}
      {report ? <Sections campaign={about.campaign} report={report} timezone={timezone} home={home} />
        : error ? <Failed message={`${error.message} Trying again…`} again={again} /> : <Loading what="Loading the report" />}
    </>
  );
}

/** Also in the midst of reading, which is then said to who doesn't look. */
function Ended() {
  useTitle(ENDED);
  return (
    <div role="alert">
      <h1 tabIndex={-1}>{ENDED}</h1>
      <Empty title="It shows no report any more">
        <p>It has expired, was taken back, or was not copied whole. Ask whoever gave it to you for a new one.</p>
      </Empty>
    </div>
  );
}

function Frame({ organisation, children }: { organisation: string; children: ComponentChildren }) {
  return (
    <>
      {/* No link: the token stands where a jump's target would. */}
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>Skip to content</button>
      <header class="top">
        <span class="brand"><Logo />Campaign Reports</span>
        <span class="account"><span class="org quiet"><Text>{organisation}</Text></span><ThemeButton /></span>
      </header>
      <main id="main" tabIndex={-1}>{children}</main>
    </>
  );
}
