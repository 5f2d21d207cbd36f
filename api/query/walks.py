"""Which walk leads to the rows of a recipients page with the fewest looks at others.

- By address: the index by address, or that of the few who have a status (`layout.INDEXED_BITS`), from the start of a
  search on.
- By activity: the index by activity with a look at everybody; or a handful of candidates, gathered and sorted.
Gathered candidates are kept while nothing of the campaign changes, so that the second page costs no second gathering.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from api.query.answering import Gathered, Readers, stamp_of
from api.query.wire import RecipientsRequest
from app import contribution as c
from app.facts import EXCLUDED, CampaignKey, RecipientKey
from app.filters import BITS, link_recipients, link_row
from app.state import RecipientState
from app.summary import Count
from tables import layout, paging
from tables.paging import Step

GATHERED: Final = 4_000
"""At most so many candidates are sorted for a page: 30 ms."""


def walk_of(readers: Readers, gathered: Gathered, request: RecipientsRequest) -> Iterator[Step]:
    campaign, wanted, after = request.campaign, request.wanted, request.after
    patterns = patterns_of(readers, campaign)
    everybody = sum(patterns.values())
    search = (wanted.search or "").encode("utf-8", "surrogatepass")
    start = b"" if search.startswith(b"@") else search
    bit = BITS.get(wanted.status or "") or (c.CLICKED if wanted.link is not None else 0)
    candidates = sum(n for pattern, n in patterns.items() if pattern & bit) if bit else everybody

    def narrow(after: bytes | None) -> Iterator[Step]:
        if bit:
            return paging.by_bit(readers, campaign, bit, after=after, start=start)
        return paging.by_address(readers, campaign, after=after, start=start)

    def sorted_of(found: Callable[[], Iterable[Step]], *described_by: object) -> Iterator[Step]:
        """Candidates in the order of the list, from behind `after` on."""
        order = _address_order if request.sort == "recipient" else _activity_order
        key = campaign, tuple(readers), request.sort, described_by
        steps = gathered.get(
            key, stamp_of(readers, campaign), lambda: _sorted(readers, campaign, found(), order)
        )
        first = 0 if after is None else bisect_right(steps, after, key=lambda step: step.order)
        return islice(steps, first, None)

    if wanted.link is not None:
        link, people = wanted.link, request.count == "people"
        clicked = clicked_by(readers, campaign, link, request.count)
        if _fewer(clicked, candidates if request.sort == "recipient" else everybody, request.limit):
            return sorted_of(lambda: paging.by_clicks(readers, campaign, link, people), link, people)
    if request.sort == "recipient":
        return narrow(after)
    if start:
        some = list(islice(narrow(None), GATHERED + 1))
        if len(some) <= GATHERED:
            return sorted_of(lambda: some, bit, start)
    elif bit and _fewer(candidates, everybody, request.limit):
        return sorted_of(lambda: narrow(None), bit)
    return paging.by_activity(readers, campaign, after=after)


def _fewer(candidates: int, others: int, limit: int) -> bool:
    """Whether sorting all candidates looks at fewer states than walking through the others until a page is found."""
    return candidates <= GATHERED and candidates**2 < others * limit


def _sorted(
    readers: Readers,
    campaign: CampaignKey,
    found: Iterable[Step],
    order: Callable[[RecipientKey, RecipientState], bytes],
) -> list[Step]:
    steps = list(found)
    states = states_of(readers, campaign, [(step.partition, step.value) for step in steps])
    return sorted(
        Step(order(RecipientKey(step.value), state), step.partition, step.value)
        for step, state in zip(steps, states, strict=True)
        if state is not None
    )


def _address_order(recipient: RecipientKey, state: RecipientState) -> bytes:
    return layout.indexed_address(state, recipient).encode("utf-8", "surrogatepass")


def _activity_order(recipient: RecipientKey, state: RecipientState) -> bytes:
    return paging.activity_order(max(0, last_counted_ms(state)), recipient)


def last_counted_ms(state: RecipientState) -> int:
    """As the contribution has it: the time of the newest fact that counts, -1 where none does."""
    return next((fact.at_ms for fact in reversed(state.facts) if not fact.evidence & EXCLUDED), -1)


def states_of(
    readers: Readers, campaign: CampaignKey, wanted: list[tuple[int, bytes]], holding: bytes = b""
) -> list[RecipientState | None]:
    """(partition, recipient) → states, with one look-up for each partition; None also for those whose bytes don't hold
    `holding`."""
    by_partition: dict[int, list[int]] = {}
    for place, (partition, _) in enumerate(wanted):
        by_partition.setdefault(partition, []).append(place)
    found: list[RecipientState | None] = [None] * len(wanted)
    for partition, places in by_partition.items():
        keys = [RecipientKey(wanted[place][1]) for place in places]
        for place, state in zip(places, readers[partition].states(campaign, keys, holding), strict=True):
            found[place] = state
    return found


def patterns_of(readers: Readers, campaign: CampaignKey) -> dict[int, int]:
    """Recipients by pattern, over these partitions."""
    patterns: dict[int, int] = {}
    for reader in readers.values():
        row = reader.campaign_row(campaign)
        if row is not None:
            for pattern, recipients in row.patterns.items():
                patterns[pattern] = patterns.get(pattern, 0) + recipients
    return patterns


def clicked_by(readers: Readers, campaign: CampaignKey, link: int, count: Count) -> int:
    tallies = (reader.rows(campaign, [link_row(link)])[0] for reader in readers.values())
    return sum(link_recipients(tally, count) for tally in tallies)
