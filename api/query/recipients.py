"""Pages of the recipients table, and one recipient with all their events.

Rules:
- Whatever the walk (`api.query.walks`), the state decides: a row stands in the answer when its recipient counts,
  matches the filter, and still stands where the walk found it.
- A page whose rows are far between may be short (`api.query.taking`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from api.query.answering import Books, Readers, fences_of, rules_of
from api.query.taking import take
from api.query.walks import clicked_by, last_counted_ms, patterns_of, states_of, walk_of
from api.query.wire import Page, RecipientsRequest
from app import breakdown as b
from app.breakdown import row_key
from app.contribution import contribution
from app.facts import CampaignKey, RecipientKey
from app.filters import (
    RecipientFilter,
    RecipientTest,
    has_variant,
    home_number,
    recipients_by_status,
)
from app.items import recipient_item
from app.state import RecipientState
from app.summary import Count
from app.tally import field_of
from app.verdicts import Rules
from tables import layout, paging
from tables.lookups import PagedReader
from tables.names import NameBook
from tables.paging import Step

_encode = msgspec.json.Encoder().encode


class _Row(NamedTuple):
    order: bytes
    partition: int
    state: RecipientState


def page(readers: Readers, books: Books, request: RecipientsRequest) -> Page:
    campaign, wanted, count = request.campaign, request.wanted, request.count
    book = books.of(campaign)
    walk = walk_of(readers, books.gathered, request)
    rules = rules_of(readers)
    check = _Check(readers, book, request, rules)
    rows, stopped = take(walk, check, request.limit)
    return Page(
        [(row.order, _encode(recipient_item(row.state, book, count, rules))) for row in rows],
        stopped,
        matching(readers, campaign, wanted, count),
        fences_of(readers),
    )


class _Check:
    """Steps of a walk → the rows among them that belong to the list."""

    def __init__(self, readers: Readers, book: NameBook, request: RecipientsRequest, rules: Rules) -> None:
        self._readers = readers
        self._book = book
        self._campaign = request.campaign
        self._test = RecipientTest(request.wanted, request.count, book)
        self._everybody = request.wanted.parts == (request.wanted.search is not None)
        self._by_address = request.sort == "recipient"
        self._rules = rules

    def rows(self, steps: list[Step], most: int) -> Iterator[_Row]:
        test = self._test
        if self._by_address:
            steps = [step for step in steps if test.address_matches(_text(step.order))]
        wanted = [(step.partition, step.value) for step in steps]
        found = states_of(self._readers, self._campaign, wanted, test.holding)
        for step, state in zip(steps, found, strict=True):
            if state is None:
                continue
            if test.asks_names:
                self._book.know(self._readers[step.partition], state.facts)
            if not test.may_match(state) or not self._stands(step, state):
                continue
            self._book.know(self._readers[step.partition], state.facts)
            if self._everybody or test.matches(contribution(state, self._book, self._rules)):
                yield _Row(step.order, step.partition, state)

    def _stands(self, step: Step, state: RecipientState) -> bool:
        """Whether the recipient counts and is still where they were found."""
        recipient = RecipientKey(step.value)
        address = layout.indexed_address(state, recipient)
        last_at_ms = last_counted_ms(state)
        if self._by_address:
            return address == _text(step.order) and last_at_ms >= 0
        if last_at_ms < 0 or not self._test.address_matches(address):
            return False
        return paging.activity_order(last_at_ms, recipient) == step.order


def _text(order: bytes) -> str:
    return order.decode("utf-8", "surrogatepass")


def matching(readers: Readers, campaign: CampaignKey, wanted: RecipientFilter, count: Count) -> int | None:
    """How many recipients match, where that is a number of the report; None where it isn't."""
    if wanted.parts > 1 or wanted.search is not None:
        return None
    if wanted.link is not None:
        return clicked_by(readers, campaign, wanted.link, count)
    if wanted.country is not None:
        key = row_key(b.HOME, home_number(wanted.country))
        return sum(field_of(reader.rows(campaign, [key])[0], 0) for reader in readers.values())
    if wanted.variant:
        return sum(_variant_recipients(reader, campaign, wanted) for reader in readers.values())
    return recipients_by_status(patterns_of(readers, campaign), wanted.status, count)


def _variant_recipients(reader: PagedReader, campaign: CampaignKey, wanted: RecipientFilter) -> int:
    texts = dict(reader.names_of(campaign, b.VARIANT))
    return sum(
        field_of(tally, 0)
        for key, tally in reader.section(campaign, b.VARIANT)
        if has_variant(texts.get(int.from_bytes(key[1:9], "big")), wanted.variant)
    )
