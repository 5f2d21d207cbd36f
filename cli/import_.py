"""`reports import SOURCE FILE…`: saved webhook bodies into topic `webhooks`, the same way as live ones from there on.

A file holds one of these, told by its begin (`--each` says it instead):
- JSON lines `{"body", "headers", "received_at"}`, each a saved request. The body is a text, or an object or list as it
  is, or with `"encoding": "base64"` any bytes; headers are an object or a list of pairs.
- messages of an Amazon SQS queue (an SNS subscription's dead-letter queue), one a line or `{"Messages": […]}`
- plain bodies, one a line
- one plain body
Rules:
- No signature is asked for: who may write into the log vouches for what is imported.
- What was counted already is not counted again, so a file may be imported as often as one likes. One thing depends on
  the time of arrival: an event to which its ESP gave no time has that one as its own. Where nothing says when a body
  came it came now; imported once more later, such an event would be another one. `--received-at` gives the time.
- Of the headers those are kept that a live request's would be. A body that is a text is no longer compressed, whatever
  its headers say; one in base64 is as it was on the wire.
- A line that can't be understood is named and counted, and the others are imported. A body that can't be understood
  becomes a dead letter, as a live one would.
Exit status: 0; 1 there were bad lines.
"""

from __future__ import annotations

import binascii
import itertools
import re
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal

import click
import msgspec

from api.webhooks import kept_headers
from app.esps import ESPS
from app.normalize import find_source
from app.organisations import Organisations, Source
from app.topics import WEBHOOKS, Webhook, webhook_headers
from cli.config import load_configuration
from cli.identity import identify
from cli.log_writer import LogWriter
from cli.moments import Moment, moment_ms
from cli.progress import Progress

NAMED: Final = 100
"""Bad lines that are named; the others are only counted."""
LOOKED_AT: Final = 10
"""Lines by which the kind of a file is told."""
_CHUNK: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_FORM: Final = re.compile(rb"[A-Za-z0-9_.\-\[\]%+]+=[^\s{}\"]*")

Each = Literal["line", "file"]


class _Bad(Exception):
    """What stands there is no body; the text says why."""


class _Saved(msgspec.Struct):
    """A saved request, or a message of Amazon SQS (`Body`)."""

    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str] | list[tuple[str, str]] | None = None
    received_at: int | str | None = None
    encoding: Literal["base64"] | None = None
    sqs_body: str | None = msgspec.field(name="Body", default=None)
    sqs_id: str | None = msgspec.field(name="MessageId", default=None)
    sqs_attributes: dict[str, msgspec.Raw] | None = msgspec.field(name="Attributes", default=None)


_saved = msgspec.json.Decoder(_Saved)
_names: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_number = msgspec.json.Decoder(int, strict=False)
_messages: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


@click.command()
@click.argument("name", metavar="SOURCE")
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--each",
    type=click.Choice(["line", "file"]),
    help="Whether a plain body is a line or a whole file; told by the file if not given.",
)
@click.option(
    "--received-at",
    "received_at_ms",
    type=Moment(),
    help="When the bodies came, where they don't say it: 2026-11-24T10:00:00Z. Now if not given.",
)
def command(name: str, files: tuple[Path, ...], each: Each | None, received_at_ms: int | None) -> int:
    """Import saved webhook bodies of SOURCE (or ORG/SOURCE), as often as you like: they count once.

    No signature is checked: you vouch for them. FILE: JSON lines {"body", "headers", "received_at"}, messages of an
    Amazon SQS queue, or plain bodies.
    """
    settings, organisations = load_configuration()
    source = source_of(organisations, name)
    settings = identify(settings, servers=("kafka",)).settings
    now_ms = time.time_ns() // 1_000_000
    default_ms = now_ms if received_at_ms is None else received_at_ms
    bad = 0
    total = sum(_count(path, each) for path in files)
    writer = LogWriter(settings.kafka, settings.max_body)
    with Progress("bodies", total) as progress:
        done = 0
        for path in files:
            for where, text, only_saved in pieces(path, each, settings.max_body):
                done += 1
                try:
                    webhook = webhook_from(
                        text, source, default_ms, now_ms, settings.max_body, only_saved=only_saved
                    )
                except _Bad as error:
                    bad += 1
                    if bad <= NAMED:
                        progress.say(f"{where}: {error}")
                else:
                    again_at_ms = time.time_ns() // 1_000_000
                    webhook = msgspec.structs.replace(webhook, imported=True, again_at_ms=again_at_ms)
                    writer.send(WEBHOOKS, webhook.body, webhook_headers(webhook))
                progress.at(done, f"{bad} bad" if bad else "")
        writer.flush()
    if bad > NAMED:
        click.echo(f"… and {bad - NAMED} more like that", err=True)
    click.echo(f"{writer.acknowledged} bodies imported to {source.org}/{source.name}, {bad} bad", err=True)
    return 1 if bad else 0


