"""`reports dead`: what could not be read (topic `webhooks.dead`), to be looked at and, once mended, counted.

Rules:
- `replay` puts a letter's body into topic `webhooks` once more, with the source, headers and time of the first time, so
  that it is counted as it would have been then. Replayed again it changes nothing: the fold drops what it has seen
  (by a changed `campaign` template it is another fact).
- By filters, those that were replayed before are left out (what died again is a letter of its own); by id, or with
  `--again`, they are sent all the same, and that is said.
- Nothing of a body is printed but by `show`, and there with everything escaped that a terminal would obey.
Exit status: 0; 1 a letter that was named isn't there or can't be sent again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
from confluent_kafka import KafkaException

from app.dead import (
    MAX_MARKED,
    IdSet,
    Letter,
    Selection,
    mark,
    printable,
    readable_body,
    replay_of,
)
from app.errors import RejectRequest, StateError
from app.inflate import limit_for
from app.settings import Settings
from app.times import utc_text
from app.topics import DEAD, WEBHOOKS, webhook_headers
from app.words import number_of
from cli.config import load_settings
from cli.identity import identify
from cli.log_writer import LogWriter, kafka_of
from cli.moments import Moment
from cli.progress import Progress
from tables.dead_letters import DeadLetters
from tables.kafka_clients import kafka_words

SHOWN_CHARACTERS: Final = 64 * 1024
PAGE: Final = 500

_Decorated = Callable[..., Any]


@click.group()
def command() -> None:
    """Look at dead letters (what could not be read) and send them once more."""


def _filters(function: _Decorated) -> _Decorated:
    for option in (
        click.option("--until", "until_ms", type=Moment(), help="Only those that died before this time."),
        click.option(
            "--since",
            "since_ms",
            type=Moment(),
            help="Only those that died at this time or later: 2026-11-24T10:00:00Z, 2026-11-24, 12h (ago).",
        ),
        click.option("--source", help="Only those of SOURCE or ORG/SOURCE."),
        click.option("--reason", help="Only those with exactly this reason, as `list` shows it."),
    ):
        function = option(function)
    return function


@command.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Letters at most.")
@click.option("--before", type=click.IntRange(0), help="Only those with ids below this: the next page.")
def list_letters(limit: int, before: int | None, **filters: Any) -> int:
    """List dead letters, newest first."""
    with _reading(load_settings()) as letters:
        selection = Selection(**filters)
        click.echo(f"{'ID':>9}  {'DIED':24}  {'SOURCE':24}  {'STAGE':6}  {'ORIGIN':20}  {'BYTES':>9}  REASON")
        following = before
        while limit:
            page = letters.page(selection, min(limit, PAGE), before=following)
            for one in page.found:
                click.echo(_line(one.letter, replayed=bool(one.replayed)))
            limit -= len(page.found)
            following = page.next
            if following is None:
                return 0
    click.echo(f"there are more: --before {following}", err=True)
    return 0


def _line(letter: Letter, *, replayed: bool) -> str:
    event = "" if letter.index is None else f"#{letter.index}"
    return (
        f"{letter.id:>9}  {utc_text(letter.at_ms) or 'unknown':24}  {printable(_source(letter)):24}  "
        f"{printable(letter.stage):6}  {printable(letter.origin) + event:20}  {letter.size:>9}  "
        f"{printable(letter.reason)}{' (replayed)' if replayed else ''}"
    )


def _source(letter: Letter) -> str:
    return f"{letter.webhook.org}/{letter.webhook.source}" if letter.webhook.org else "unknown"


@command.command()
@click.argument("number", metavar="ID", type=click.IntRange(0))
@click.option("--raw", is_flag=True, help="The body alone, byte for byte: to a file, to be mended.")
def show(number: int, *, raw: bool) -> int:
    """Show one dead letter with its body (without compression)."""
    settings = load_settings()
    with _reading(settings) as letters:
        letter = letters.get(number)
        if letter is None:
            return _missing(number)
        body = readable_body(letter.webhook, limit_for(settings.max_body))
        if raw:
            click.get_binary_stream("stdout").write(body)
            return 0
        replayed = letters.is_replayed(number)
    rows = {
        "id": str(letter.id),
        "reason": letter.reason,
        "stage": letter.stage,
        "source": _source(letter),
        "esp": letter.webhook.esp or "unknown",
        "origin": letter.origin,
        "event": "" if letter.index is None else f"number {letter.index} of that body, counted from 0",
        "received": utc_text(letter.webhook.received_at_ms) or "unknown",
        "died": utc_text(letter.at_ms) or "unknown",
        "replay of": "" if letter.webhook.replay_of is None else str(letter.webhook.replay_of),
        "replayed": "yes" if replayed else "no",
        "bytes": str(letter.size),
    } | {f"header {name}": value for name, value in letter.webhook.headers}
    for name, value in rows.items():
        if value:
            click.echo(f"{printable(name)}: {printable(value)}")
    click.echo("body:")
    for line in shown_lines(body):
        # Set in, so that no line of it can pass for one of ours.
        click.echo(f"  {line}")
    return 0


def shown_lines(body: bytes) -> Iterator[str]:
    """The body's lines for a terminal, with what it would obey escaped and what is not UTF-8 as `\\xff`."""
    text = body[: 4 * SHOWN_CHARACTERS].decode("utf-8", "backslashreplace")
    yield from map(printable, text[:SHOWN_CHARACTERS].split("\n"))
    if len(text) > SHOWN_CHARACTERS or len(body) > 4 * SHOWN_CHARACTERS:
        yield f"… cut here: {len(body)} bytes in all, --raw gives them"


