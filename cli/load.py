"""`reports load`: realistic traffic through the webhooks, with a ledger of everything that was sent.

Exit status 0 only when every request was accepted; 1 when the API refused for good or the run was ended before.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import click
import msgspec

from app.words import number_of
from cli.addresses import read_address
from cli.progress import Progress
from cli.role_configuration import configuration_beside
from cli.traffic import plans
from cli.traffic.client import Address, Connection, address_of, post_until_accepted
from cli.traffic.esps import WRITERS
from cli.traffic.ledger import LabelsLine, LedgerWriter, encode_line
from cli.traffic.plans import Known
from cli.traffic.requests import Mixture, Request, RequestMaker, Senders
from cli.traffic.schedule import Rhythm, happenings
from cli.traffic.sender import Counts, Refused, Sender, paced
from cli.traffic.targets import MIXED, OrgAccess, access_of

LIVE_FLUSH_S = 0.2
"""Live events wait at most this long for a fuller request."""

RUNNING_FOR_S = 120
"""Endless traffic begins as if it had gone on for so long."""

DEMO_HISTORY = 6000
"""Recipients of the campaigns' past that the demo starts with."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    rate: float
    events: int
    esp: str
    ledger: Path | None
    campaigns: tuple[str, ...]
    recipients: int | None
    seed: int | None
    forever: bool
    live: bool
    poison: float
    duplicates: float
    batch: int
    connections: int
    orgs: tuple[str, ...]
    base_url: str
    until: int | None


@click.command()
@click.option(
    "--rate", type=click.FloatRange(0), default=1000, help="Events a second; 0: as fast as possible."
)
@click.option(
    "--events", type=click.IntRange(1), default=10_000, help="Facts to send, not counting duplicates."
)
@click.option(
    "--esp",
    type=click.Choice([MIXED, *sorted(WRITERS)]),
    default=MIXED,
    show_default=True,
    help="Whose webhooks; mixed: those of every source that has keys for it.",
)
@click.option(
    "--ledger", type=click.Path(path_type=Path, dir_okay=False), help="Where to write what is sent."
)
@click.option(
    "--campaign", "campaigns", multiple=True, help="Name of a campaign; may be given several times."
)
@click.option(
    "--recipients", type=click.IntRange(1), help="Of all campaigns; as many as the events need if not given."
)
@click.option("--seed", type=int, help="Makes a run repeatable.")
@click.option("--forever", is_flag=True, help="Traffic that goes on until it is stopped: the demo's.")
@click.option("--live", is_flag=True, help="Events happen now, not spread over the last two days.")
@click.option(
    "--poison", type=click.FloatRange(0, 1), default=0.001, help="Share of requests with something broken."
)
@click.option("--duplicates", type=click.FloatRange(0, 1), default=0.02, help="Share of events sent again.")
@click.option("--batch", type=click.IntRange(1, 4000), default=200, help="Events of a request at most.")
@click.option("--connections", type=click.IntRange(1, 256), default=16, help="Requests under way at a time.")
@click.option("--org", "orgs", multiple=True, help="Organisation; the first one if not given.")
@click.option("--base-url", default="", help="Where the API is; the settings' address if not given.")
@click.option("--until", type=int, hidden=True, help="Pretend that it is this time (ms since 1970).")
def command(**values: object) -> int:
    """Send realistic traffic through the webhooks and resend until it is accepted."""
    options = msgspec.convert(values, Options)
    settings, organisations = configuration_beside(needs_keys=True)
    orgs = access_of(settings, organisations, options.orgs, options.esp)
    address = read_address(settings.data, "http") or settings.http
    base_url = options.base_url or (address if "://" in address else f"http://{address}")
    try:
        return asyncio.run(_load(options, orgs, address_of(base_url)))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except KeyboardInterrupt:
        return 0 if options.forever else 1


async def _load(options: Options, orgs: list[OrgAccess], address: Address) -> int:
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    now_ms = options.until or time.time_ns() // 1_000_000
    names = options.campaigns or plans.DEFAULT_CAMPAIGNS
    if options.ledger is not None and not options.campaigns:
        names = plans.names_of(now_ms, seed)
    options = msgspec.structs.replace(options, campaigns=names)
    total = None if options.forever else options.events * len(orgs)
    with LedgerWriter(options.ledger) as ledger, Progress("facts", total) as progress:
        progress.say(f"seed {seed}")

        def show(counts: Counts) -> None:
            repeated = f", {counts.repeats} repeats" if counts.repeats else ""
            repeated += f" (now: {counts.trouble})" if counts.trouble else ""
            progress.at(counts.facts, f"{counts.requests} requests{repeated}")

        sender = Sender(address, ledger, connections=options.connections, on_change=show)
        refused = ""
        try:
            await _await_api(address, progress)
            new = options.forever and await _are_new(address, orgs, names)
            await _name_campaigns(address, orgs, names, ledger)
            await sender.run(_requests(options, orgs, random.Random(seed), now_ms, new=new))
        except* Refused as group:
            refused = str(next(_leaves(group)))
        counts = sender.counts
    if refused:
        click.echo(f"reports: {refused}", err=True)
        return 1
    click.echo(
        f"{number_of(counts.facts, 'fact')} in {number_of(counts.events, 'event')} and "
        f"{number_of(counts.requests, 'request')}, all accepted "
        f"({number_of(counts.repeats, 'repeat')}, {number_of(counts.refused_events, 'event')} refused as meant)",
        err=True,
    )
    return 0


