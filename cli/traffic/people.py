"""One recipient's journey: what happens to a mail from the ESP's acceptance to the last click, as offsets in time.

The shares are those of ordinary newsletters, with every edge of the report's definitions among them: a bounce after a
delivery, a soft bounce that is undone, an open without a delivery, a click without an open, a mail that was never
reported as accepted.
"""

from __future__ import annotations

import math
from random import Random
from typing import Final

from cli.traffic import world
from cli.traffic.happening import Happening, Mail
from cli.traffic.world import Agent

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE

SCANNED_SHARE: Final = 0.05
"""Of recipients behind a company's filter. It follows several links, so that a quarter of all clicks are its own."""

HIDING_SHARE: Final = 0.025
"""Of recipients behind a filter that looks like a person, and is told by how fast it follows links."""

HASTY_SHARE: Final = 0.02
"""Of recipients whose mail program fetches, or whose filter follows, in the moment of the delivery."""

HANDED_OVER: Final = ("queued", "sent")

SEED_PREFIX: Final = "seed-"
"""Of addresses that an organisation may exclude; whether it does is for the caller to find out."""


def mail_of(campaign: str, number: int, rng: Random, *, seed_share: float = 0.0, prefix: str = "r") -> Mail:
    """The recipient `number` of a campaign: the same person whichever campaign, spelled as the list has it."""
    provider, domain = _provider(rng.random())
    if rng.random() < seed_share:
        prefix = SEED_PREFIX
    country, city, network = world.PLACES[number % len(world.PLACES)]
    agent = world.PEOPLE[int(rng.random() * len(world.PEOPLE))]
    recipient = f"{prefix}{number:06d}@{domain}"
    if number % 50 == 7:  # lists are typed by people: the address is the same
        recipient = recipient.upper()
    return Mail(
        campaign=campaign,
        number=number,
        recipient=recipient,
        variant={"subject": "AB"[number % 2], "content": "123"[number % 3]},
        provider=provider,
        country=country,
        city=city,
        ip=network + str(1 + number % 250),
        agent=agent,
    )


def _provider(draw: float) -> tuple[str, str]:
    for provider, share, domain in world.PROVIDERS:
        draw -= share
        if draw < 0:
            return provider, domain
    return provider, domain


