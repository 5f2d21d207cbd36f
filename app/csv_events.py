"""Rows of CSV straight from entries of the log: what `app.csv_rows` makes of their items, many times as fast.

Rules:
- The definition is `row(event_item(…))`: a property test says that the rows are the same.
- Many rows are made at once, column by column. Texts that many events have in common (a link, an agent, a place,
  metadata) are made into cells once, several cells at a time. Of texts that are an event's own (addresses, ids) a
  column is looked at as a whole: mostly none of them needs quotes, and that is soon seen of all together.
- A detail that can't be read, and a time that no date can say, go the long way with all rows beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from app import facts as f
from app.csv_recipients import KEPT
from app.csv_rows import END, metadata_text, row, tags_text, text_cell, variant_text
from app.csv_times import LAST_MS, MILLISECONDS, Times
from app.errors import UNDECODABLE
from app.facts import Detail, Entry, decode_detail
from app.items import event_item
from app.times import utc_text
from app.verdicts import VERDICT_NAMES

Verdict = tuple[int, str]
"""Verdict and reason of an open or click."""
_K = TypeVar("_K")

KEPT_LISTS: Final = 4_000
"""Of metadata and tags: they are long, and where each event has its own, none is met again."""
FEW: Final = 16
"""So many texts are looked at one by one where one among them needs quotes."""
_HARMLESS: Final = bytes(code for code in range(0x20, 0x7F) if code != ord('"'))
_FORMULAS: Final = frozenset("=+-@")
_NO_DETAIL: Final = Detail("")


class _Columns(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """A `Detail` whose parts that are no plain text stay as they are stored."""

    esp: str
    link: str | None = None
    reason: str | None = None
    smtp_reply: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    client: str | None = None
    device: str | None = None
    system: str | None = None
    browser: str | None = None
    country: str | None = None
    city: str | None = None
    provider: str | None = None
    variant: msgspec.Raw = msgspec.Raw()
    esp_event_id: str | None = None
    message_id: str | None = None
    tags: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()


_decode = msgspec.msgpack.Decoder(_Columns).decode
_decode_variant = msgspec.msgpack.Decoder(dict[str, str] | None).decode
_decode_tags = msgspec.msgpack.Decoder(tuple[str, ...]).decode
_decode_metadata = msgspec.msgpack.Decoder(dict[str, str]).decode


class _Made(dict[_K, str]):
    """Cells by what they are made of, made when they are asked for. A table that is full begins anew."""

    def __init__(self, make: Callable[[_K], str], kept: int = KEPT) -> None:
        super().__init__()
        self._make = make
        self._kept = kept

    def __missing__(self, key: _K) -> str:
        if len(self) >= self._kept:
            self.clear()
        made = self[key] = self._make(key)
        return made


class EventRows:
    """Not for use from several threads."""

    def __init__(self) -> None:
        time = Times()
        self._seconds: _Made[int] = _Made(lambda second: time.text(second * 1_000)[: -len("000Z")])
        self._judged: _Made[Verdict | None] = _Made(_judged)
        self._link: _Made[tuple[str | None, int, str | None]] = _Made(_link)
        self._agent: _Made[tuple[str | None, ...]] = _Made(_cells)
        self._place: _Made[tuple[str | None, str | None, str | None, bytes, str]] = _Made(_place)
        self._lists: _Made[tuple[bytes, bytes]] = _Made(_lists, KEPT_LISTS)

    def times(self, entries: Sequence[Entry]) -> list[str]:
        """The time of each entry as its row has it."""
        seconds = self._seconds
        times = [entry.fact.at_ms for entry in entries]
        if max(times, default=0) > LAST_MS:
            return [utc_text(at_ms) or "" for at_ms in times]
        return [seconds[at_ms // 1_000] + MILLISECONDS[at_ms % 1_000] for at_ms in times]

    def rows(
        self,
        entries: Sequence[Entry],
        verdicts: Sequence[Verdict | None],
        times: Sequence[str],
        begins: Sequence[str],
    ) -> list[str]:
        """The row of each entry, behind what it is to begin with. `verdicts`: None for what is no open or click."""
        try:
            return self._fast(entries, verdicts, times, begins)
        except UNDECODABLE:
            return [
                begin + _long_way(entry, verdict)
                for begin, entry, verdict in zip(begins, entries, verdicts, strict=True)
            ]

    def _fast(
        self,
        entries: Sequence[Entry],
        verdicts: Sequence[Verdict | None],
        times: Sequence[str],
        begins: Sequence[str],
    ) -> list[str]:
        """Raises `UNDECODABLE` where a detail can't be read."""
        judged, links, agents, places, lists = self._judged, self._link, self._agent, self._place, self._lists
        details = [_decode(entry.detail) for entry in entries]
        facts = [entry.fact for entry in entries]
        columns = zip(
            begins,
            facts,
            times,
            own_cells([entry.address for entry in entries]),
            [judged[verdict] for verdict in verdicts],
            [links[one.link, fact.position, one.reason] for one, fact in zip(details, facts, strict=True)],
            own_cells([one.smtp_reply or "" for one in details]),
            own_cells([one.ip or "" for one in details]),
            [agents[one.user_agent, one.client, one.device] for one in details],
            [places[one.country, one.city, one.provider, bytes(one.variant), one.esp] for one in details],
            own_cells([one.esp_event_id or "" for one in details]),
            own_cells([one.message_id or "" for one in details]),
            [lists[bytes(one.tags), bytes(one.metadata)] for one in details],
            strict=True,
        )
        return [
            f"{begin}{fact.identity.hex()},{time},{f.TYPE_NAMES[fact.type]},{address}{judge}{link}{reply},{ip},"
            f"{agent}{place}{event},{message},{more}{_EXCLUDED[fact.evidence & f.EXCLUDED]}"
            for begin, fact, time, address, judge, link, reply, ip, agent, place, event, message, more in columns
        ]


