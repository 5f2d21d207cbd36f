// Which page is shown, by the address.

import type { ComponentChildren, ComponentType } from "preact";
import { begin, may, session, unasked } from "./api/session";
import { lazy } from "./lazy";
import { CampaignsPage } from "./pages/campaigns";
import { SignInPage } from "./pages/sign-in";
import { Needs } from "./parts/needs";
import { Shell } from "./parts/shell";
import { Empty, Failed, Loading } from "./parts/states";
import { useTitle } from "./parts/text";
import { path } from "./router";

export type CampaignPage = ComponentType<{ campaign: string }>;

const ReportPage = lazy<{ campaign: string }>(() => import("./pages/report").then((module) => module.ReportPage));
const ConnectPage = lazy(() => import("./pages/connect").then((module) => module.ConnectPage));
const SharedPage = lazy(() => import("./pages/shared").then((module) => module.SharedPage));
const OperationsPage = lazy(() => import("./pages/operations").then((module) => module.OperationsPage));

const AbPage = lazy<{ campaign: string }>(() => import("./pages/ab").then((module) => module.AbPage));
const ComparePage = lazy(() => import("./pages/compare").then((module) => module.ComparePage));

const RecipientsPage = lazy<{ campaign: string }>(() => import("./pages/recipients").then((module) => module.RecipientsPage));
const RecipientPage = lazy<{ campaign: string; one: string }>(() => import("./pages/recipient").then((module) => module.RecipientPage));
const EventsPage = lazy<{ campaign: string }>(() => import("./pages/events").then((module) => module.EventsPage));

/** Below `/campaigns/NAME`; a new page is a line here. */
const OF_A_CAMPAIGN: Record<string, CampaignPage> = {
  "": ReportPage,
  ab: AbPage,
  recipients: RecipientsPage,
  events: EventsPage,
};
/** Below `/campaigns/NAME/PAGE`: one row of that page's list. */
const ONE_OF_A_CAMPAIGN: Record<string, ComponentType<{ campaign: string; one: string }>> = {
  recipients: RecipientPage,
};
/** At `/NAME`. */
const PAGES: Record<string, ComponentType> = {
  "": CampaignsPage,
  campaigns: CampaignsPage,
  compare: ComparePage,
  connect: ConnectPage,
  operations: OperationsPage,
};

export function App() {
  if (path.value[0] === "shared") return <SharedPage />;
  if (unasked.value) return <Beginning><Failed message={unasked.value} again={() => void begin()} /></Beginning>;
  if (session.value === undefined) return <Beginning><Loading /></Beginning>;
  if (session.value === null) return <SignInPage />;
  return <Shell><Chosen /></Shell>;
}

function Beginning({ children }: { children: ComponentChildren }) {
  return <main class="sign-in"><h1 class="hidden">Campaign Reports</h1>{children}</main>;
}

/** Pages for which a key needs another scope than `read`; they ask for it themselves. */
const OF_OTHERS = ["connect", "operations"];

function Chosen() {
  const [first = "", campaign, page = "", ...rest] = path.value;
  if (!may("read") && !OF_OTHERS.includes(first)) return <><h1 tabIndex={-1}>Reports</h1><Needs scope="read" /></>;
  if (first === "campaigns" && campaign !== undefined) {
    const [one] = rest;
    if (one !== undefined && rest.length === 1) {
      const One = Object.hasOwn(ONE_OF_A_CAMPAIGN, page) ? ONE_OF_A_CAMPAIGN[page] : undefined;
      return One ? <One key={`${campaign} ${one}`} campaign={campaign} one={one} /> : <NotFound />;
    }
    const Found = Object.hasOwn(OF_A_CAMPAIGN, page) ? OF_A_CAMPAIGN[page] : undefined;
    return Found && rest.length === 0 ? <Found key={campaign} campaign={campaign} /> : <NotFound />;
  }
  const Found = Object.hasOwn(PAGES, first) ? PAGES[first] : undefined;
  return Found && campaign === undefined ? <Found /> : <NotFound />;
}

function NotFound() {
  useTitle("Not found");
  return <><h1 tabIndex={-1}>Not found</h1><Empty title="There is no page at this address."><a href="/">To the campaigns</a></Empty></>;
}
