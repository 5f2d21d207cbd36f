"""One row of the recipients table and of the event log, as the API's JSON and the exports show it.

Rules:
- Flags and times follow the report's numbers. `opened` is what the summary counts under the same `count`; a time stands
  exactly where its number counts the recipient, and is the one by which the timeline counts it: `sent_at` the first
  queued or sent event, else the first that proves a sending; `delivered_at` the first delivered one, else the first
  that proves it; the others the first of their type.
- Where facts disagree, the first by (time, identity) that has the value gives it. The country is that of the group
  `breakdown.HOME`: of the first place that no machine gives. The client is that of the first open or click that has
  one and is no scanner's.
- Facts beyond a recipient's bound count in `opens` and `clicks`. Their times are not kept: first and last of people's
  opens and clicks are those of the kept ones.
- Nothing is left out: what is not known is null. The names of the fields stand in one order, in JSON and CSV alike.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import msgspec

from app import breakdown as b
from app import contribution as c
from app import facts as f
from app.errors import UNDECODABLE
from app.facts import Detail, Entry
from app.shapes_lists import Recipient, Status
from app.state import RecipientState
from app.summary import Count
from app.times import utc_text
from app.verdicts import DEFAULT_RULES, HUMAN, SCANNER, VERDICT_NAMES, Rules, judge, suspected_unsubscribes

RECIPIENT_FIELDS: Final = (
    "recipient", "status", "opened", "clicked", "opens", "clicks", "sent_at", "delivered_at", "deferred_at",
    "bounced_at", "opened_at", "last_opened_at", "clicked_at", "last_clicked_at", "complained_at",
    "unsubscribed_at", "last_event_at", "variant", "client", "country",
)  # fmt: skip
EVENT_FIELDS: Final = (
    "id", "at", "type", "recipient", "verdict", "verdict_reason", "link", "position", "reason", "smtp_reply", "ip",
    "user_agent", "client", "device", "country", "city", "provider", "variant", "esp", "esp_event_id", "message_id",
    "tags", "metadata", "excluded",
)  # fmt: skip

# The status shown: the first that holds, as (name, a bit, bits that must not be there).
_STATUSES: Final[tuple[tuple[Status, int, int], ...]] = (
    ("complained", c.COMPLAINED, 0),
    ("unsubscribed", c.UNSUBSCRIBED, 0),
    ("bounced", c.BOUNCED, 0),
    ("rejected", c.REJECTED, c.SENT),
    ("failed", c.FAILED, c.SENT),
    ("delivered", c.DELIVERED, 0),
    ("deferred", c.DEFERRED, 0),
    ("sent", c.SENT, 0),
    ("queued", c.QUEUED, 0),
)
_PROOFS: Final = frozenset(
    (f.DELIVERED, f.DEFERRED, f.BOUNCED, f.OPENED, f.CLICKED, f.COMPLAINED, f.UNSUBSCRIBED, f.AUTORESPONDED)
)
_INFERRING: Final = frozenset((f.OPENED, f.CLICKED, f.COMPLAINED, f.UNSUBSCRIBED))
_ALIVE: Final = frozenset((f.DELIVERED, f.OPENED, f.CLICKED))


class Texts(Protocol):
    """What the numbers in facts stand for."""

    def text(self, section: int, number: int) -> str | None:
        """`section`: one of `tables.book.NAMED`; None where the number has no name."""
        ...


class Course(NamedTuple):
    """What happened to one recipient. Times in ms since 1970, -1 where there is none."""

    pattern: int
    """As `contribution` has it."""
    opens: int
    clicks: int
    sent_at_ms: int
    delivered_at_ms: int
    deferred_at_ms: int
    bounced_at_ms: int
    opened_at_ms: int
    last_opened_at_ms: int
    clicked_at_ms: int
    last_clicked_at_ms: int
    complained_at_ms: int
    unsubscribed_at_ms: int
    last_event_at_ms: int
    variant: int
    """Number of the variant, 0 for none."""
    place: int
    """Number of the place that gives the country, 0 for none."""
    agents: tuple[int, ...]
    """Numbers of the agents that may give the client, the first one first."""

    @property
    def times(self) -> tuple[int, ...]:
        """In the order of the fields that show them."""
        return (
            self.sent_at_ms, self.delivered_at_ms, self.deferred_at_ms, self.bounced_at_ms, self.opened_at_ms,
            self.last_opened_at_ms, self.clicked_at_ms, self.last_clicked_at_ms, self.complained_at_ms,
            self.unsubscribed_at_ms, self.last_event_at_ms,
        )  # fmt: skip


def status_of(pattern: int) -> Status | None:
    """None: nothing that happened tells whether anything was sent."""
    for name, bit, without in _STATUSES:
        if pattern & bit and not pattern & without:
            return name
    return None


def course(state: RecipientState, count: Count, rules: Rules = DEFAULT_RULES) -> Course:
    """A recipient's facts in order → what their row shows. Opens and clicks are those of `count`."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    engaged: dict[int, list[int]] = {f.OPENED: [], f.CLICKED: []}
    counts = {f.OPENED: 0, f.CLICKED: 0}
    agents: dict[int, None] = {}
    pattern = variant = place = 0
    proof = inferring = last_soft = -1
    hard = False
    facts = state.facts
    for index, (fact, verdict) in enumerate(zip(facts, judge(facts, rules), strict=True)):
        if fact.evidence & f.EXCLUDED:
            continue
        kind = fact.type
        at_ms = fact.at_ms
        first.setdefault(kind, at_ms)
        last[kind] = at_ms
        variant = variant or fact.variant
        if verdict == HUMAN:
            place = place or fact.place
        if kind in engaged:
            if count == "all" or verdict == HUMAN:
                counts[kind] += 1
                engaged[kind].append(at_ms)
            if verdict == HUMAN:
                pattern |= c.OPENED_PEOPLE if kind == f.OPENED else c.CLICKED_PEOPLE
            if verdict == SCANNER:
                pattern |= c.SCANNED
            elif fact.agent:
                agents[fact.agent] = None
        elif kind == f.BOUNCED:
            if fact.evidence & f.SOFT_BOUNCE:
                last_soft = at_ms
            else:
                hard = True
        elif kind == f.UNSUBSCRIBED and suspected_unsubscribes(facts, rules)[index]:
            pattern |= c.UNSUBSCRIBED_SUSPECTED
        if kind in _PROOFS and proof < 0:
            proof = at_ms
        if kind in _INFERRING and inferring < 0:
            inferring = at_ms
    for kind, verdict, number in state.overflow:
        if kind in counts and verdict < 3:
            if count == "all" or verdict == HUMAN:
                counts[kind] += number
            if verdict == HUMAN:
                pattern |= c.OPENED_PEOPLE if kind == f.OPENED else c.CLICKED_PEOPLE
            if verdict == SCANNER:
                pattern |= c.SCANNED
    for kind, bit in _BITS.items():
        if kind in first:
            pattern |= bit
    alive = max((last.get(kind, -1) for kind in _ALIVE), default=-1)
    if hard or (last_soft >= 0 and alive <= last_soft):
        pattern |= c.BOUNCED
    if inferring >= 0 and not pattern & (c.DELIVERED | c.BOUNCED):
        pattern |= c.DELIVERED | c.DELIVERED_INFERRED
    handed_over = min((first[kind] for kind in (f.QUEUED, f.SENT) if kind in first), default=-1)
    sent_last = max(last.get(f.QUEUED, -1), last.get(f.SENT, -1))
    if proof >= 0 or sent_last > max(last.get(f.REJECTED, -1), last.get(f.FAILED, -1)):
        pattern |= c.SENT if handed_over >= 0 else c.SENT | c.SENT_INFERRED
    opened, clicked = engaged[f.OPENED], engaged[f.CLICKED]
    return Course(
        pattern=pattern,
        opens=counts[f.OPENED],
        clicks=counts[f.CLICKED],
        sent_at_ms=(handed_over if handed_over >= 0 else proof) if pattern & c.SENT else -1,
        delivered_at_ms=first.get(f.DELIVERED, inferring) if pattern & c.DELIVERED else -1,
        deferred_at_ms=first.get(f.DEFERRED, -1),
        bounced_at_ms=first[f.BOUNCED] if pattern & c.BOUNCED else -1,
        opened_at_ms=opened[0] if opened else -1,
        last_opened_at_ms=opened[-1] if opened else -1,
        clicked_at_ms=clicked[0] if clicked else -1,
        last_clicked_at_ms=clicked[-1] if clicked else -1,
        complained_at_ms=first.get(f.COMPLAINED, -1),
        unsubscribed_at_ms=first.get(f.UNSUBSCRIBED, -1),
        last_event_at_ms=max(last.values(), default=-1),
        variant=variant,
        place=place,
        agents=tuple(agents),
    )


