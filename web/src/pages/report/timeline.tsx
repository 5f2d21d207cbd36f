import { useEffect, useState } from "preact/hooks";
import { get } from "../../api/http";
import type { Count, Timeline } from "../../api/types";
import { byDay } from "../../charts/by-day";
import type { Series } from "../../charts/timeline";
import { hourLabel, number } from "../../format";
import { lazy } from "../../lazy";
import { useReportPath } from "../../live/path";
import { Switch } from "../../parts/controls";
import { Table } from "../../parts/table";
import { filter, filters } from "../../router";

const Drawn = lazy<{ timeline: Timeline; series: Series }>(() => import("../../charts/timeline").then((module) => module.default));
const AGAIN_MS = 5_000;
const OWN = Intl.DateTimeFormat().resolvedOptions().timeZone;

export function TimelineCard({ campaign, timeline, asOf, count, home }: {
  campaign: string; timeline: Timeline; asOf: string | null; count: Count; home: string;
}) {
  const series = seriesOf(filters.value.get("series"));
  const unit = filters.value.get("unit") ?? timeline.unit;
  const hours = useHours(campaign, timeline, asOf, count, unit === "hour" && timeline.unit === "day");
  const [open, setOpen] = useState(false);
  const shown = unit === "day" ? byDay(timeline) : (hours ?? timeline);
  return (
    <section class="card" aria-label="Timeline">
      <div class="title">
        <h2>{shown.unit === "day" ? "By the day" : "By the hour"}</h2>
        <Switch label="Series" value={series} set={(value) => filter({ series: value === "opens" ? undefined : value })}
          choices={[{ value: "opens", label: "Opens" }, { value: "clicks", label: "Clicks" }, { value: "sent", label: "Sent" }]} />
        <span class="not-on-paper">
          <Switch label="Unit of time" value={shown.unit} set={(value) => filter({ unit: value })}
            choices={[{ value: "hour", label: "Hours" }, { value: "day", label: "Days" }]} />
        </span>
        <Zones home={home} now={timeline.timezone} />
      </div>
      <Drawn timeline={shown} series={series} />
      <Beyond timeline={shown} />
      <details onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>As a table</summary>
        {open && <Table label="Timeline" rows={[...shown.rows].reverse()} keyOf={(row) => row.start} shown={48} columns={[
          { title: shown.unit === "day" ? "Day" : "From", cell: (row) => hourLabel(row.start, shown.timezone, shown.unit) },
          { title: "Sent", number: true, cell: (row) => number(row.sent) },
          { title: "Opened", number: true, cell: (row) => number(row.opened) },
          { title: "Clicked", number: true, cell: (row) => number(row.clicked) },
          { title: "All opens", number: true, cell: (row) => number(row.total_opens) },
          { title: "All clicks", number: true, cell: (row) => number(row.total_clicks) },
        ]} />}
      </details>
    </section>
  );
}

function seriesOf(text: string | null): Series {
  return text === "clicks" || text === "sent" ? text : "opens";
}

/** The hours of a campaign that is so long that the stream tells its days. */
function useHours(campaign: string, timeline: Timeline, asOf: string | null, count: Count, wanted: boolean): Timeline | null {
  const [hours, setHours] = useState<Timeline | null>(null);
  const base = useReportPath(campaign);
  const moved = wanted ? Math.floor(Date.parse(asOf ?? "") / AGAIN_MS) || 0 : 0;
  useEffect(() => {
    if (!wanted) return setHours(null);
    const stop = new AbortController();
    get<{ timeline: Timeline }>(`${base}/timeline`, { unit: "hour", count, timezone: timeline.timezone }, stop.signal)
      .then((answer) => setHours(answer.timeline), () => undefined); // the days stay
    return () => stop.abort();
  }, [base, count, timeline.timezone, wanted, moved]);
  return hours;
}

function Zones({ home, now }: { home: string; now: string }) {
  const zones = [...new Set([home, OWN, "UTC", now])];
  return (
    <label class="zone small">
      <span class="hidden">Timezone</span>
      <select value={now} onChange={(event) => filter({ timezone: event.currentTarget.value === home ? undefined : event.currentTarget.value })}>
        {zones.map((zone) => <option key={zone} value={zone}>{zone}</option>)}
      </select>
    </label>
  );
}

function Beyond({ timeline }: { timeline: Timeline }) {
  const before = timeline.earlier;
  if (!before) return null;
  return (
    <p class="quiet small">
      Before what is shown: {number(before.sent)} sent, {number(before.total_opens)} opens, {number(before.total_clicks)} clicks.
    </p>
  );
}
