// Wall clocks of a zone, for fields of date and time: browsers' own fields know only the machine's zone.

const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat("en-US", {
      timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
    });
    formats.set(zone, format);
  }
  return format;
}

/** What the clock of the zone shows, `2026-03-29T01:30`; "" for what is no time. */
export function wallTime(ms: number, zone: string): string {
  if (Number.isNaN(ms)) return "";
  const parts = Object.fromEntries(formatOf(zone).formatToParts(ms).map((part) => [part.type, part.value]));
  return `${parts.year?.padStart(4, "0")}-${parts.month}-${parts.day}T${parts.hour}:${parts.minute}`;
}

/** The moment at which the clock shows that, as RFC 3339; undefined for what is no time. A time that the clock leaves
 * out becomes one an hour beside it; of a time that comes twice it is one of the two. */
export function momentAt(wall: string, zone: string): string | undefined {
  const wanted = Date.parse(`${wall}Z`);
  if (Number.isNaN(wanted)) return undefined;
  let ms = wanted;
  for (let round = 0; round < 2; round += 1) ms -= Date.parse(`${wallTime(ms, zone)}Z`) - wanted;
  return new Date(ms).toISOString();
}
