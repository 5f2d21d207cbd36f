"""What is kept of one recipient, and its bytes on disk.

The state is a value: which facts are in it depends on the set of facts that came, never on their order. Its bytes are
canonical, so equal states are equal bytes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from app.facts import Fact

STATE_VERSION: Final = 1

UNCOUNTED: Final = 3
"""The class, in `overflow`, of facts of excluded addresses."""


class RecipientState(msgspec.Struct, array_like=True, gc=False):
    """`facts` in order of (at_ms, identity), `address` as the first of them spelled it.

    `overflow` counts what is no longer kept fact by fact (see `app.fold`): [type, class, count] in order. The
    class of opens and clicks is the verdict by their own evidence, that of soft bounces and suspect unsubscribes 1.
    """

    version: int
    address: str
    facts: list[Fact]
    overflow: list[tuple[int, int, int]] = []
    erased: bool = False
    """The person was erased: what identifies them is gone, here and in the log (`app.erasure`)."""
    person: int = 0
    """`app.keys.person_id` of an erased person, who goes on counting among the unique people. 0: not erased, nothing
    came of them yet, or erased before this was kept."""


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[RecipientState] = msgspec.msgpack.Decoder(RecipientState)


def encode_state(state: RecipientState) -> bytes:
    """Of everybody who isn't erased the bytes are those of the versions that didn't know of `person`."""
    if state.person:
        return _encode(state)
    return _encode((state.version, state.address, state.facts, state.overflow, state.erased))


def decode_state(data: bytes) -> RecipientState:
    return _decoder.decode(data)
