"""The order in which the happenings of several campaigns become known: by time, with some disorder.

Rules:
- A campaign's sending is a burst; its recipients' journeys start evenly within it.
- Only what can still happen before the next start is held back, so memory stays small whatever the number of facts.
- A share of the happenings becomes known late, some of them by hours: clicks come before their opens, and opens before
  their delivery. A fact that is known late has not happened later.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

import msgspec

from cli.traffic import people
from cli.traffic.happening import Happening
from cli.traffic.people import HOUR, SECOND

LAST_EVERY: Final = 25
"""Of a recipient in so many it becomes known last that the mail was handed over, behind opens and clicks."""


class CampaignPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One mailing: who gets it, when its sending starts and how long that takes."""

    name: str
    start_ms: int
    gap_ms: float
    """Between two mails of the burst."""
    recipients: int | None
    """None: without end."""
    prefix: str = "r"
    scale: float = 1.0
    """Of the time that people take; 1/60 makes minutes of hours."""


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    until_ms: int | None = None
    """Nothing happens after it: the present, for what lies in the past. None: time goes on."""
    late_share: float = 0.03
    seed_share: float = 0.0
    tells: Callable[[Happening], bool] = lambda happening: True
    """Whether anybody has a word for it; what nobody tells of does not happen."""


def happenings(plans: list[CampaignPlan], rhythm: Rhythm, rng: Random) -> Iterator[tuple[int, Happening]]:
    """All happenings of all campaigns, each with the time when it becomes known, in that order."""
    pending: list[tuple[int, int, Happening]] = []
    serial = 0
    for start_ms, plan, number in _starts(plans):
        while pending and pending[0][0] <= start_ms:
            known_ms, _, happening = heapq.heappop(pending)
            yield known_ms, happening
        mail = people.mail_of(plan.name, number, rng, seed_share=rhythm.seed_share, prefix=plan.prefix)
        for happening in people.journey(mail, start_ms, rng, scale=plan.scale):
            if rhythm.until_ms is not None and happening.at_ms >= rhythm.until_ms:
                continue
            if not rhythm.tells(happening):
                continue
            serial += 1
            happening.serial = serial
            known_ms = _known_at(happening.at_ms, plan.scale, rhythm.late_share, rng)
            if happening.type in people.HANDED_OVER and number % LAST_EVERY == 0:
                known_ms = happening.at_ms + int(4 * HOUR * plan.scale)
            heapq.heappush(pending, (known_ms, serial, happening))
    while pending:
        known_ms, _, happening = heapq.heappop(pending)
        yield known_ms, happening


def more_opens(plans: list[CampaignPlan], rhythm: Rhythm, rng: Random) -> Iterator[tuple[int, Happening]]:
    """People who look again, without end: what is left to happen when every journey is over."""
    serial = 1 << 40
    while True:
        plan = rng.choice(plans)
        number = rng.randrange(plan.recipients or 1000)
        mail = people.mail_of(plan.name, number, rng, seed_share=rhythm.seed_share, prefix=plan.prefix)
        until_ms = rhythm.until_ms or plan.start_ms + 24 * HOUR
        at_ms = plan.start_ms + int(rng.random() * max(until_ms - plan.start_ms, SECOND))
        serial += 1
        yield (
            at_ms,
            Happening(
                mail=mail, type="opened", at_ms=at_ms, verdict="human", ip=mail.ip, agent=mail.agent, serial=serial,
            ),
        )  # fmt: skip


def _known_at(at_ms: int, scale: float, late_share: float, rng: Random) -> int:
    draw = rng.random()
    if draw >= late_share:
        return at_ms
    slow = 4 * HOUR if draw < late_share / 5 else 30 * SECOND
    return at_ms + int(rng.random() * slow * scale)


def _starts(plans: list[CampaignPlan]) -> Iterator[tuple[int, CampaignPlan, int]]:
    """(time, campaign, recipient's number) of each mail, in order of time."""

    def of_plan(order: int, plan: CampaignPlan) -> Iterator[tuple[int, int, int]]:
        numbers = itertools.count() if plan.recipients is None else range(plan.recipients)
        for number in numbers:
            yield plan.start_ms + int(number * plan.gap_ms), order, number

    merged = heapq.merge(*(of_plan(order, plan) for order, plan in enumerate(plans)))
    return ((start_ms, plans[order], number) for start_ms, order, number in merged)
