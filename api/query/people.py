"""Distinct people of a window: sketches of many quarter hours and days, merged where they lie."""

from __future__ import annotations

from api.query.answering import Readers, fences_of
from api.query.wire import PeopleAnswer, PeopleRequest
from tables.sketches import Union


def people(readers: Readers, request: PeopleRequest) -> PeopleAnswer:
    sketches = []
    for kind in request.kinds:
        union = Union()
        for reader in readers.values():
            for campaign in request.campaigns:
                for sketch in reader.people(campaign, kind, request.first, request.end):
                    union.add(sketch)
        sketches.append(union.encode())
    return PeopleAnswer(sketches, fences_of(readers))
