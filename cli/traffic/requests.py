"""Happenings → requests, each with the ledger's lines about it.

Rules:
- A request is of one target (organisation and source) and carries what became known since the last one, as many events
  as its ESP puts into one.
- A recipient's mail goes out through the same source of an organisation every time (`Senders`), a campaign's through
  all of them.
- Duplicates are of three kinds: the same event twice, again in a later body, and the resend of a whole body, with new
  event ids where the ESP's don't survive that. None of them changes a number.
- Broken bodies are requests of their own; broken events stand among good ones. Both are signed like the others.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

import msgspec

from cli.traffic import poison
from cli.traffic.esps import WRITERS
from cli.traffic.esps.writer import Credentials, Event
from cli.traffic.happening import Happening
from cli.traffic.ledger import FactLine, PoisonLine, encode_line

Said = tuple[Event, FactLine]

SHARES: Final = {"sendgrid": 3.0}
"""Of an organisation's recipients, how many an ESP gets beside another one."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where an organisation's events go."""

    org: str
    esp: str
    path: str
    is_excluded: Callable[[str], bool]
    is_hidden: Callable[[str], bool] = lambda link: False
    """Whether the source says of a link that no person can see it."""
    personal: str = ""
    """A parameter of links that the source strips: each recipient's links carry a value of their own in it."""
    credentials: Credentials = Credentials()


class Senders:
    """Through which source of each organisation a recipient's mail goes out. `orgs`: each one's targets."""

    def __init__(self, orgs: list[tuple[Target, ...]]) -> None:
        self._orgs = [_by_share(targets) for targets in orgs if targets]

    def of(self, number: int) -> list[Target]:
        """One target for each organisation: for the same number the same ones."""
        draw = number * 0.6180339887498949 % 1.0
        return [next(target for until, target in org if draw < until) for org in self._orgs]

    def tells(self, happening: Happening) -> bool:
        """Whether anybody has a word for it."""
        targets = self.of(happening.mail.number)
        return any(happening.type in WRITERS[target.esp].types for target in targets)


def _by_share(targets: tuple[Target, ...]) -> list[tuple[float, Target]]:
    shares = [SHARES.get(target.esp, 1.0) for target in targets]
    upper = [share / sum(shares) for share in itertools.accumulate(shares)]
    return list(zip([*upper[:-1], 1.0], targets, strict=True))


class Request(msgspec.Struct, kw_only=True):
    number: int
    target: Target
    body: bytes
    """Not yet signed."""
    facts: int
    """Of the facts in it, those sent for the first time."""
    events: int
    lines: bytes
    """For the ledger, to be written before the request is sent."""
    expect_refused: int = 0


class Mixture(msgspec.Struct, frozen=True, kw_only=True):
    batch: int = 100
    """Events of a request at most; sizes vary."""
    poison_share: float = 0.001
    """Of requests."""
    duplicate_share: float = 0.02
    """Of events."""
    run: str = ""
    """Makes ids of events unique to this run."""
    first_request: int = 0
    """Number of the first request; a ledger that goes on needs one above its last."""


