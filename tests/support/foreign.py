"""An installation as the first version left it: records without a fingerprint, and databases that counted them all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from app import keys
from app.facts import Entry, ErasedRecord, FactsRecord, RecipientKey
from tables import batches
from tables.foreign import ForeignFacts
from tests.support.facts import CAMPAIGN, ORG, START_MS

FOREIGN = b"the secret of another host"


def foreign(one: Entry, campaign: str = CAMPAIGN, org: str = ORG) -> Entry:
    """The entry as another host keyed it."""
    key = keys.campaign_key(FOREIGN, org, campaign)
    recipient = keys.recipient_key(FOREIGN, key, keys.normalise_address(one.address))
    identity = keys.identity(recipient, one.fact.type, one.fact.identity.hex())
    fact = msgspec.structs.replace(one.fact, identity=identity)
    return msgspec.structs.replace(one, recipient=recipient, fact=fact)


def first_facts(
    line: Sequence[Entry], campaign: str = CAMPAIGN, org: str = ORG, at_ms: int = START_MS
) -> bytes:
    """A record of facts as the first version wrote it."""
    return msgspec.msgpack.encode((FactsRecord.__struct_config__.tag, 1, org, campaign, at_ms, list(line)))


def first_erased(recipients: Sequence[RecipientKey], campaign: str = CAMPAIGN, org: str = ORG) -> bytes:
    return msgspec.msgpack.encode(
        (ErasedRecord.__struct_config__.tag, 1, org, campaign, START_MS, list(recipients))
    )


@contextlib.contextmanager
def first_version() -> Iterator[None]:
    """Databases count all that comes, by whatever secret it was keyed, and know nothing of key `checked`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "split", lambda record, *_: (record.entries, []))
        patch.setattr(ForeignFacts, "add", lambda *_: None)
        yield
