"""What readers of Redis see of databases once all is published, without a Redis."""

from __future__ import annotations

from typing import Any, cast

from agents.publication import NumbersOfPartition, SectionsOfPartition
from app.keys import campaign_key
from tables.section_merge import merge_parts, unpack_part
from tables.view_writer import FIELDS_AT, ViewWriter
from tables.views import View, view_of
from tests.support.databases import Databases
from tests.support.facts import ORG, SECRET


def view(world: Databases, campaign: str) -> View:
    """What a reader of Redis sees once all is published."""
    writer = ViewWriter(cast(Any, None))
    fields: dict[bytes, bytes] = {b"v": b"1"}
    sections: dict[bytes, bytes] = {}
    for database in world.databases.values():
        for part, target in (
            (NumbersOfPartition(database), fields), (SectionsOfPartition(database), sections),
        ):  # fmt: skip
            for campaign_touched, what in filter(None, part.touched(-1)):
                call = part.encode(writer, campaign_touched, what)
                if call is not None and campaign_touched == campaign_key(SECRET, ORG, campaign):
                    args = call[1]
                    target |= {b"org": str(args[3]).encode(), b"campaign": str(args[4]).encode()}
                    names, values = args[FIELDS_AT::2], args[FIELDS_AT + 1 :: 2]
                    target |= {
                        str(name).encode(): cast(bytes, value)
                        for name, value in zip(names, values, strict=True)
                    }
    found = view_of(fields, epoch="e", complete=True, hours=True)
    assert found is not None
    found.sections = merge_parts(
        (int(name.split(b":")[1]), int(name.split(b":")[2]), unpack_part(value))
        for name, value in sections.items()
        if name.startswith(b"x:")
    )
    return found