def own_cells(texts: list[str]) -> list[str]:
    """The cells of texts of which hardly any is like another."""
    together = ",".join(texts)
    if (
        together.isascii()
        and not together.encode().translate(None, _HARMLESS)
        and together.count(",") == len(texts) - 1
        and together[:1] not in _FORMULAS
        and ",=" not in together
        and ",+" not in together
        and ",-" not in together
        and ",@" not in together
    ):
        return texts
    if len(texts) <= FEW:
        return [text_cell(text) for text in texts]
    half = len(texts) // 2
    return own_cells(texts[:half]) + own_cells(texts[half:])


def _long_way(entry: Entry, verdict: Verdict | None) -> str:
    try:
        detail = decode_detail(entry.detail)
    except UNDECODABLE:
        detail = _NO_DETAIL
    return row(event_item(entry, detail, *(verdict or (None, None))))


# Cells with their commas.

_EXCLUDED: Final = {0: f"false{END}", f.EXCLUDED: f"true{END}"}


def _cells(texts: tuple[str | None, ...]) -> str:
    return "".join([f"{text_cell(text or '')}," for text in texts])


def _judged(verdict: Verdict | None) -> str:
    return ",,," if verdict is None else f",{VERDICT_NAMES[verdict[0]]},{verdict[1]},"


def _link(named: tuple[str | None, int, str | None]) -> str:
    link, position, reason = named
    return f"{text_cell(link or '')},{position or ''},{text_cell(reason or '')},"


def _place(named: tuple[str | None, str | None, str | None, bytes, str]) -> str:
    country, city, provider, stored, esp = named
    variant = _decode_variant(stored) if stored else None
    return _cells((country, city, provider, variant_text(variant) if variant else "", esp))


def _lists(stored: tuple[bytes, bytes]) -> str:
    tags = _decode_tags(stored[0]) if stored[0] else ()
    metadata = _decode_metadata(stored[1]) if stored[1] else {}
    return _cells((tags_text(tags) if tags else "", metadata_text(metadata) if metadata else ""))
