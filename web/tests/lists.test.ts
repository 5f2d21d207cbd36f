import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Asking } from "../src/lists/asking";
import { variantsOf } from "../src/lists/choices";
import { choiceText, named, reasonWords, STATUSES, statusWords } from "../src/lists/words";
import { momentAt, wallTime } from "../src/lists/zones";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("it asks at once, then at most once in the time, and never twice at once", async () => {
  const times: number[] = [];
  let inside = 0;
  const asking = new Asking(async () => {
    times.push(performance.now() - began);
    inside += 1;
    expect(inside).toBe(1);
    await new Promise((done) => setTimeout(done, 300));
    inside -= 1;
  }, 1_000);
  const began = performance.now();
  for (let at = 0; at < 2_500; at += 50) {
    asking.moved();
    await vi.advanceTimersByTimeAsync(50);
  }
  await vi.advanceTimersByTimeAsync(5_000);
  expect(times.map(Math.round)).toEqual([0, 1_000, 2_000, 3_000]);
});

test("what moved while it was asking is asked for again, and nothing once it is closed", async () => {
  let asked = 0;
  const asking = new Asking(async () => {
    asked += 1;
    await new Promise((done) => setTimeout(done, 100));
  }, 10);
  asking.moved();
  await vi.advanceTimersByTimeAsync(50);
  asking.moved();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toBe(2);
  asking.moved();
  asking.close();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toBe(2);
});

test("clocks of a zone and moments, on days of changed clocks too", () => {
  expect(wallTime(Date.parse("2026-11-23T09:05:00Z"), "Asia/Kathmandu")).toBe("2026-11-23T14:50");
  expect(wallTime(Number.NaN, "UTC")).toBe("");
  expect(momentAt("2026-11-23T14:50", "Asia/Kathmandu")).toBe("2026-11-23T09:05:00.000Z");
  expect(momentAt("2026-03-29T01:59", "Europe/Berlin")).toBe("2026-03-29T00:59:00.000Z");
  expect(momentAt("2026-03-29T03:00", "Europe/Berlin")).toBe("2026-03-29T01:00:00.000Z");
  expect(momentAt("2026-10-25T03:00", "Europe/Berlin")).toBe("2026-10-25T02:00:00.000Z");
  expect(momentAt("2026-03-29T02:30", "Europe/Berlin")).toMatch(/^2026-03-29T0[01]:30/);
  expect(momentAt("", "UTC")).toBeUndefined();
});

test("choices of variants come from names and rows, without those that no filter takes", () => {
  expect(variantsOf({
    fields: { subject: { A: "Hello", B: "Hi" } },
    rows: [{ variant: { subject: "C", content: "X" } }, { variant: { ["f".repeat(400)]: "x", content: "y".repeat(400) } }] as never,
  })).toEqual({ content: ["X"], subject: ["A", "B", "C"] });
});

test("names without words stay as they are, and long ones are cut in a choice", () => {
  expect([named(STATUSES, "not_opened"), named(STATUSES, "constructor")]).toEqual(["Not opened", "constructor"]);
  expect([statusWords(null), statusWords("queued")]).toEqual(["–", "Queued"]);
  expect([reasonWords(null), reasonWords("not_judged"), reasonWords("new_one")]).toEqual([null, null, "new_one"]);
  expect(choiceText("x".repeat(500)).length).toBe(83);
});
