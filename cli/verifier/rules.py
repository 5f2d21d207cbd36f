"""What one recipient counts as: the definitions of the report's table "Summary", a second time, and its groups.

Written from the words of `docs/report.md`, with sets and maxima over all of a recipient's facts, and without a look
at how the engine does it. Readings: a bounce without a class is hard; "later" means strictly later; a recipient that
counts as bounced is not inferred to be delivered. Where facts of one time disagree the ledger's first one counts: the
traffic has no such ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from cli.traffic.ledger import FactLine
from cli.verifier.verdicts import USUAL, Thresholds, suspected, verdicts_of

PROOFS: Final = frozenset(
    ("delivered", "deferred", "bounced", "opened", "clicked", "complained", "unsubscribed", "autoresponded")
)
VERDICTS: Final = ("human", "proxy", "scanner")


class Act(NamedTuple):
    """An open or a click, and who made it."""

    fact: FactLine
    verdict: str


class Counted(msgspec.Struct, kw_only=True):
    """Flags and times (ms, None: never) of one recipient, under both counts."""

    flags: frozenset[str]
    """Names of the summary's numbers that count this recipient (`…_people` under that count)."""
    sent_at: int | None
    opened_at: int | None
    opened_people_at: int | None
    clicked_at: int | None
    clicked_people_at: int | None
    opens: list[tuple[int, str]]
    """(time, verdict) of every open."""
    clicks: list[tuple[int, str]]
    acts: list[Act]
    """All of both, in order of time."""
    newest_at: int
    provider: str | None
    variant: dict[str, str] | None
    country: str | None
    """Where the person was first: of facts that no machine made."""
    reason: str | None
    """Of the bounce that counts."""


def count_recipient(facts: Sequence[FactLine], limits: Thresholds = USUAL) -> Counted:
    """`facts`: at least one, of one recipient, none of them twice."""
    facts = sorted(facts, key=lambda fact: fact.at)
    verdicts = verdicts_of(facts, limits)
    acts = [Act(fact, verdict) for fact, verdict in zip(facts, verdicts, strict=True) if verdict]
    times: dict[str, list[int]] = {}
    for fact in facts:
        times.setdefault(fact.type, []).append(fact.at)
    opens = [(fact.at, verdict) for fact, verdict in acts if fact.type == "opened"]
    clicks = [(fact.at, verdict) for fact, verdict in acts if fact.type == "clicked"]
    flags = {"sent"} if is_sent(times) else set()
    handed = _all(times, "queued", "sent")
    proofs = _all(times, *PROOFS)
    if "sent" in flags and not handed:
        flags.add("sent_inferred")
    bounced = is_bounced(facts, times)
    if bounced:
        flags.add("bounced")
    if "delivered" in times:
        flags.add("delivered")
        if bounced:
            flags.add("bounced_after_delivery")
    elif not bounced and _all(times, "opened", "clicked", "complained", "unsubscribed"):
        flags |= {"delivered", "delivered_inferred"}
    flags |= {
        name for name in ("opened", "clicked", "complained", "unsubscribed", "deferred") if name in times
    }
    flags |= {name for name in ("rejected", "failed") if name in times and "sent" not in flags}
    if suspected(facts, limits):
        flags.add("unsubscribed_suspected")
    people_opens = [at for at, verdict in opens if verdict == "human"]
    people_clicks = [at for at, verdict in clicks if verdict == "human"]
    flags |= {"opened_people" for _ in people_opens} | {"clicked_people" for _ in people_clicks}
    return Counted(
        flags=frozenset(flags),
        sent_at=min(handed or proofs) if "sent" in flags else None,
        opened_at=_first(at for at, _ in opens),
        opened_people_at=_first(people_opens),
        clicked_at=_first(at for at, _ in clicks),
        clicked_people_at=_first(people_clicks),
        opens=opens,
        clicks=clicks,
        acts=acts,
        newest_at=max(fact.at for fact in facts),
        provider=next((fact.provider for fact in facts if fact.provider), None),
        variant=next((fact.variant for fact in facts if fact.variant), None),
        country=next(
            (
                fact.country
                for fact, verdict in zip(facts, verdicts, strict=True)
                if fact.country and verdict in ("human", None)
            ),
            None,
        ),
        reason=reason_of(facts) if bounced else None,
    )


def is_sent(times: dict[str, list[int]]) -> bool:
    """A proof, or handed over later than refused."""
    if any(kind in PROOFS for kind in times):
        return True
    handed, refused = _all(times, "queued", "sent"), _all(times, "rejected", "failed")
    return bool(handed) and (not refused or max(handed) > max(refused))


def is_bounced(facts: Sequence[FactLine], times: dict[str, list[int]]) -> bool:
    """A hard bounce, or a soft one with no later delivery, open or click."""
    soft = [fact.at for fact in facts if fact.type == "bounced" and fact.bounce == "soft"]
    if len(soft) < len(times.get("bounced", ())):
        return True
    alive = _all(times, "delivered", "opened", "clicked")
    return bool(soft) and not any(at > max(soft) for at in alive)


def reason_of(facts: Iterable[FactLine]) -> str | None:
    """The first one that is given: of the hard bounces where there is one, else of the soft ones."""
    bounces = [fact for fact in facts if fact.type == "bounced"]
    hard = [fact for fact in bounces if fact.bounce != "soft"]
    return next((fact.reason for fact in hard or bounces if fact.reason), None)


def _all(times: dict[str, list[int]], *kinds: str) -> list[int]:
    return [at for kind in kinds for at in times.get(kind, ())]


def _first(times: Iterable[int]) -> int | None:
    return min(times, default=None)