class RequestMaker:
    """Collects happenings and gives requests."""

    def __init__(self, senders: Senders, mixture: Mixture, rng: Random) -> None:
        self._senders = senders
        self._mixture = mixture
        self._rng = rng
        self._number = mixture.first_request
        self._waiting: dict[int, tuple[Target, list[Said]]] = {}
        self._again: dict[int, list[Said]] = {}

    def add(self, happening: Happening) -> Iterator[Request]:
        """Takes in what happened, for every organisation alike; gives the requests that are full by it."""
        for target in self._senders.of(happening.mail.number):
            if happening.type not in WRITERS[target.esp].types:
                continue
            waiting = self._waiting.setdefault(id(target), (target, []))[1]
            said = self._said(target, happening)
            waiting.append(said)
            draw = (
                self._rng.random() / self._mixture.duplicate_share if self._mixture.duplicate_share else 1.0
            )
            if draw < 0.3:
                waiting.append(_as_duplicate(said))
            elif draw < 0.7:
                self._again.setdefault(id(target), []).append(said)
            if len(waiting) >= self._size(target):
                yield from self._all(target, waiting)

    def flush(self) -> Iterator[Request]:
        """What waits for a fuller request."""
        for target, waiting in self._waiting.values():
            waiting += [_as_duplicate(said) for said in self._again.pop(id(target), ())]
            yield from self._all(target, waiting)

    def _all(self, target: Target, waiting: list[Said]) -> Iterator[Request]:
        most = self._most(target)
        for start in range(0, len(waiting), most):
            yield from self._requests(target, waiting[start : start + most])
        waiting.clear()

    def _most(self, target: Target) -> int:
        return min(self._mixture.batch, WRITERS[target.esp].largest)

    def _size(self, target: Target) -> int:
        most = self._most(target)
        return most if most < 4 else most // 2 + int(self._rng.random() * most / 2)

    def _said(self, target: Target, happening: Happening) -> Said:
        mail = happening.mail
        event_id = f"{self._mixture.run}{happening.serial:x}.{target.org}"
        said = happening
        if target.personal and happening.link is not None:
            link = with_parameter(happening.link, target.personal, f"r{mail.number}")
            said = msgspec.structs.replace(happening, link=link)
        event, meant = WRITERS[target.esp].event(said, event_id)
        hidden = happening.link is not None and target.is_hidden(happening.link)
        line = FactLine(
            request=0, id=event_id, org=target.org, esp=target.esp, campaign=mail.campaign, type=happening.type,
            recipient=mail.recipient, at=meant.at_ms, reported=str(meant.at_ms), event_id=meant.own_id,
            link=happening.link, position=meant.position, ip=meant.ip, user_agent=meant.user_agent,
            client=meant.client, device=meant.device, system=meant.system, browser=meant.browser,
            country=meant.country, city=meant.city, provider=meant.provider, variant=meant.variant,
            verdict="scanner" if hidden else meant.verdict, bounce=meant.bounce, reason=meant.reason,
            machine=meant.machine, hidden=hidden, excluded=target.is_excluded(mail.recipient),
        )  # fmt: skip
        return event, line

    def _requests(self, target: Target, said: list[Said]) -> Iterator[Request]:
        events = list(said)
        most = self._most(target)
        again = self._again.get(id(target), [])
        while again and len(events) < most:
            events.append(_as_duplicate(again.pop(0)))
        if self._rng.random() < 0.05:
            self._rng.shuffle(events)
        poisoned = bool(self._mixture.poison_share) and self._rng.random() < self._mixture.poison_share
        if poisoned and target.esp == "sendgrid" and self._rng.random() < 0.6:
            yield self._poison_body(target)
            poisoned = False
        if poisoned and most == 1:
            yield self._request(target, [], broken=True)
            poisoned = False
        yield self._request(target, events, broken=poisoned)
        if most == 1 and again:
            yield self._request(target, [_as_duplicate(again.pop(0))])
        if target.esp != "generic" and self._rng.random() < self._mixture.duplicate_share * 0.3:
            yield self._request(target, [renewed(pair, f"again{self._number}") for pair in said])

    def _request(self, target: Target, said: list[Said], *, broken: bool = False) -> Request:
        number = self._next()
        lines = []
        fresh = 0
        for _event, line in said:
            line.request = number
            fresh += not line.duplicate
            lines.append(encode_line(line))
        events = [event for event, _line in said]
        refused = 0
        if broken:
            kinds = poison.EVENTS.get(target.esp, poison.NO_RECIPIENT)
            what = self._rng.choice(list(kinds))
            events.insert(self._rng.randrange(len(events) + 1), kinds[what](f"poison-{number}", target.esp))
            refused = target.esp == "generic"
            where = "refused" if refused else "event"
            lines.append(encode_line(PoisonLine(request=number, org=target.org, what=what, where=where)))
        lines.append(b"")
        return Request(
            number=number,
            target=target,
            body=WRITERS[target.esp].body(events),
            facts=fresh,
            events=len(said),
            lines=b"\n".join(lines),
            expect_refused=refused,
        )

    def _poison_body(self, target: Target) -> Request:
        number = self._next()
        what = self._rng.choice(list(poison.BODIES))
        line = encode_line(PoisonLine(request=number, org=target.org, what=what, where="body"))
        body = poison.BODIES[what](b"poison-%d" % number)
        return Request(number=number, target=target, body=body, facts=0, events=0, lines=line + b"\n")

    def _next(self) -> int:
        self._number += 1
        return self._number


def with_parameter(link: str, name: str, value: str) -> str:
    return f"{link}{'&' if '?' in link else '?'}{name}={value}"


def _as_duplicate(said: Said) -> Said:
    event, line = said
    return event, msgspec.structs.replace(line, duplicate=True)


def renewed(said: Said, word: str) -> Said:
    """The same event as it is sent again: with another id, where the ESP's ids do not survive that."""
    event, line = _as_duplicate(said)
    renew = WRITERS[line.esp].renew
    if renew is not None:
        event = copy.deepcopy(event)
        renew(event, word)
    return event, line