def source_of(organisations: Organisations, name: str) -> Source:
    """`org/source`, or a source's name that only one organisation has. Raises UsageError."""
    org, slash, rest = name.partition("/")
    if slash:
        found = find_source(organisations, org, rest)
        if found is None:
            raise click.UsageError(f"there is no source {name}")
        return found[1]
    sources = [
        organisation.sources[name]
        for organisation in organisations.by_id.values()
        if name in organisation.sources
    ]
    if not sources:
        raise click.UsageError(f"there is no source {name}")
    if len(sources) > 1:
        several = ", ".join(f"{source.org}/{source.name}" for source in sources)
        raise click.UsageError(f"several organisations have a source {name}: say one of {several}")
    return sources[0]


def pieces(path: Path, each: Each | None, max_body: int) -> Iterator[tuple[str, bytes, bool]]:
    """(where it stands, text, whether it has to be a saved request) of each body in the file.

    Only a line, or what is one body, is in memory at a time. A text that is too long comes cut, as long as is enough
    to see that.
    """
    # Base64 makes four of three bytes, and escapes in JSON can make six of one.
    longest = 6 * max_body + _CHUNK
    with path.open("rb") as file:
        kind = each or _kind(file, longest)
        file.seek(0)
        if kind != "file":
            for where, line in _lines(path, file, longest):
                yield where, line, kind == "saved"
            return
        text = file.read(longest).removeprefix(_BOM)
    messages = _sqs_messages(text)
    if messages is None:
        yield str(path), text, False
    else:
        for number, message in enumerate(messages, 1):
            yield f"{path}, message {number}", bytes(message), True


def _kind(file: BinaryIO, longest: int) -> Literal["saved", "line", "file"]:
    """`saved` where one of several lines is a saved request, `line` where the first of several is whole by itself."""
    lines = (line.strip() for line in iter(lambda: file.readline(longest), b"") if line.strip())
    near = [line.removeprefix(_BOM) for line in itertools.islice(lines, LOOKED_AT)]
    if len(near) < 2:
        return "file"
    if any(map(_looks_saved, near)):
        return "saved"
    whole = _is_json(near[0]) if near[0][:1] in (b"{", b"[") else bool(_FORM.fullmatch(near[0]))
    return "line" if whole else "file"


def _looks_saved(line: bytes) -> bool:
    try:
        return _saved_request(line) is not None
    except _Bad:
        return True


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(path: Path, file: BinaryIO, longest: int) -> Iterator[tuple[str, bytes]]:
    for number in itertools.count(1):
        line = file.readline(longest)
        if not line:
            return
        whole = line
        while not whole.endswith(b"\n") and len(whole) == longest:  # the rest of what is too long anyway
            whole = file.readline(longest)
            if not whole:
                break
        text = line.removeprefix(_BOM).strip()
        if text:
            yield f"{path}:{number}", text


