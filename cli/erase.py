"""`reports erase ADDRESS`: forget a person in all campaigns of an organisation, as `POST /api/v1/erasures` does.

It needs Kafka and Redis, and no API. The address is neither logged nor printed; `-` reads it from standard input, so
that it stands in no shell's history. Run again it changes nothing.
Exit status: 0; 2 there is no such organisation, or the address is none; 3 it can't be done now, and why.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

import click
from redis import RedisError

from app.erasure import erased_records
from app.errors import StateError
from app.esps.limits import address_problem
from app.facts import encode
from app.organisations import Organisations
from app.settings import Settings
from app.topics import FACTS
from app.words import number_of
from cli.config import load_configuration
from cli.identity import identify
from cli.log_writer import LogWriter
from tables.every_campaign import Counted, counted_campaigns, uncounted_campaigns
from tables.redis_client import redis_of, redis_words
from tables.views import ViewReader

READ_S: Final = 600.0


@click.command()
@click.argument("address")
@click.option("--org", help="The organisation; needed where there are several.")
def command(address: str, org: str | None) -> int:
    """Erase a person: what identifies them, in all campaigns of the organisation; totals stay.

    ADDRESS: in any spelling; - reads it from standard input.
    """
    settings, organisations = load_configuration()
    owner = org_of(organisations, org)
    if address == "-":
        address = sys.stdin.readline()
    address = address.strip()
    if problem := address_problem(address):
        raise click.UsageError(problem.replace("recipient", "ADDRESS", 1))
    settings = identify(settings).settings
    try:
        counted = asyncio.run(_counted(settings, owner))
    except RedisError as error:
        raise StateError(f"the campaigns can't be read: {redis_words(error, settings.redis)}") from None
    campaigns = counted.campaigns | uncounted_campaigns(
        settings.kafka, owner, counted.positions, settings.partitions, within_s=READ_S
    )
    writer = LogWriter(settings.kafka, settings.max_body)
    now_ms = time.time_ns() // 1_000_000
    for partition, record in erased_records(
        settings.secret, owner, sorted(campaigns), address, now_ms=now_ms, partitions=settings.partitions
    ):
        writer.send(FACTS, encode(record), [], partition)
    writer.flush()
    click.echo(
        f"the erasure is stored for {number_of(writer.acknowledged, 'campaign')} of {owner}, whoever was in them: "
        "it takes effect once `reports lag` shows no lag, "
        "and holds for what comes in later"
    )
    return 0


def org_of(organisations: Organisations, named: str | None) -> str:
    """Raises UsageError."""
    known = sorted(organisations.by_id)
    if named is None:
        if len(known) != 1:
            raise click.UsageError(
                f"say whose recipient it is with --org, one of {', '.join(known)}"
                if known
                else "there is no organisation in the configuration"
            )
        return known[0]
    if named not in organisations.by_id:
        raise click.UsageError(f"there is no organisation {named}")
    return named


async def _counted(settings: Settings, org: str) -> Counted:
    """Raises TryLater where not all of them are known."""
    redis = redis_of(settings, timeout_s=5)
    try:
        return await counted_campaigns(redis, ViewReader(redis, settings.partitions), org)
    finally:
        await redis.aclose()