@command.command()
@click.argument("numbers", metavar="[ID]...", type=click.IntRange(0), nargs=-1)
@_filters
@click.option(
    "--body",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A mended body (without compression) for the one letter that is named.",
)
@click.option("--again", is_flag=True, help="Also those that were replayed before.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
def replay(numbers: tuple[int, ...], body: Path | None, *, again: bool, dry_run: bool, **filters: Any) -> int:
    """Send dead letters once more: those named, or all that the filters take.

    What was counted is not counted again. After a changed `campaign` template it counts under the new campaign too.
    """
    by_filter = any(value is not None for value in filters.values())
    if bool(numbers) == by_filter:
        raise click.UsageError("name letters by their IDs, or choose them by filters: one of the two")
    if body is not None and len(numbers) != 1:
        raise click.UsageError("--body mends one letter: name it by its ID")
    settings = load_settings()
    changed = body.read_bytes() if body else None
    if changed is not None and len(changed) > limit_for(settings.max_body):
        raise click.UsageError(f"the mended body is larger than {limit_for(settings.max_body)} bytes")
    with _reading(settings) as letters:
        if by_filter:
            chosen, left_out = letters.choose(Selection(**filters), again=again)
            status = 0
            if left_out:
                click.echo(
                    f"{left_out} were replayed before and are left out (--again sends them too)", err=True
                )
            ids: list[int] | IdSet = chosen
        else:
            ids, status = _named(letters, numbers)
        if dry_run:
            click.echo(f"{number_of(len(ids), 'letter')} would be replayed")
            return status
        sent, lost = _replay(letters, settings, ids, changed)
    click.echo(f"{number_of(sent, 'letter')} replayed")
    return 1 if lost else status


def _named(letters: DeadLetters, numbers: tuple[int, ...]) -> tuple[list[int], int]:
    """The named letters that are there, ascending, and 1 where one is not."""
    there: list[int] = []
    status = 0
    for number in sorted(set(numbers)):
        if letters.get(number) is None:
            status = _missing(number)
            continue
        there.append(number)
        if letters.is_replayed(number):
            click.echo(f"{number} was replayed before: what was counted then is not counted again", err=True)
    return there, status


def _missing(number: int) -> int:
    click.echo(f"there is no dead letter {number}", err=True)
    return 1


def _replay(
    letters: DeadLetters, settings: Settings, ids: list[int] | IdSet, changed: bytes | None
) -> tuple[int, int]:
    """How many were sent, and how many could not be."""
    writer = LogWriter(identify(settings, servers=("kafka",)).settings.kafka, settings.max_body)
    done: list[int] = []
    sent = lost = 0

    def settle() -> None:
        # The mark comes after the acknowledgement: at worst a letter is replayed that was so already.
        writer.flush()
        if done:
            writer.send(DEAD, *mark(done), partition=0)
            writer.flush()
            done.clear()

    with Progress("letters", len(ids)) as progress:
        for letter in letters.letters(ids):
            if not letter.webhook.org:
                progress.say(
                    f"{letter.id}: its record doesn't say of which source it is; `reports dead show {letter.id} --raw` "
                    "gives the body, `reports import` takes it"
                )
                lost += 1
                continue
            try:
                webhook = replay_of(letter, changed, time.time_ns() // 1_000_000, settings.max_body)
            except RejectRequest as error:
                raise click.UsageError(error.message) from None
            writer.send(WEBHOOKS, webhook.body, webhook_headers(webhook))
            done.append(letter.id)
            sent += 1
            if len(done) == MAX_MARKED:
                settle()
            progress.at(sent + lost)
        settle()
    return sent, lost


@contextlib.contextmanager
def _reading(settings: Settings) -> Iterator[DeadLetters]:
    """The topic's reader for a command; what Kafka says against it is one line."""
    try:
        kafka = kafka_of(settings)
        with DeadLetters(kafka) as letters:
            yield letters
    except KafkaException as error:
        raise StateError(f"dead letters can't be read: {kafka_words(error, kafka)}") from None
