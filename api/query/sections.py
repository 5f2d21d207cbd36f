"""Clickers of links, and rows of sections beyond those that Redis holds."""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

import msgspec

from api.query.answering import Readers, fences_of
from api.query.walks import states_of
from api.query.wire import (
    ClickersRequest,
    Page,
    RowsAnswer,
    RowsRequest,
    TopClickersAnswer,
    TopClickersRequest,
    TopsAnswer,
    TopsRequest,
)
from app import breakdown as b
from app import tally
from app.filters import link_recipients, link_row
from tables import paging
from tables.link_ends import Ends, widest
from tables.lookups import PagedReader

_TRIES: Final = 5

_encode = msgspec.json.Encoder().encode


def clickers(readers: Readers, request: ClickersRequest) -> Page:
    """Who clicked a link, the most clicks first. `matching` 0: nobody, or the campaign has no such link."""
    walk = paging.by_clicks(
        readers, request.campaign, request.link, request.count == "people", after=request.after
    )
    steps = list(islice(walk, request.limit + 1))
    shown = steps[: request.limit]
    states = states_of(readers, request.campaign, [(step.partition, step.value) for step in shown])
    rows = [
        (
            step.order,
            _encode({"recipient": state.address or None, "clicks": paging.clicks_of(step.order)}),
        )
        for step, state in zip(shown, states, strict=True)
        if state is not None
    ]
    tallies = [reader.rows(request.campaign, [link_row(request.link)])[0] for reader in readers.values()]
    return Page(
        rows,
        shown[-1].order if len(steps) > request.limit else None,
        sum(link_recipients(tally, request.count) for tally in tallies),
        fences_of(readers),
    )


def top_clickers(readers: Readers, request: TopClickersRequest) -> TopClickersAnswer:
    """The first few of each link. Erased people are among them, without an address."""
    people = request.count == "people"
    steps = [
        list(islice(paging.by_clicks(readers, request.campaign, link, people), request.most))
        for link in request.links
    ]
    wanted = list(dict.fromkeys((step.partition, step.value) for some in steps for step in some))
    states = states_of(readers, request.campaign, wanted)
    addresses = {key: state.address for key, state in zip(wanted, states, strict=True) if state is not None}
    return TopClickersAnswer(
        [
            [(paging.clicks_of(step.order), addresses.get((step.partition, step.value), "")) for step in some]
            for some in steps
        ],
        fences_of(readers),
    )


def rows(readers: Readers, request: RowsRequest) -> RowsAnswer:
    sums = [0] * len(request.keys)
    for reader in readers.values():
        for place, value in enumerate(reader.rows(request.campaign, request.keys)):
            sums[place] += value
    return RowsAnswer([tally.to_bytes(value) for value in sums], fences_of(readers))


def tops(readers: Readers, request: TopsRequest) -> TopsAnswer:
    """Rows by their keys, and what all rows of their sections add up to. Of each partition both are of one moment."""
    totals: list[int | None] = [0] * len(request.sections)
    tallies = [0] * len(request.keys)
    ends: dict[int, Ends] = {}
    links = [int.from_bytes(key[1:9], "big") for key in request.keys if key[0] == b.LINK]
    for reader in readers.values():
        found = _at_one_moment(reader, request, links)
        for place, total in enumerate(found.totals):
            before = totals[place]
            totals[place] = before + total if before is not None and total is not None else None
        for place, value in enumerate(found.tallies):
            tallies[place] += value
        for link, pair in zip(links, found.ends, strict=True):
            if pair is not None:
                ends[link] = widest(ends[link], pair) if link in ends else pair
    return TopsAnswer(
        [tally.to_bytes(total) if total is not None else None for total in totals],
        [tally.to_bytes(value) for value in tallies],
        dict(ends),
        fences_of(readers),
    )


class _Moment(NamedTuple):
    totals: list[int | None]
    tallies: list[int]
    ends: list[Ends | None]


def _at_one_moment(reader: PagedReader, request: TopsRequest, links: list[int]) -> _Moment:
    """Somebody else may make the reader catch up meanwhile: then it is read again, and at last nothing is told."""
    for _ in range(_TRIES):
        before = reader.fence()
        found = _Moment(
            [reader.total(request.campaign, section) for section in request.sections],
            reader.rows(request.campaign, request.keys),
            reader.ends_of(request.campaign, links),
        )
        if reader.fence() == before:
            return found
    return found._replace(totals=[None] * len(request.sections))
