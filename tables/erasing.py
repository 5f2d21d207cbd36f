"""What an erasure blanks in the event log and in the names of a report (`app.erasure` says what)."""

from __future__ import annotations

from typing import Any

import msgspec
from rocksdict import Rdict, WriteBatch

from app import breakdown as b
from app.erasure import ERASED, blank, tells
from app.errors import UNDECODABLE
from app.facts import CampaignKey, Detail, Entry, decode_detail
from app.fold import Changes, Fallen, log_key
from app.state import RecipientState
from tables import layout
from tables.book import KnownNames
from tables.campaign_book import put_name

_entry_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


def blank_log(
    log: Rdict,
    campaign: CampaignKey,
    state: RecipientState,
    fallen: Fallen,
    changes: Changes,
    book: KnownNames,
    batch: WriteBatch,
) -> set[int]:
    """Blanks what the log has of a recipient; gives the sections that lost a name."""
    places = [log_key(fact) for fact in state.facts]
    if state.overflow:
        places += [(place.at_ms, place.identity) for place in fallen.places()]
    names: list[Any] = [layout.log_name(campaign, *place) for place in places]
    renamed: set[int] = set()
    for stored in (log.get(names) if names else None) or ():
        if stored is not None:
            entry = _entry_decoder.decode(stored)
            changes.log[log_key(entry.fact)] = blank(entry)
            renamed |= hide_names(campaign, entry, book, batch)
    return renamed


def hide_names(campaign: CampaignKey, entry: Entry, book: KnownNames, batch: WriteBatch) -> set[int]:
    """Takes the names that tell an erased person out of the report, before the entry is blanked; gives their
    sections. A name that was taken out stays so, whoever else has it."""
    hidden: set[int] = set()
    try:
        detail = decode_detail(entry.detail)
    except UNDECODABLE:
        detail = Detail("")
    fact = entry.fact
    for section, number, text in ((b.LINK, fact.link, detail.link), (b.REASON, fact.reason, detail.reason)):
        if number and tells(text, entry.address) and book.rename(section, number, ERASED):
            put_name(batch, campaign, (section, number, ERASED))
            hidden.add(section)
    return hidden
