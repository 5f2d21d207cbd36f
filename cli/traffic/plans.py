"""Which campaigns a run plays, and when they start."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from cli.traffic.happening import Happening
from cli.traffic.people import HOUR, SECOND, journey, mail_of
from cli.traffic.schedule import CampaignPlan, Rhythm, happenings, more_opens

DEFAULT_CAMPAIGNS: Final = ("spring", "newsletter-47", "flash-sale")
SAMPLE: Final = 2000
"""Journeys that a mean is taken of."""
LIVE_SCALE: Final = 1 / 120
FIRST_SHARE: Final = 0.6
"""Of endless traffic, the part that the first campaign gets."""

Known = tuple[int, Happening]


def past(names: tuple[str, ...], recipients: int, now_ms: int, *, hours: int = 48) -> list[CampaignPlan]:
    """Campaigns that are over, all within the last `hours`: each starts a while after the one before."""
    each = max(1, recipients // len(names))
    plans = []
    for order, name in enumerate(names):
        start_ms = now_ms - hours * HOUR + order * (hours * HOUR * 2 // 3) // len(names)
        plans.append(CampaignPlan(name=name, start_ms=start_ms, gap_ms=2 * HOUR / each, recipients=each))
    return plans


def mean_facts(tells: Callable[[Happening], bool]) -> float:
    """Facts of a journey on average, of those that are told: how many recipients a number of facts needs."""
    rng = Random(0)
    mails = [mail_of("", number, rng) for number in range(SAMPLE)]
    return max(1, sum(tells(each) for mail in mails for each in journey(mail, 0, rng))) / SAMPLE


def live(
    names: tuple[str, ...],
    recipients: int | None,
    start_ms: int,
    rate: float,
    *,
    mean: float,
    prefix: str = "r",
) -> list[CampaignPlan]:
    """Campaigns with minutes for hours, so that they move at about `rate` facts a second, the first one the most.

    `mean`: facts of a recipient, as `mean_facts` gives them.
    """
    each = None if recipients is None else max(1, recipients // len(names))
    plans = []
    for order, name in enumerate(names):
        share = FIRST_SHARE if order == 0 else (1 - FIRST_SHARE) / (len(names) - 1)
        gap_ms = mean * SECOND / (rate * (share if len(names) > 1 and each is None else 1 / len(names)))
        plans.append(
            CampaignPlan(
                name=name, start_ms=start_ms, gap_ms=gap_ms, recipients=each, prefix=prefix, scale=LIVE_SCALE
            )
        )
    return plans


def finite(plans: list[CampaignPlan], rhythm: Rhythm, rng: Random, facts: int) -> Iterator[Known]:
    """`facts` happenings: the journeys, and when they are over before, people who look again."""
    return itertools.islice(
        itertools.chain(happenings(plans, rhythm, rng), more_opens(plans, rhythm, rng)), facts
    )


def prefix_of(now_ms: int) -> str:
    """A prefix of addresses that another run, minutes later, does not use: its recipients are other people."""
    return f"r{_short(now_ms // 60_000)}-"


def names_of(now_ms: int, seed: int) -> tuple[str, ...]:
    """Campaigns that no other run plays: its ledger says all of them."""
    return tuple(f"{name}-{_short(now_ms)}-{_short(seed)}" for name in DEFAULT_CAMPAIGNS)


def _short(number: int) -> str:
    number, text = abs(number), ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + text
    return text
