"""A campaign's recipients as records of an export (`tables.exports`): the address they are sorted by, and the row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec

from app import breakdown as b
from app.breakdown import AgentRows, PlaceRows, row_key
from app.contribution import Contribution, contribution
from app.csv_recipients import Kept, RecipientRows
from app.csv_rows import FORMULA, text_cell
from app.facts import CampaignKey, RecipientKey
from app.filters import RecipientFilter, RecipientTest
from app.keys import normalise_address, text_id
from app.state import RecipientState
from app.summary import Count
from app.verdicts import Rules
from tables import layout
from tables.moments import Moment
from tables.sorting import Block, Sorter
from tables.walking import walk

BATCH: Final = 1_000
_TEXTS: Final = 50_000
_NUL: Final = "\0"
_FORMULA: Final = frozenset(FORMULA)

decode_state = msgspec.msgpack.Decoder(RecipientState).decode
"""As `app.state.decode_state`, without a call in between: there are millions of them."""

Moments = Mapping[int, Moment]
"""By partition."""
Tell = Callable[[int], None]
"""Is called now and then with the number of rows read so far."""


class Texts:
    """What the numbers in facts stand for, looked up when they are met (`app.filters.Names`).

    A number is a hash of its text, so a name is the same in whatever partition it stands.
    """

    def __init__(self, moments: Iterable[Moment], campaign: CampaignKey) -> None:
        self._moments = list(moments)
        self._campaign = campaign
        self._texts: dict[tuple[int, int], str | None] = {}

    def text(self, section: int, number: int) -> str | None:
        key = (section, number)
        try:
            return self._texts[key]
        except KeyError:
            if len(self._texts) >= _TEXTS:
                self._texts.clear()
            found = self._texts[key] = self._look_up(key)
            return found

    def _look_up(self, key: tuple[int, int]) -> str | None:
        for moment in self._moments:
            (text,) = moment.names(self._campaign, [key])
            if text is not None:
                return text
        return None

    def country(self, place: int) -> int:
        text = self.text(b.CITY, place) if place else ""
        if text is None or (place and not text.partition("\0")[0]):
            return b.UNKNOWN
        return text_id(text.partition("\0")[0]) if place else 0

    # No filter asks for the sections' rows.

    def agent_rows(self, agent: int) -> AgentRows:
        return b.AGENT_UNKNOWN

    def proxied_rows(self, agent: int) -> AgentRows:
        return b.AGENT_PROXY

    def place_rows(self, place: int) -> PlaceRows:
        return b.PLACE_UNKNOWN


def recipient_rows_of(block: Block) -> list[str]:
    """Texts that are the rows of a block of recipients' records, one after the other."""
    *most, last = block
    text = "".join(most)
    if text.count(_NUL) == len(most):
        return [text.replace(_NUL, ""), _row_of(last)]
    return [_row_of(record) for record in block]


def _row_of(record: str) -> str:
    """A record is the normalised address, a NUL, and the row without its first cell where that is the same text; else
    another NUL and the whole row."""
    place = record.index(_NUL) + 1
    return record[place + 1 :] if record[place] == _NUL else record[: place - 1] + record[place:]


def _prefixes(states: list[RecipientState]) -> list[str]:
    """How the records of these recipients begin, up to the first comma that follows the address."""
    addresses = [state.address for state in states]
    together = " ".join(addresses)
    if (
        together.isascii()
        and together.isprintable()
        and together.count(" ") == len(addresses) - 1
        and "," not in together
        and '"' not in together
        and _FORMULA.isdisjoint([address[:1] for address in addresses])
    ):
        # All are their own cells, and nothing is to be trimmed: that is soon known of many together.
        lower = together.lower()
        if lower == together:
            return [f"{address}\0" for address in addresses]
        return [
            f"{address}\0" if key == address else f"{key}\0\0{address}"
            for key, address in zip(lower.split(" "), addresses, strict=True)
        ]
    return [_prefix(address) for address in addresses]


def _prefix(address: str, key: str | None = None) -> str:
    """`key`: by what the record is sorted, where that isn't the normalised address."""
    if key is None:
        key = normalise_address(address).replace(_NUL, "\1")
    cell = text_cell(address)
    return f"{key}\0" if cell == key else f"{key}\0\0{cell}"


def recipients(
    moments: Moments,
    campaign: CampaignKey,
    wanted: RecipientFilter,
    count: Count,
    sorter: Sorter,
    tell: Tell = lambda read: None,
) -> Iterator[Block]:
    """Records of all recipients that match, by address. They are read when the first one is asked for."""
    makers: dict[Rules, _Maker] = {}
    texts = Texts(moments.values(), campaign)
    read = 0
    for moment in moments.values():
        rules = moment.rules()
        maker = makers.get(rules)
        if maker is None:
            maker = makers[rules] = _Maker(texts, wanted, count, rules)
        for found in _batches(moment, campaign):
            sorter.add(maker.records(found))
            read += len(found)
            tell(read)
    yield from sorter.sorted()


def _batches(moment: Moment, campaign: CampaignKey) -> Iterator[list[tuple[bytes, bytes]]]:
    """(key, stored state) of a partition's recipients."""
    found = walk(moment.recipients_db(), campaign)
    prefix = bytes(campaign)
    while batch := list(islice(found, BATCH)):
        if not batch[-1][0].startswith(prefix):
            yield [pair for pair in batch if pair[0].startswith(prefix)]
            return
        yield batch


class _Maker:
    """Stored states → records, in no order."""

    def __init__(self, texts: Texts, wanted: RecipientFilter, count: Count, rules: Rules) -> None:
        self._texts = texts
        self._rules = rules
        self._test = RecipientTest(wanted, count, texts)
        self._of_link = wanted.link is not None
        self._searched = wanted.search is not None
        everybody = wanted.status is None and not wanted.variant and wanted.country is None
        kept = None if self._of_link or everybody else _kept(self._test, texts)
        self._row = RecipientRows(texts, count, rules, kept).row

    def records(self, stored: list[tuple[bytes, bytes]]) -> Block:
        make, searched, of_link = self._row, self._searched, self._of_link
        states = [decode_state(data) for _, data in stored]
        records: Block = []
        for (name, _), state, prefix in zip(stored, states, _prefixes(states), strict=True):
            if searched or state.erased:
                address = layout.indexed_address(state, RecipientKey(name[8:]))
                if searched and not self._test.address_matches(address):
                    continue
                if state.erased:
                    prefix = _prefix(state.address, address)
            if of_link and not self._matches(state):
                continue
            record = make(state, prefix)
            if record is not None:
                records.append(record)
        return records

    def _matches(self, state: RecipientState) -> bool:
        test = self._test
        return test.may_match(state) and test.matches(contribution(state, self._texts, self._rules))


def _kept(test: RecipientTest, texts: Texts) -> Kept:
    """A filter's answer by what it depends on. Not for one with a link."""
    known: dict[tuple[int, int, int], bool] = {}

    def kept(pattern: int, variant: int, place: int) -> bool:
        key = (pattern, variant, place)
        found = known.get(key)
        if found is None:
            if len(known) >= _TEXTS:
                known.clear()
            groups = (
                row_key(b.PROVIDER, 0), row_key(b.VARIANT, variant), row_key(b.HOME, texts.country(place)),
            )  # fmt: skip
            found = known[key] = test.matches(Contribution(pattern, (), (), 0, groups=groups))
        return found

    return kept
