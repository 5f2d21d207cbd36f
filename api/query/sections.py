"""Clickers of links, and rows of sections beyond those that Redis holds."""

from __future__ import annotations

from itertools import islice

import msgspec

from api.query.answering import Readers, fences_of
from api.query.walks import states_of
from api.query.wire import (
    ClickersRequest,
    Page,
    RowsAnswer,
    RowsRequest,
    SectionAnswer,
    SectionRequest,
    TopClickersAnswer,
    TopClickersRequest,
)
from app import breakdown as b
from app import tally
from app.filters import link_recipients, link_row
from tables import paging
from tables.link_ends import NO_ENDS
from tables.section_parts import SectionPart, _name, pack_part

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


def section(readers: Readers, request: SectionRequest) -> SectionAnswer:
    """All rows of a section, as `tables.section_parts.section_part` has the largest ones."""
    parts = []
    for reader in readers.values():
        book = reader.book(request.campaign)
        found = list(book.section(request.section))
        part = SectionPart([(key[1:], tally.to_bytes(value), _name(book, key)) for key, value in found])
        if request.section == b.LINK:
            part.ends = [book.ends.get(int.from_bytes(key[1:9], "big"), NO_ENDS) for key, _ in found]
        parts.append(pack_part(part))
    return SectionAnswer(parts, fences_of(readers))
