"""What the API asks a query process for an export, and what comes back.

`POST /export/2` with an `ExportRequest` as MessagePack; 200 with a body that begins with an `ExportHead` (4 bytes of
length, MessagePack), then the bytes of the file. Between query processes (`as_records`) the rest is frames of the same
kind: lists of records in order (`tables.exports`), an empty one now and then while there are none. A body that breaks
off is an export that failed: its end must be the end of the HTTP message.

409 and 503 carry a `wire.Refusal`, as for the pages; 503 also where too many exports run.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tables.exports import Asked

PATH: Final = "/export/2"
"""Its number changes with the form of records: what processes of two versions can't merge, they refuse each other."""
LENGTH_BYTES: Final = 4
MAX_HEAD: Final = 1 << 20
UNREADABLE: Final = "a database can't be read: "
"""Begin of the line on standard error that ends in RocksDB's error."""
QUIET_S: Final = 120.0
"""Longer than this nothing comes only from a process that hangs: something is written every few seconds."""


class ExportRequest(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    asked: Asked
    partitions: tuple[int, ...]
    """Those to be read here."""
    elsewhere: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """(URL of another query process, partitions to be read there and merged in here)."""
    gzip: bool = False
    as_records: bool = False


class ExportJob(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What the export's own process is given on its standard input."""

    request: ExportRequest
    state: str
    """Folder of the partition databases."""
    token: str
    """Of the query processes elsewhere."""


class ExportHead(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    fences: dict[int, tuple[int, int]] = {}
    """Partition → (generation, offset): as of when it was read."""
    missing: tuple[int, ...] = ()
    """Not empty: there is no export, since these can't be read at the moment."""


encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(ExportRequest).decode
decode_job = msgspec.msgpack.Decoder(ExportJob).decode
decode_head = msgspec.msgpack.Decoder(ExportHead).decode
decode_records = msgspec.msgpack.Decoder(list[str]).decode


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH_BYTES, "big") + data
