import type { VNode } from "preact";
import { afterEach, expect, test, vi } from "vitest";
import { byDay } from "../src/charts/by-day";
import { lettersOf } from "../src/charts/countries";
import { paths } from "../src/charts/sparkline";
import { duration, moment, percent } from "../src/format";
import type { Worker } from "../src/api/operations";
import { merged } from "../src/live/report";
import { pauseMs } from "../src/live/stream";
import { fileName } from "../src/parts/paper-buttons";
import { told } from "../src/pages/operations/conditions";
import { Text, webAddress } from "../src/parts/text";
import { arePersonal } from "../src/pages/report/personal";
import { Notices, noticeWords } from "../src/parts/status";
import type { Links, Report } from "../src/api/types";

afterEach(() => vi.unstubAllGlobals());

test("only addresses of the web become links", () => {
  expect(webAddress("https://example.com/a")).toBe("https://example.com/a");
  expect(webAddress("HTTP://EXAMPLE.com")).toBe("http://example.com/");
  for (const other of ["javascript:alert(1)", " java\nscript:alert(1)", "data:text/html,x", "/campaigns", "//x.example", "", "mailto:a@b"]) {
    expect(webAddress(other)).toBeNull();
  }
});

test("links are personal where nearly all of the first ones have one clicker", () => {
  const links = (own: number, shared: number, other: number) => ({
    rows: Array.from({ length: own + shared }, (_, at) => ({ unique_clicks: at < own ? 1 : 9 })), other: { links: other },
  }) as unknown as Links;
  expect(arePersonal(links(290, 10, 5000))).toBe(true);
  expect(arePersonal(links(250, 50, 5000))).toBe(false);
  expect(arePersonal(links(300, 0, 0))).toBe(false);
});

test("notices tell times as the page does, and no partitions", () => {
  expect(noticeWords("events from before 2026-11-30T15:50:19.919Z may be missing (partitions 0, 2): so", "Europe/Berlin"))
    .toBe(`events from before ${moment("2026-11-30T15:50:19.919Z", "Europe/Berlin")} may be missing: so`);
});

test("a single note stands in its line, several in a list", () => {
  const tagsOf = (node: unknown): unknown[] => {
    if (Array.isArray(node)) return node.flatMap(tagsOf);
    if (node === null || typeof node !== "object") return [];
    const { type, props } = node as VNode<{ children?: unknown }>;
    return [type, ...tagsOf(props.children)];
  };
  const shown = (count: number) => {
    const notices = Array.from({ length: count }, (_, at) => ({ code: "gap", message: `note ${at}`, at: null, partition: at }));
    return tagsOf(Notices({ of: { notices } as unknown as Report, timezone: "UTC" }));
  };
  expect(shown(0)).toEqual([]);
  expect(shown(1)).toContain(Text);
  expect(shown(1)).not.toContain("ul");
  expect(shown(2).filter((tag) => tag === "li")).toHaveLength(2);
  expect(shown(5).filter((tag) => tag === "ul" || tag === "details")).toEqual(["ul", "details", "ul"]);
});

test("hours become days of their own local date, on days of 23 and 25 hours too", () => {
  const hour = (start: string, sent: number) => ({ start, sent, opened: 1, clicked: 0, total_opens: 2, total_clicks: 0 });
  const days = byDay({
    timezone: "Europe/Berlin", unit: "hour",
    rows: [hour("2026-10-25T02:00:00+02:00", 1), hour("2026-10-25T02:00:00+01:00", 2), hour("2026-10-26T00:00:00+01:00", 4)],
  });
  expect(days.unit).toBe("day");
  expect(days.rows.map((row) => [row.start, row.sent, row.total_opens])).toEqual([
    ["2026-10-25T02:00:00+02:00", 3, 4], ["2026-10-26T00:00:00+01:00", 4, 2],
  ]);
});

test("what comes replaces its sections, and a snapshot everything", () => {
  const before = { campaign: "a", as_of: "1", summary: { sent: 1 }, links: { rows: [] } } as unknown as Report;
  const after = merged(before, "change", { as_of: "2", summary: { sent: 2 } } as unknown as Report);
  expect(after).toEqual({ campaign: "a", as_of: "2", summary: { sent: 2 }, links: { rows: [] } });
  expect(after.links).toBe(before.links);
  expect(merged(before, "snapshot", { campaign: "b" })).toEqual({ campaign: "b" });
});

test("pauses grow, have chance in them, and an end", () => {
  expect([1, 2, 3, 20].map((failures) => pauseMs(failures, 0.5))).toEqual([500, 1000, 2000, 30000]);
  expect(pauseMs(1, 0)).toBe(250);
  expect(pauseMs(20, 0.999)).toBeLessThan(45_000);
});

test("numbers that are small or missing stay readable", () => {
  expect(percent(null)).toBe("–");
  expect(percent(41)).toMatch(/^41[.,]0\s?%$/);
  expect(percent(0.04)).toMatch(/^0[.,]04\s?%$/);
  expect([duration(null), duration(35), duration(120_000)]).toEqual(["unknown", "35 ms", "2 min"]);
});

test("a sparkline stays within its frame", () => {
  expect(paths([], 100, 10)).toEqual({ line: "", area: "" });
  expect(paths([0, 5, 10], 100, 10).line).toBe("M0.0 10.0L50.0 5.0L100.0 0.0");
  expect(paths([3], 100, 10).line).toBe("M0.0 0.0L100 0.0");
});

test("the map knows its countries", () => {
  expect([lettersOf("276", "Germany"), lettersOf(undefined, "Kosovo"), lettersOf("999", "x")]).toEqual(["DE", "XK", null]);
});

test("a picture's name is one that every file system takes", () => {
  expect(fileName("spring 2026")).toBe("spring 2026-report.png");
  expect(fileName("../a\\b:\u202ec\n")).toBe("_a_b_c_-report.png");
  expect(fileName("...")).toBe("campaign-report.png");
});

test("what several processes say is wrong stands once, with all of them", () => {
  const worker = (name: string, ...said: [message: string, since: string][]) =>
    ({
      worker: name, role: "api", host: "h",
      conditions: said.map(([message, since]) => ({ code: "c", message, since, partition: null, progress: null, count: null, stale: false })),
    }) as unknown as Worker;
  const found = told([
    worker("a", ["bad file", "2026-11-01T10:00:02Z"]),
    worker("b", ["bad file", "2026-11-01T10:00:01Z"], ["another", "2026-11-01T10:00:03Z"]),
  ]);
  expect(found.map((one) => [one.condition.message, one.condition.since, one.by.map((by) => by.worker)])).toEqual([
    ["bad file", "2026-11-01T10:00:01Z", ["a", "b"]], ["another", "2026-11-01T10:00:03Z", ["b"]],
  ]);
});
