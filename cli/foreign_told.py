"""What workers say of facts that another secret has keyed (condition `foreign_facts`): each of its own partitions."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import click
from redis import RedisError

from app.errors import StateError, TryLater
from app.settings import Settings
from app.times import utc_text
from cli.addresses import wait_for_addresses
from tables.foreign import CODE
from tables.presence import WORKERS, conditions_of
from tables.redis_client import redis_words
from tables.redis_clock import time_ms
from tables.redis_names import sync_client

READ_S: Final = 5.0
ADDRESS_S: Final = 1.0
ENDS_WITHIN_S: Final = 15.0
"""How long workers that are not behind may take to count what ends the condition, and to say so."""
RECENT_MS: Final = 60_000
_POLL_S: Final = 0.25


class Told(NamedTuple):
    from_ms: int
    """When the first of them was accepted, over all workers."""
    last_ms: int
    messages: tuple[str, ...]
    """One of each worker."""
    now_ms: int


def told(settings: Settings) -> Told | None:
    """None where no worker that lives says it. Raises StateError where Redis can't be asked."""
    try:
        settings = wait_for_addresses(settings, ADDRESS_S, ("redis",))
        with sync_client(settings.redis, settings.installation, timeout_s=READ_S) as client:
            stored: dict[bytes, bytes] = client.hgetall(WORKERS)
            now_ms = time_ms(client.time())
    except (RedisError, OSError) as error:
        raise StateError(
            f"what the workers say can't be read: {redis_words(error, settings.redis)}"
        ) from None
    except TryLater as error:
        raise StateError(f"what the workers say can't be read: {error}") from None
    found = [
        (one.message, one.accepted)
        for one in conditions_of(stored, now_ms)
        if one.code == CODE and one.accepted
    ]
    if not found:
        return None
    return Told(
        min(accepted.first_ms for _, accepted in found),
        max(accepted.last_ms for _, accepted in found),
        tuple(message for message, _ in found),
        now_ms,
    )


def earliest(settings: Settings) -> int:
    """From when on webhooks are to be read again to bring back all that is set aside. Raises StateError."""
    found = told(settings)
    if found is None:
        raise StateError(
            f"no worker that runs has the condition {CODE}: name the time to begin at with --from TIME"
        )
    click.echo(f"reading again what was accepted from {utc_text(found.from_ms)} on", err=True)
    return found.from_ms


def warn(settings: Settings, from_ms: int) -> bool:
    """Before the work: says what will stay set aside in spite of it. Gives whether anything may be set aside."""
    try:
        found = told(settings)
    except StateError:
        return True  # it works without Redis
    if found is None:
        return False
    if found.from_ms < from_ms:
        click.echo(
            f"facts of another secret were accepted from {utc_text(found.from_ms)} on: what is older than "
            f"{utc_text(from_ms)} stays set aside",
            err=True,
        )
    if found.last_ms > found.now_ms - RECENT_MS:
        click.echo(
            f"the last facts of another secret were accepted {_seconds(found.now_ms - found.last_ms)} s ago, at "
            f"{utc_text(found.last_ms)}: if a host with that secret still runs, stop it now, or what it reads stays "
            "set aside",
            err=True,
        )
    return True


def _seconds(ms: int) -> int:
    return max(0, ms) // 1000


def say_what_remains(settings: Settings, wait_s: float = ENDS_WITHIN_S) -> None:
    """After the work."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            found = told(settings)
        except StateError as error:
            click.echo(f"{error}; GET /ops/workers says whether anything remains set aside", err=True)
            return
        if found is None:
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    for message in found.messages:
        click.echo(f"still set aside: {message}", err=True)
    click.echo(
        "where counting is behind (`reports lag`) this may end yet; where a host with another secret runs, stop it and "
        "run this again",
        err=True,
    )
