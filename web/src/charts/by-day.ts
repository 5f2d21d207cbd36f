// Hours → days: rows of one local date are one. The date is that of the row's own local time, so days of 23 and 25 hours
// come out right.

import type { Hour, Timeline } from "../api/types";

export function byDay(timeline: Timeline): Timeline {
  if (timeline.unit === "day") return timeline;
  const days: Hour[] = [];
  let date = "";
  for (const row of timeline.rows) {
    const day = days[days.length - 1];
    if (day && row.start.slice(0, 10) === date) {
      day.sent += row.sent;
      day.opened += row.opened;
      day.clicked += row.clicked;
      day.total_opens += row.total_opens;
      day.total_clicks += row.total_clicks;
    } else {
      date = row.start.slice(0, 10);
      days.push({ ...row });
    }
  }
  return { ...timeline, unit: "day", rows: days };
}