def _sqs_messages(text: bytes) -> list[msgspec.Raw] | None:
    """The messages of what `aws sqs receive-message` prints."""
    try:
        found = _names.decode(text)
        if "Messages" not in found or "body" in found:
            return None
        return _messages.decode(found["Messages"])
    except (ValueError, RecursionError):
        return None


def webhook_from(
    text: bytes, source: Source, default_ms: int, now_ms: int, max_body: int, *, only_saved: bool = False
) -> Webhook:
    """One saved request, message or plain body → the webhook. Raises _Bad."""
    saved = _saved_request(text)
    headers: tuple[tuple[str, str], ...] = ()
    received_at_ms = default_ms
    if saved is None:
        if only_saved:
            raise _Bad("is no saved request, as the lines around it are")
        body = text
        if not body.strip():
            raise _Bad("is empty")
    elif saved.sqs_body is not None:
        body = saved.sqs_body.encode()
        received_at_ms = _sent_ms(saved, default_ms)
    else:
        body = _body(saved)
        headers = _headers(saved, source)
        received_at_ms = _received_ms(saved, default_ms, now_ms)
    if len(body) > max_body:
        raise _Bad(f"the body is larger than {max_body} bytes")
    return Webhook(
        org=source.org,
        source=source.name,
        esp=source.esp,
        received_at_ms=received_at_ms,
        headers=headers,
        body=body,
    )


def _saved_request(text: bytes) -> _Saved | None:
    """None where it is a plain body. One with a member `body` is a saved request where nothing speaks against it."""
    if text[:1] != b"{":
        return None
    try:
        names = _names.decode(text).keys()
    except (ValueError, RecursionError):
        return None
    if not ("body" in names and (len(names) == 1 or names & {"headers", "received_at", "encoding"})) and not (
        {"Body", "MessageId"} <= names
    ):
        return None
    try:
        return _saved.decode(text)
    except (ValueError, RecursionError) as error:
        raise _Bad(str(error) if isinstance(error, msgspec.ValidationError) else "is not JSON") from None


def _body(saved: _Saved) -> bytes:
    if isinstance(saved.body, msgspec.UnsetType):
        raise _Bad("has no body")
    raw = bytes(saved.body)
    if raw[:1] != b'"':
        if saved.encoding or raw[:1] not in (b"{", b"["):
            raise _Bad("body: must be a text, an object or a list")
        return raw
    try:
        text = _text.decode(raw)
        return b64decode(text, validate=True) if saved.encoding else text.encode()
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise _Bad("body: is not base64" if saved.encoding else "body: is not Unicode") from None


def _headers(saved: _Saved, source: Source) -> tuple[tuple[str, str], ...]:
    pairs = saved.headers.items() if isinstance(saved.headers, dict) else saved.headers or ()
    try:
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    except UnicodeEncodeError:
        raise _Bad("headers: are not Latin-1") from None
    kept = kept_headers(raw, ESPS[source.esp])
    if saved.encoding:
        return kept
    return tuple(pair for pair in kept if pair[0] != "content-encoding")


def _received_ms(saved: _Saved, default_ms: int, now_ms: int) -> int:
    at = saved.received_at
    if at is None:
        return default_ms
    try:
        found = at if isinstance(at, int) else moment_ms(at, now_ms)
    except (ValueError, OverflowError):
        raise _Bad("received_at: must be RFC 3339 or milliseconds since 1970") from None
    if not 0 <= found <= now_ms + 86_400_000:
        raise _Bad("received_at: is before 1970 or in the future (milliseconds since 1970 are meant)")
    return found


def _sent_ms(saved: _Saved, default_ms: int) -> int:
    """When the message was put into the queue, where it says so."""
    try:
        return _number.decode((saved.sqs_attributes or {})["SentTimestamp"])
    except (KeyError, ValueError):
        return default_ms


def _count(path: Path, each: Each | None) -> int:
    """About how many bodies a file holds, for the bar."""
    if each == "file":
        return 1
    with path.open("rb") as file:
        return max(1, sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b"")))