async def _await_api(address: Address, progress: Progress) -> None:
    """Waits for the API, and says so: repeating without a word would look like a command that hangs."""
    connection = Connection(address, timeout_s=2.0)
    told = False
    while True:
        try:
            await connection.request("GET", "/healthz", {})
            return
        except (OSError, EOFError, TimeoutError):
            if not told:
                progress.say(f"waiting for the API at {address.host}:{address.port}")
            told = True
            await asyncio.sleep(0.2)
        finally:
            connection.close()


def _leaves(group: BaseExceptionGroup[Refused]) -> Iterator[Refused]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _are_new(address: Address, orgs: list[OrgAccess], names: tuple[str, ...]) -> bool:
    """Whether nothing is known yet of any of the campaigns."""
    connection = Connection(address)
    try:
        for access in orgs:
            headers = {"authorization": f"Bearer {access.api_key}"}
            for name in names:
                path = f"/api/v1/campaigns/{name}/summary"
                answer = await post_until_accepted(connection, path, headers, b"", method="GET")
                if answer.status != 404:
                    return False
    finally:
        connection.close()
    return True


async def _name_campaigns(
    address: Address, orgs: list[OrgAccess], names: tuple[str, ...], ledger: LedgerWriter
) -> None:
    """Gives every campaign its labels."""
    connection = Connection(address)
    try:
        for access, name in itertools.product(orgs, names):
            path = f"/api/v1/campaigns/{name}"
            label = name.replace("-", " ").capitalize()
            fields = {
                "subject": {"A": "Hello", "B": "Hi there"},
                "content": {"1": "Short", "2": "Long", "3": "Pictures"},
            }
            body = {"name": label, "subject": f"{label} is here", "fields": fields}
            line = encode_line(LabelsLine(org=access.org, campaign=name, name=label, fields=fields))
            ledger.write(line + b"\n")
            headers = {"authorization": f"Bearer {access.api_key}", "content-type": "application/json"}
            answer = await post_until_accepted(
                connection, path, headers, msgspec.json.encode(body), method="PUT"
            )
            if answer.status != 200:
                raise Refused(f"PUT {path} answered {answer.status}")
    finally:
        connection.close()


async def _requests(
    options: Options, orgs: list[OrgAccess], rng: random.Random, now_ms: int, *, new: bool
) -> AsyncIterator[Request]:
    names = options.campaigns
    senders = Senders([access.targets for access in orgs])
    mean = plans.mean_facts(senders.tells)
    maker = _maker(options, senders, rng, now_ms)
    if not (options.live or options.forever):
        recipients = options.recipients or max(1, int(options.events / mean))
        past = plans.past(names, recipients, now_ms)
        known = plans.finite(past, _rhythm(senders, now_ms), rng, options.events)
        async for request in paced(_at_once(maker, known), options.rate):
            yield request
        return
    if options.forever and new:
        # A demo starts with something to look at: a few days of what was, as fast as it is taken.
        history = plans.past(names, DEMO_HISTORY, now_ms)
        async for request in _at_once(maker, happenings(history, _rhythm(senders, now_ms), rng)):
            yield request
        maker = _maker(options, senders, rng, now_ms + len(names) * DEMO_HISTORY)
    rate = options.rate or 50.0
    now_ms = time.time_ns() // 1_000_000
    recipients_or_none = options.recipients
    if not options.forever and recipients_or_none is None:
        recipients_or_none = max(1, int(options.events / mean))
    # Endless traffic begins as if it had gone on for a while: opens and clicks move from the first second on.
    start_ms = now_ms - RUNNING_FOR_S * 1000 if options.forever else now_ms
    going_on = plans.live(
        names, recipients_or_none, start_ms, rate, mean=mean, prefix=plans.prefix_of(now_ms)
    )
    rhythm = _rhythm(senders, None)
    known = (
        happenings(going_on, rhythm, rng)
        if options.forever
        else plans.finite(going_on, rhythm, rng, options.events)
    )
    async for request in _as_it_happens(maker, known):
        yield request


def _maker(options: Options, senders: Senders, rng: random.Random, first_request: int) -> RequestMaker:
    mixture = Mixture(
        batch=options.batch,
        poison_share=options.poison,
        duplicate_share=options.duplicates,
        run=f"{first_request:x}-",
        first_request=first_request,
    )
    return RequestMaker(senders, mixture, rng)


def _rhythm(senders: Senders, until_ms: int | None) -> Rhythm:
    return Rhythm(until_ms=until_ms, seed_share=0.002, tells=senders.tells)


async def _at_once(maker: RequestMaker, known: Iterator[Known]) -> AsyncIterator[Request]:
    for _, happening in known:
        for request in maker.add(happening):
            yield request
    for request in maker.flush():
        yield request


async def _as_it_happens(maker: RequestMaker, known: Iterator[Known]) -> AsyncIterator[Request]:
    """Every happening when its time has come, in requests that wait a moment to be fuller."""
    flush_at = time.monotonic() + LIVE_FLUSH_S
    for known_ms, happening in known:
        while (wait_s := known_ms / 1000 - time.time()) > 0:
            await asyncio.sleep(min(wait_s, LIVE_FLUSH_S))
            if time.monotonic() >= flush_at:
                flush_at = time.monotonic() + LIVE_FLUSH_S
                for request in maker.flush():
                    yield request
        for request in maker.add(happening):
            yield request
    for request in maker.flush():
        yield request