def journey(mail: Mail, sent_at_ms: int, rng: Random, *, scale: float = 1.0) -> list[Happening]:
    """All that happens to one mail, whoever tells of it.

    `scale` shortens what people do (1/60: minutes for hours); what machines do takes the time that it takes.
    """
    walk = _Walk(mail, sent_at_ms, rng, scale)
    draw = rng.random()
    if draw < 0.010:
        walk.add("rejected", 0, reason=rng.choice(world.REJECT_REASONS))
        return walk.happenings
    if draw >= 0.022:  # else the ESP's word of acceptance got lost
        walk.add("queued", 0)
        walk.add("sent", SECOND // 2)
    if draw > 0.995:
        walk.add("failed", SECOND, reason="template could not be rendered")
        return walk.happenings
    delivered_ms = _delivery(walk, rng)
    if delivered_ms >= 0:
        _engagement(walk, rng, delivered_ms)
    return walk.happenings


class _Walk:
    """Collects the happenings of one mail, times in whole milliseconds from its sending."""

    def __init__(self, mail: Mail, sent_at_ms: int, rng: Random, scale: float) -> None:
        self.mail = mail
        self.start_ms = sent_at_ms
        self.happenings: list[Happening] = []
        self._rng = rng
        self.scale = scale

    def add(self, kind: str, offset_ms: int, *, reason: str | None = None, bounce: str | None = None) -> None:
        self.happenings.append(
            Happening(
                mail=self.mail, type=kind, at_ms=self.start_ms + offset_ms, reason=reason, bounce=bounce
            )
        )

    def act(
        self,
        kind: str,
        offset_ms: int,
        agent: Agent,
        ip: str,
        *,
        position: int | None = None,
        link: str | None = None,
        machine: bool = False,
    ) -> None:
        """`position`: of a link in the mail, from 1; `link`: one that stands nowhere in it."""
        self.happenings.append(
            Happening(
                mail=self.mail,
                type=kind,
                at_ms=self.start_ms + offset_ms,
                verdict=agent.verdict,
                ip=ip,
                agent=agent,
                link=link if position is None else world.PLACED_LINKS[position - 1],
                position=position,
                machine=machine,
            )
        )

    def later(self, mean_ms: float) -> int:
        """A waiting time of people: many soon, few late."""
        return int(-math.log(1.0 - self._rng.random()) * mean_ms * self.scale) + SECOND


def _delivery(walk: _Walk, rng: Random) -> int:
    """What the receiving server says; the offset of the delivery, or -1 where there is none."""
    draw = rng.random()
    offset = SECOND + int(rng.random() * 20 * SECOND)
    if draw < 0.020:
        walk.add("bounced", offset, reason=rng.choice(world.HARD_REASONS), bounce="hard")
        return -1
    if draw < 0.035:
        walk.add("bounced", offset, reason=rng.choice(world.SOFT_REASONS), bounce="soft")
        if rng.random() < 0.4:
            return -1
        offset += int(10 * MINUTE * walk.scale) + SECOND
    elif draw < 0.080:
        for _ in range(1 + int(rng.random() * 3)):
            walk.add("deferred", offset, reason=rng.choice(world.SOFT_REASONS))
            offset += int(5 * MINUTE * walk.scale) + 3 * SECOND
        if rng.random() < 0.1:
            return -1
    if draw < 0.990:  # else the ESP's word of the delivery got lost
        walk.add("delivered", offset)
    if 0.980 < draw < 0.983:
        walk.add("bounced", offset + 30 * SECOND, reason=world.HARD_REASONS[0], bounce="hard")
    return offset


def _engagement(walk: _Walk, rng: Random, delivered_ms: int) -> None:
    mail = walk.mail
    machine_ip = world.MACHINE_NETWORK + str(100 + mail.number % 100)
    if mail.provider == "Apple" and rng.random() < 0.6:
        walk.act("opened", delivered_ms + int((2 + rng.random() * 28) * SECOND), world.APPLE_PRIVACY, machine_ip,
                 machine=True)  # fmt: skip
    if not mail.provider and rng.random() < SCANNED_SHARE:
        scanner = world.SCANNERS[mail.number % len(world.SCANNERS)]
        for position in range(1, 4 + mail.number % 4):
            offset = delivered_ms + SECOND + position * 300
            walk.act("clicked", offset, scanner, machine_ip, position=position, machine=True)
    elif mail.provider in ("", "Microsoft") and rng.random() < HIDING_SHARE:
        _hiding_scanner(walk, rng, delivered_ms)
    if rng.random() < HASTY_SHARE:
        kind, within = ("opened", SECOND) if rng.random() < 0.7 else ("clicked", 2 * SECOND)
        offset = delivered_ms + int(rng.random() * 1.2 * within)
        walk.act(kind, offset, mail.agent, mail.ip, position=1 if kind == "clicked" else None)
    draw = rng.random()
    if draw < 0.34:
        _person(walk, rng, delivered_ms)
    elif draw < 0.35:
        _click(walk, rng, delivered_ms + walk.later(2 * HOUR))
    elif draw < 0.355:
        walk.add("autoresponded", delivered_ms + MINUTE)
    if rng.random() < 0.001:
        walk.add("complained", delivered_ms + walk.later(HOUR))
    if rng.random() < 0.004:
        offset = delivered_ms + walk.later(2 * HOUR)
        walk.add("unsubscribed", offset)
        if rng.random() < 0.1:
            walk.add("subscribed", offset + walk.later(HOUR))


def _person(walk: _Walk, rng: Random, delivered_ms: int) -> None:
    """Opens, most of them soon, each later one less likely; a quarter of the openers click."""
    mail = walk.mail
    agent = mail.agent
    if mail.provider == "Gmail" and mail.number % 3:
        agent = world.GMAIL_PROXY
    elif mail.provider == "Yahoo":
        agent = world.YAHOO_PROXY
    offset = delivered_ms + walk.later(3 * HOUR)
    clicks = rng.random() < 0.25
    while True:
        walk.act("opened", offset, agent, mail.ip)
        if clicks and rng.random() < 0.8:
            _click(walk, rng, offset + walk.later(40 * SECOND))
        if rng.random() > 0.3:
            return
        offset += walk.later(5 * HOUR)


def _click(walk: _Walk, rng: Random, offset_ms: int) -> None:
    mail = walk.mail
    position = 1 + int(rng.random() ** 2 * len(world.PLACED_LINKS))
    walk.act("clicked", offset_ms, mail.agent, mail.ip, position=position)


def _hiding_scanner(walk: _Walk, rng: Random, delivered_ms: int) -> None:
    """Follows links faster than a person can, as one agent of one address, from many addresses or as many agents.

    A person may be at it in the same seconds, a link that no person sees may be among them, and so may the one that
    unsubscribes.
    """
    mail = walk.mail
    start = delivered_ms + 5 * SECOND + int(rng.random() * 20 * SECOND)
    kind = rng.randrange(4)
    count = 2 if kind == 3 else 3 + rng.randrange(3)
    for number in range(count):
        agent = world.PEOPLE[(mail.number + (number if kind == 2 else 0)) % len(world.PEOPLE)]
        ip = (
            f"172.{16 + number}.{mail.number % 200}.9"
            if kind == 1
            else world.HIDING_NETWORK + str(10 + number)
        )
        walk.act("clicked", start + number * 400, agent, ip, position=1 + number)
        if number == 0:
            walk.act("opened", start - 200, agent, ip)
    if rng.random() < 0.3:
        agent = world.PEOPLE[mail.number % len(world.PEOPLE)]
        walk.act("clicked", start + 300, agent, world.HIDING_NETWORK + "10", link=world.HIDDEN_LINK)
    # The person, beside it. Where it is no burst, nobody knows who of the two was first.
    if count > 2 and rng.random() < 0.5:
        walk.act("clicked", start + 500, mail.agent, mail.ip, position=2)
    if rng.random() < 0.2:
        walk.add("unsubscribed", start + 600)
