"""What the watchers of one report get: its newest state as event bytes, made once for all of them.

Rules:
- A stream carries state, not a log: a watcher has no queue but remembers which value of each part it was sent last, and
  its next event holds every part that is newer. A slow one skips values and misses nothing.
- An event's id is `<epoch>-<version>`, digits both, the version being the lowest one of its parts: who comes back with
  it is known to have at least that.
- A part that changed carries an id; the head alone (`lag_ms`, `stale`, …) doesn't move the version and carries none.
- Bytes of an event are cached by which parts it holds, so a thousand watchers cost one encoding.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from app.report import SECTIONS, Freshness, Section, TopClickers, head, rows_of, section
from app.summary import Count
from tables.views import View

PING: Final = b"event: ping\ndata: {}\n\n"
"""Named, so that a page can tell a silent stream from a dead one; without an id."""

_encode = msgspec.json.Encoder().encode
# C1 controls, DEL, and the two separators that some readers take for line ends; JSON itself escapes only C0.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029]")


def json_text(value: object) -> bytes:
    """JSON on one line in which no reader can see a line's end or a control character."""
    encoded = _encode(value)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded.decode()).encode()


def event_bytes(event: str, data: bytes, event_id: str | None = None) -> bytes:
    prefix = f"id: {event_id}\nevent: {event}\n" if event_id is not None else f"event: {event}\n"
    return prefix.encode() + b"data: " + data + b"\n\n"


RESET: Final = event_bytes("reset", b"{}")


def epoch_digits(epoch: str) -> str:
    """Redis' run and flush words (hexadecimal) as digits."""
    return str(int(epoch, 16))


@dataclass(frozen=True, slots=True)
class FeedKey:
    count: Count
    timezone: str
    sections: frozenset[Section]
    shared: bool = False
    """For who has a shared link: without addresses."""


class Source(Protocol):
    """What a subscription reads from."""

    def chunk_for(self, watcher: Subscription) -> bytes:
        """The bytes that bring the watcher up to date, empty where it is; notes what it now has."""

    def leave(self, watcher: Subscription) -> None: ...


class Subscription:
    """One watcher's slot: a flag that there may be something new, and what it was sent last."""

    __slots__ = ("_source", "_wake", "closed", "deadline", "generation", "recheck_at", "sent")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._wake = asyncio.Event()
        self.sent: dict[str, int] = {}
        self.generation = -1
        """-1: was sent nothing yet."""
        self.closed: str | None = None
        """Why the stream is to end."""
        self.deadline = float("inf")
        self.recheck_at = float("inf")

    def wake(self) -> None:
        self._wake.set()

    def end(self, reason: str) -> None:
        self.closed = self.closed or reason
        self._wake.set()

    async def wait(self) -> bytes:
        """What is new, or nothing: then something else wants a look (`closed`, `recheck_at`)."""
        await self._wake.wait()
        self._wake.clear()
        return b"" if self.closed else self._source.chunk_for(self)

    def leave(self) -> None:
        self._source.leave(self)


def _loaded(name: Section, view: View) -> bool:
    if name == "timeline":
        return view.quarters is not None
    return name == "summary" or view.sections is not None


class Feed:
    """One campaign's report in one way of counting, timezone and choice of sections."""

    def __init__(self, key: FeedKey) -> None:
        self.key = key
        self.watchers: set[Subscription] = set()
        self.generation = 0
        """Incremented when the numbers start anew: watchers get `reset` and a snapshot."""
        self._epoch = ""
        self._sequence = 0
        self._head = b""
        self._parts: dict[str, bytes] = {}
        self._sequences: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self._cache: dict[tuple[str, ...], bytes] = {}

    @property
    def wants_hours(self) -> bool:
        return "timeline" in self.key.sections

    @property
    def wanted_rows(self) -> tuple[int, ...]:
        return rows_of(self.key.sections)

    @property
    def slow(self) -> bool:
        """Whether it carries more than the summary."""
        return self.wants_hours or bool(self.wanted_rows)

    @property
    def filled(self) -> bool:
        return bool(self._versions)

    def made(self, view: View, clickers: TopClickers | None = None) -> dict[Section, bytes]:
        """The sections for which a view was loaded, as `update` takes them; from any thread."""
        found: dict[Section, bytes] = {}
        for name in SECTIONS:
            if name in self.key.sections and _loaded(name, view):
                value = section(
                    name, view, count=self.key.count, timezone=self.key.timezone, clickers=clickers
                )
                found[name] = b'"' + name.encode() + b'":' + json_text(value)
        return found

    def update(self, view: View, *, freshness: Freshness, made: dict[Section, bytes] | None = None) -> None:
        """Takes a view over: what is `made` of it, and the head. Wakes the watchers if it differs."""
        before = self._sequence
        self._epoch = epoch_digits(view.epoch)
        for name, value in (made if made is not None else self.made(view)).items():
            self._set(name, value)
            if self._versions.get(name) != view.version:
                # Same numbers under a new version: who has them is told the new id with the next event.
                self._versions[name] = view.version
                self._cache.clear()
        self.update_head(view, freshness, wake=False)
        if self._sequence != before:
            self._wake_all()

    def update_head(self, view: View, freshness: Freshness, *, wake: bool = True) -> None:
        document = head(view, freshness=freshness, count=self.key.count)
        before = self._sequence
        self._set("head", json_text(document)[1:-1])
        if wake and self._sequence != before:
            self._wake_all()

    def _set(self, name: str, value: bytes) -> None:
        if self._parts.get(name) != value:
            self._sequence += 1
            self._parts[name] = value
            self._sequences[name] = self._sequence
            self._cache.clear()

    def reset(self) -> None:
        """The next update (at once, with all sections) is of another epoch: versions start anew."""
        self.generation += 1
        self._parts.clear()
        self._versions.clear()
        self._cache.clear()

    def _wake_all(self) -> None:
        for watcher in self.watchers:
            watcher.wake()

    def join(self, watcher: Subscription, last_id: str | None) -> None:
        """Adds a watcher. `last_id`: what it says it was sent last, from another connection."""
        self.watchers.add(watcher)
        if last_id is not None:
            epoch, _, version = last_id.partition("-")
            if epoch != self._epoch:
                watcher.generation = -2  # of an epoch that is gone: `reset` comes before the snapshot
            elif {version} == {str(known) for known in self._versions.values()}:
                watcher.generation = self.generation
                watcher.sent = dict(self._sequences)
        watcher.wake()

    def leave(self, watcher: Subscription) -> None:
        self.watchers.discard(watcher)

    def chunk_for(self, watcher: Subscription) -> bytes:
        prefix = b""
        if watcher.generation == self.generation:
            newer = tuple(name for name, n in self._sequences.items() if n > watcher.sent.get(name, 0))
            chunk = self._event("change", newer) if newer else b""
        else:
            if watcher.generation != -1:
                prefix = RESET
            chunk = self._event("snapshot", tuple(self._parts))
        watcher.generation = self.generation
        watcher.sent.update(self._sequences)
        return prefix + chunk

    def _event(self, event: str, names: Iterable[str]) -> bytes:
        sections = [name for name in SECTIONS if name in names]
        cache_key = (event, *sections)
        found = self._cache.get(cache_key)
        if found is None:
            # The head goes with every event: numbers and `as_of` belong together.
            data = b"{" + b",".join([self._parts["head"], *(self._parts[name] for name in sections)]) + b"}"
            event_id = (
                f"{self._epoch}-{min(self._versions.values())}" if sections and self._versions else None
            )
            found = self._cache[cache_key] = event_bytes(event, data, event_id)
        return found