_BITS: Final = {
    f.QUEUED: c.QUEUED,
    f.SENT: c.SENT_FACT,
    f.DELIVERED: c.DELIVERED,
    f.DEFERRED: c.DEFERRED,
    f.REJECTED: c.REJECTED,
    f.FAILED: c.FAILED,
    f.OPENED: c.OPENED,
    f.CLICKED: c.CLICKED,
    f.COMPLAINED: c.COMPLAINED,
    f.UNSUBSCRIBED: c.UNSUBSCRIBED,
}


def recipient_item(
    state: RecipientState, texts: Texts, count: Count, rules: Rules = DEFAULT_RULES
) -> Recipient:
    """The fields of `RECIPIENT_FIELDS`, in that order."""
    found = course(state, count, rules)
    people = count == "people"
    return {
        "recipient": state.address or None,
        "status": status_of(found.pattern),
        "opened": bool(found.pattern & (c.OPENED_PEOPLE if people else c.OPENED)),
        "clicked": bool(found.pattern & (c.CLICKED_PEOPLE if people else c.CLICKED)),
        "opens": found.opens,
        "clicks": found.clicks,
        "sent_at": utc_text(found.sent_at_ms),
        "delivered_at": utc_text(found.delivered_at_ms),
        "deferred_at": utc_text(found.deferred_at_ms),
        "bounced_at": utc_text(found.bounced_at_ms),
        "opened_at": utc_text(found.opened_at_ms),
        "last_opened_at": utc_text(found.last_opened_at_ms),
        "clicked_at": utc_text(found.clicked_at_ms),
        "last_clicked_at": utc_text(found.last_clicked_at_ms),
        "complained_at": utc_text(found.complained_at_ms),
        "unsubscribed_at": utc_text(found.unsubscribed_at_ms),
        "last_event_at": utc_text(found.last_event_at_ms),
        "variant": variant_fields(texts, found.variant),
        "client": client_name(texts, found.agents),
        "country": country_name(texts, found.place),
    }


