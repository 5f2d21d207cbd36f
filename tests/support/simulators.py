"""How each ESP sends an event again, as it documents it, in a time made short.

Rules:
- A policy is the ESP's: the pauses before each further attempt in its own seconds, which answers end them well, which
  end them for good, how long it waits for an answer. Where nothing is documented (`docs/esps.md` says so), the pauses
  are a guess, and a short one.
- `scaled` shrinks a policy's whole patience to `horizon_s`, so that an outage takes the same part of it whoever sends;
  no pause becomes shorter than `LEAST_S`.
- A refused or broken connection and silence are no answer: every ESP tries again after them.
- What is sent again is signed anew, and has new event ids where the ESP does so.
- The ledger has a request's facts before it is sent, and its acceptance when the ESP takes the answer for one.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec

from cli.traffic.client import Address, Connection
from cli.traffic.esps import WRITERS
from cli.traffic.esps.writer import Event, authorization
from cli.traffic.ledger import AcceptedLine, LedgerWriter, encode_line
from cli.traffic.requests import Mixture, Request, RequestMaker, Senders, Target
from cli.traffic.schedule import CampaignPlan, Rhythm, happenings

NO_ANSWER: Final = 0
LEAST_S: Final = 0.25
SPAN_MS: Final = 12 * 3600 * 1000
"""A mailing takes half a day, so that its opens and clicks come between its deliveries."""

MINUTE: Final = 60.0
HOUR: Final = 3600.0


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    esp: str
    pauses_s: tuple[float, ...]
    """Before the second attempt, the third …; behind the last one the event is gone."""
    timeout_s: float = 10.0
    only_200: bool = False
    """Whether any other answer than 200 is none; else all of 2xx are good."""
    final: frozenset[int] = frozenset()
    """Answers after which the event is gone at once."""
    new_ids: bool = False
    """Whether each attempt gives its events new ids."""

    def is_taken(self, status: int) -> bool:
        return status == 200 if self.only_200 else 200 <= status < 300


def _all(*ranges: range, but: int = 0) -> frozenset[int]:
    return frozenset(status for each in ranges for status in each) - {but}


_4XX, _5XX = range(400, 500), range(500, 600)

POLICIES: Final = {
    policy.esp: policy
    for policy in (
        Policy(esp="amazon_ses", pauses_s=(20.0, 20.0, 20.0), timeout_s=15.0, final=_all(_4XX)),
        Policy(
            esp="brevo",
            pauses_s=(10 * MINUTE, HOUR, 2 * HOUR, 8 * HOUR),
            final=_all(_4XX, _5XX, but=429),
        ),
        # Your own program: any patience; this one's is a few minutes.
        Policy(esp="generic", pauses_s=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)),
        Policy(esp="mailersend", pauses_s=(10.0, 60.0, 600.0)),  # not established
        Policy(
            esp="mailgun",
            pauses_s=(5 * MINUTE, 10 * MINUTE, 15 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR),
            only_200=True,
            final=frozenset({406}),
        ),
        Policy(esp="mailjet", pauses_s=(30.0,) * 2880, only_200=True),
        Policy(esp="mailtrap", pauses_s=(5 * MINUTE,) * 40, timeout_s=30.0),
        Policy(esp="mandrill", pauses_s=(MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR)),  # not established
        Policy(
            esp="postal", pauses_s=tuple(minutes * MINUTE for minutes in (2, 3, 6, 10, 15)), timeout_s=5.0
        ),
        Policy(
            esp="postmark",
            pauses_s=(MINUTE, 5 * MINUTE, 15 * MINUTE),
            only_200=True,
            final=frozenset({403}),
        ),
        Policy(
            esp="resend",
            pauses_s=(5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR),
            timeout_s=15.0,
        ),
        # "Up to 24 hours", at intervals that are not documented.
        Policy(
            esp="sendgrid",
            pauses_s=tuple(MINUTE * 2**step for step in range(10)),
            timeout_s=3.0,
            new_ids=True,
        ),
        Policy(
            esp="sparkpost",
            pauses_s=tuple(MINUTE * (1 + step * step / 2) for step in range(12)),
            only_200=True,
        ),
        Policy(esp="unisender_go", pauses_s=(10 * MINUTE,) * 144, timeout_s=3.0, only_200=True),
    )
}


def scaled(policy: Policy, horizon_s: float) -> list[float]:
    """The policy's pauses, so that the last attempt is this long after the first one, or later."""
    factor = horizon_s / sum(policy.pauses_s)
    return [max(pause_s * factor, LEAST_S) for pause_s in policy.pauses_s]


