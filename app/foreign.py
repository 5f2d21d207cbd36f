"""Facts keyed by another secret than the installation's: how they are told, and how they are keyed anew.

A recipient's key and a fact's identity hang on the secret, so such facts are about recipients that nobody has: counted,
they would make everybody two. Rules:
- A record says by which secret its keys were made (`secret`), and that is never overruled.
- Records of the first version don't say it. There the key is computed again from the address, normalised as that
  version did. An entry that has no address can't be judged and is taken for ours.
- An identity is a hash of the key and of what the ESP's module says makes an event the same event again. Those parts
  are not in the log, but what they can have been is, and the foreign identity proves which: only then a fact is keyed
  anew, and has the identity that reading its webhook again would give it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from app import facts as f
from app.errors import UNDECODABLE
from app.facts import CampaignKey, Detail, Entry, FactsRecord, RecipientKey
from app.keys import identity, normalise_address, recipient_key


def is_foreign(secret: bytes, campaign: CampaignKey, recipient: RecipientKey, address: str) -> bool:
    """Whether a key of which no record says so was made of another secret. `address`: in the log's spelling."""
    normalised = _first_normalised(address)
    return bool(normalised) and recipient_key(secret, campaign, normalised) != recipient


def split(
    record: FactsRecord, secret: bytes, fingerprint: str, campaign: CampaignKey
) -> tuple[list[Entry], list[Entry]]:
    """The record's entries: (ours, foreign). `fingerprint` and `campaign` (the key) are made of `secret`."""
    if record.secret:
        return (record.entries, []) if record.secret == fingerprint else ([], record.entries)
    ours: list[Entry] = []
    foreign: list[Entry] = []
    for entry in record.entries:
        (foreign if is_foreign(secret, campaign, entry.recipient, entry.address) else ours).append(entry)
    return ours, foreign


def keyed_anew(secret: bytes, campaign: CampaignKey, entry: Entry) -> Entry | None:
    """A foreign entry as reading its webhook again would give it; None where that can't be proved."""
    if not entry.address:
        return None
    try:
        detail = f.decode_detail(entry.detail)
    except UNDECODABLE:
        return None
    fact = entry.fact
    for parts in _possible_parts(fact.at_ms, detail):
        if identity(entry.recipient, fact.type, *parts) == fact.identity:
            recipient = recipient_key(secret, campaign, normalise_address(entry.address))
            ours = msgspec.structs.replace(fact, identity=identity(recipient, fact.type, *parts))
            return msgspec.structs.replace(entry, recipient=recipient, fact=ours)
    return None


def _possible_parts(at_ms: int, detail: Detail) -> Iterator[tuple[str, ...]]:
    """What an identity can have been made of (`app.normalize`), as far as the log tells."""
    yield str(at_ms), detail.link or "", detail.ip or "", detail.user_agent or ""
    if detail.esp_event_id is not None:
        yield (detail.esp_event_id,)


def _first_normalised(address: str) -> str:
    """`keys.normalise_address` of the version whose records don't say by which secret they were keyed. It stays."""
    return address.strip().lower()
