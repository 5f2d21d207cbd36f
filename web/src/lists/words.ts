// The API's names as words.

import type { Verdicts } from "../api/types";
import { DASH } from "../format";

/** What a list of recipients is asked for. */
export const STATUSES: Record<string, string> = {
  sent: "Sent", delivered: "Delivered", deferred: "Deferred", bounced: "Bounced", rejected: "Rejected", failed: "Failed",
  complained: "Complained", unsubscribed: "Unsubscribed", opened: "Opened", clicked: "Clicked", not_opened: "Not opened",
  not_clicked: "Not clicked", inactive: "Nothing came back", scanner: "Seen by a scanner",
};

export const TYPES: Record<string, string> = {
  queued: "Queued", sent: "Sent", delivered: "Delivered", deferred: "Deferred", bounced: "Bounced", rejected: "Rejected",
  failed: "Failed", opened: "Opened", clicked: "Clicked", complained: "Complained", unsubscribed: "Unsubscribed",
  subscribed: "Subscribed", autoresponded: "Answered by a robot", unknown: "Unknown",
};

export const VERDICTS: Record<keyof Verdicts, string> = { human: "Person", proxy: "Mail proxy", scanner: "Scanner" };

const REASONS: Record<string, string> = {
  nothing: "nothing speaks against a person",
  agent_scanner: "the user agent of a scanner or script",
  network_scanner: "an address in a network of scanners",
  hidden_link: "a link that no person can see",
  agent_proxy: "the user agent of a mailbox provider's proxy",
  network_proxy: "an address in a network of a mailbox provider's proxy",
  esp_flag: "the mail service says that a machine did it",
  burst: "one of several links followed within seconds by the same machine",
  too_soon: "sooner after the delivery than a person can be",
  unsubscribe_in_burst: "unsubscribed in the middle of a burst of clicks",
};

export function reasonWords(code: string | null): string | null {
  return code === null || code === "not_judged" ? null : named(REASONS, code);
}

export function named(words: Record<string, string>, name: string): string {
  return Object.hasOwn(words, name) ? (words[name] ?? name) : name;
}

/** Others' text in a choice, where no markup isolates its direction: marks do. */
export function choiceText(text: string): string {
  return `\u2068${text.length > 80 ? `${text.slice(0, 80)}…` : text}\u2069`;
}

/** Where a recipient stands: the name of an event that happened, or nothing. */
export function statusWords(status: string | null): string {
  return status === null ? DASH : named(TYPES, status);
}

/** `subject A, content X`. */
export function variantWords(variant: Record<string, string> | null): string {
  return Object.entries(variant ?? {}).map(([field, value]) => `${field} ${value}`).join(", ");
}