class Delivery(msgspec.Struct):
    """One request and what came of it: the answers in their order, `NO_ANSWER` where there was none."""

    request: Request
    answers: list[int] = []
    taken: bool = False


class Simulator:
    """One ESP."""

    def __init__(
        self, policy: Policy, address: Address, ledger: LedgerWriter, *, horizon_s: float, seed: int = 0
    ) -> None:
        self.policy = policy
        self.deliveries: list[Delivery] = []
        self._address = address
        self._ledger = ledger
        self._pauses_s = scaled(policy, horizon_s)
        self._random = Random(seed)

    async def run(self, requests: Sequence[Request], spread_s: float) -> None:
        """Sends the requests, evenly within `spread_s`; returns when each was taken or given up."""
        async with asyncio.TaskGroup() as tasks:
            for request in requests:
                delivery = Delivery(request)
                self.deliveries.append(delivery)
                tasks.create_task(self._deliver(delivery))
                await asyncio.sleep(spread_s / len(requests))

    async def _deliver(self, delivery: Delivery) -> None:
        request = delivery.request
        self._ledger.write(request.lines)
        for attempt, pause_s in enumerate([0.0, *self._pauses_s]):
            await asyncio.sleep(pause_s * self._random.uniform(0.9, 1.0))
            status = await self._attempt(request, attempt)
            delivery.answers.append(status)
            if self.policy.is_taken(status):
                delivery.taken = True
                line = AcceptedLine(
                    request=request.number, status=status, tries=attempt + 1, at=time.time_ns() // 1_000_000
                )
                self._ledger.write(encode_line(line) + b"\n")
                return
            if status in self.policy.final:
                return

    async def _attempt(self, request: Request, attempt: int) -> int:
        body = with_new_ids(request, f"try{attempt}") if self.policy.new_ids and attempt else request.body
        headers, signed = signed_now(request.target, body)
        connection = Connection(self._address, timeout_s=self.policy.timeout_s)
        try:
            return (await connection.request("POST", request.target.path, headers, signed)).status
        except (OSError, EOFError, TimeoutError):
            return NO_ANSWER
        finally:
            connection.close()


def signed_now(target: Target, body: bytes) -> tuple[dict[str, str], bytes]:
    headers, signed = WRITERS[target.esp].sign(target.credentials, body, int(time.time()))
    return {**headers, **authorization(target.credentials)}, signed


def with_new_ids(request: Request, word: str) -> bytes:
    """The request's body with other event ids, where the ESP's do not survive a resend; else as it is."""
    renew = WRITERS[request.target.esp].renew
    if renew is None:
        return request.body
    document = msgspec.json.decode(request.body, type=list[Event] | Event)
    for event in document if isinstance(document, list) else [document]:
        renew(event, word)
    return msgspec.json.encode(document)


def requests_of(
    target: Target,
    campaign: str,
    *,
    events: int,
    batch: int,
    first_request: int,
    start_ms: int,
    seed: int = 1,
) -> list[Request]:
    """A mailing of this ESP alone. Its recipients are nobody else's; request numbers go on from `first_request`."""
    senders = Senders([(target,)])
    plan = CampaignPlan(
        name=campaign, start_ms=start_ms, gap_ms=SPAN_MS / events, recipients=events, prefix=f"{target.esp}-"
    )
    mixture = Mixture(
        batch=batch,
        poison_share=0.0,
        duplicate_share=0.05,
        run=f"{campaign}.{target.esp}.",
        first_request=first_request,
    )
    rng = Random(seed)
    maker = RequestMaker(senders, mixture, rng)
    made: list[Request] = []
    known = happenings([plan], Rhythm(tells=senders.tells), rng)
    for _, happening in itertools.islice(known, events):
        made += maker.add(happening)
    return [*made, *maker.flush()]