def variant_fields(texts: Texts, variant: int) -> dict[str, str] | None:
    text = texts.text(b.VARIANT, variant) if variant else None
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, str]) or None
    except UNDECODABLE:
        return None


def client_name(texts: Texts, agents: tuple[int, ...]) -> str | None:
    """The first client that one of the agents tells."""
    for agent in agents:
        client = (texts.text(b.AGENT, agent) or "").partition("\0")[0]
        if client:
            return client
    return None


def country_name(texts: Texts, place: int) -> str | None:
    return (texts.text(b.CITY, place) or "").partition("\0")[0] or None if place else None


def event_item(entry: Entry, detail: Detail, verdict: int | None, reason: str | None) -> dict[str, object]:
    """The fields of `EVENT_FIELDS`, in that order. `verdict` and `reason` (a code of `verdicts.REASONS`) are shown of
    opens and clicks, else None."""
    fact = entry.fact
    judged = fact.type in (f.OPENED, f.CLICKED)
    return {
        "id": fact.identity.hex(),
        "at": utc_text(fact.at_ms),
        "type": f.TYPE_NAMES[fact.type],
        "recipient": entry.address or None,
        "verdict": VERDICT_NAMES[verdict] if judged and verdict is not None else None,
        "verdict_reason": reason if judged else None,
        "link": detail.link,
        "position": fact.position or None,
        "reason": detail.reason,
        "smtp_reply": detail.smtp_reply,
        "ip": detail.ip,
        "user_agent": detail.user_agent,
        "client": detail.client,
        "device": detail.device,
        "country": detail.country,
        "city": detail.city,
        "provider": detail.provider,
        "variant": detail.variant or None,
        "esp": detail.esp or None,
        "esp_event_id": detail.esp_event_id,
        "message_id": detail.message_id,
        "tags": list(detail.tags) or None,
        "metadata": detail.metadata or None,
        "excluded": bool(fact.evidence & f.EXCLUDED),
    }
