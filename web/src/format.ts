// Numbers and times in the reader's locale. The words around them are English: what is written from right to left is kept
// apart by marks, so that two of them beside each other don't change places.

const whole = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const percents = new Map<number, Intl.NumberFormat>();

export const DASH = "–";

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufefc]/;

/** Text of the locale, its direction kept to itself. */
function apart(text: string): string {
  return RIGHT_TO_LEFT.test(text) ? `\u2068${text}\u2069` : text;
}

export function number(value: number | null | undefined): string {
  return value === null || value === undefined ? DASH : apart(whole.format(value));
}

export function compact(value: number): string {
  return apart(short.format(value));
}

/** `value` in percent; small ones with more digits, so that 0.04 % isn't 0.0 %. */
export function percent(value: number | null | undefined): string {
  if (value === null || value === undefined) return DASH;
  const digits = value !== 0 && Math.abs(value) < 1 ? 2 : 1;
  let format = percents.get(digits);
  if (!format) {
    format = new Intl.NumberFormat(undefined, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });
    percents.set(digits, format);
  }
  return apart(format.format(value / 100));
}

export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return "unknown";
  if (ms < 1_000) return `${number(Math.round(ms))} ms`;
  if (ms < 60_000) return `${number(Math.round(ms / 100) / 10)} s`;
  if (ms < 3_600_000) return `${number(Math.round(ms / 60_000))} min`;
  if (ms < 172_800_000) return `${number(Math.round(ms / 3_600_000))} h`;
  return `${number(Math.round(ms / 86_400_000))} days`;
}

const formats = new Map<string, Intl.DateTimeFormat>();

function timeFormat(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const name = JSON.stringify(options);
  let format = formats.get(name);
  if (!format) {
    format = new Intl.DateTimeFormat(undefined, options);
    formats.set(name, format);
  }
  return format;
}

const DAY: Intl.DateTimeFormatOptions = { year: "numeric", month: "short", day: "numeric" };
const CLOCK: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit" };

/** A moment in a zone. Nothing was counted yet: as_of is the beginning of 1970. */
export function moment(text: string | null | undefined, timeZone: string, seconds = false): string {
  return formatted(text, { timeZone, ...DAY, ...CLOCK, ...(seconds ? { second: "2-digit" } : {}) });
}

/** Its two halves, for narrow columns. */
export function dayOf(text: string | null | undefined, timeZone: string): string {
  return formatted(text, { timeZone, ...DAY });
}

export function clockOf(text: string | null | undefined, timeZone: string): string {
  return formatted(text, { timeZone, ...CLOCK });
}

function formatted(text: string | null | undefined, options: Intl.DateTimeFormatOptions): string {
  const ms = Date.parse(text ?? "");
  return Number.isNaN(ms) || ms <= 0 ? DASH : apart(timeFormat(options).format(ms));
}

export function hourLabel(text: string, timeZone: string, unit: "hour" | "day"): string {
  const date: Intl.DateTimeFormatOptions = { timeZone, weekday: "short", day: "numeric", month: "short" };
  return formatted(text, unit === "day" ? date : { ...date, ...CLOCK });
}

let names: Intl.DisplayNames | undefined;

/** Rows that stand in place of a name, as the API calls them. */
const SPECIAL: Record<string, string> = {
  proxy: "Mail proxy", scanner: "Scanner", unknown: "Unknown", other: "Other", overflow: "Beyond what is told apart",
  "not provided by the ESP": "Not provided by the mail service",
};

export function rowName(name: string): string {
  return Object.hasOwn(SPECIAL, name) ? (SPECIAL[name] ?? name) : name;
}

/** A country's name; rows that are no country keep their own words. */
export function country(code: string): string {
  if (!/^[A-Z]{2}$/.test(code)) return rowName(code);
  names ??= new Intl.DisplayNames(undefined, { type: "region" });
  return apart(names.of(code) ?? code);
}
