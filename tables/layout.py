"""The keys of a partition's database, and how it is opened.

One RocksDB per partition of topic `facts`. Column families and keys (integers are big-endian, so that keys sort by
value):
- `default`     `meta` → `Meta`; `offset` → the next offset to count, 8 bytes;
                `checkpoints` → of records that were counted, `last` → of the last one (`tables.checkpoints`)
                `checked` → the same, written by versions that leave out what another secret has keyed
                `C`+campaign → `CampaignRow`; `D`+campaign+day(4) → `DayRow`; `L`+campaign → `LabelsRow`
                `R`+campaign+row key(17) → tally of a section's row (`app.breakdown`), little-endian
                `N`+campaign+section(1)+number(8) → text: what a number in facts and row keys stands for
                `P`+campaign+section(1)+number(8) → text, of names that are parts of others (`tables.book.PARTS`)
                `G`+number(8) → `app.installation.Gap`: one that was crossed (`tables.gaps`)
                `E`+campaign+link(8) → `tables.link_ends.Ends`: first and last click of a link
                `Q`+campaign+section(1) → `tables.ranking.CutRow`: sums of a section that has very many rows
                `W`+campaign+section(1)+order(1)+rank(21) → nothing: the first rows of such a section
                `H`, `h`: sketches of people (`tables.people`)
                `O`: facts that fell out of the states (`tables.fallen`)
                `U`+campaign → `tables.personal.PersonalRow`: links of it look personal
                `X`+campaign+fingerprint → `tables.foreign.ForeignRow`: facts keyed by another secret
- `recipients`  campaign(8)+recipient(16) → `app.state.RecipientState`
- `log`         campaign(8)+at_ms(8)+identity(16) → `app.facts.Entry`: every fact, kept in the state or not
- `index`       `A`+campaign+normalised address → recipient: by address
                `T`+campaign+last_at_ms(8)+recipient → nothing: by newest activity
                `S`+campaign+bit(1)+normalised address → recipient: those whose pattern has one of `INDEXED_BITS`
                `K`+campaign+link(8)+people(1)+(2^32-1-clicks)(4)+recipient → nothing: top clickers first
                `F`+campaign+link(8)+people(1)+at_ms(8)+recipient → nothing: each recipient's first and last click
                `people` is 1 where only verdict human counts, else 0
- each of them `MARK` → the number of the last batch that was written to all
A campaign's rows stand together, so that a report, an export or a removal is one scan.

The layout carries a version (`Meta.version`). A section that needs more keys adds them under letters of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBufferManager,
)

from app import contribution as c
from app.breakdown import RowKey
from app.contribution import LinkClicks
from app.facts import CampaignKey, Identity, RecipientKey
from app.keys import normalise_address
from app.state import RecipientState
from app.verdicts import DEFAULT_RULES, Rules
from tables.walking import walk, walk_keys

LAYOUT_VERSION: Final = 2
COUNTING: Final = 1
"""What goes with the states (`Meta.counting`). 0: sketches may hold more people than the log and lack erased ones, and
of facts that fell out of a state there may be no key. Both are mended as facts come in, and all by a rebuild."""

META: Final = b"meta"
OFFSET: Final = b"offset"
CHECKED: Final = b"checked"
CHECKPOINTS: Final = b"checkpoints"
LAST: Final = b"last"
MARK: Final = b"\xff"
"""In each column family: the number of the last batch that was written to all of them.

RocksDB keeps the files of each in MANIFEST for itself. Where that, or the end of the write-ahead log, is cut short, it
opens some families as they are and others as they were, without an error. The key is outside of the ranges by which
families are emptied."""
RECIPIENTS: Final = "recipients"
LOG: Final = "log"
INDEX: Final = "index"

DAY_QUARTERS: Final = 96

INDEXED_BITS: Final = (
    c.CLICKED | c.BOUNCED | c.COMPLAINED | c.UNSUBSCRIBED | c.UNSUBSCRIBED_SUSPECTED | c.DEFERRED | c.REJECTED
    | c.FAILED | c.SCANNED
)  # fmt: skip
"""What few recipients are or do: by these they are found without a look at all others."""

MAX_CLICKS: Final = 2**32 - 1

_BLOCK_CACHE_BYTES: Final = 256 << 20
_WRITE_BUFFERS_BYTES: Final = 512 << 20


class Meta(msgspec.Struct, array_like=True):
    """What a database belongs to. Where the worker expects something else the partition is set aside."""

    version: int
    partition: int
    partitions: int
    topic_id: str
    """Kafka's id of topic `facts`: a topic made anew has another one."""
    secret: str
    """Fingerprint of the installation's secret: recipient keys of another secret would never match."""
    generation: int
    """Counts rebuilds: views of a higher generation replace those of a lower one."""
    rules: Rules = DEFAULT_RULES
    """The verdict rules that it was counted by. Others take effect with a rebuild."""
    rebuilt: str = ""
    """The request that the last rebuild answered."""
    rebuilding: bool = False
    """A rebuild began and did not end: it has to be done again."""
    counting: int = 0
    """`COUNTING` of the version that made the database, or rebuilt it last."""
    crossed: tuple[int, ...] = ()
    """Numbers of the gaps that it has crossed."""
    renew: bool = False
    """It has crossed or noted gaps since it took its generation, and readers are to hear of it: it takes another."""
    held: tuple[int, ...] = ()
    """Numbers of gaps that it has crossed, and behind whose begin it had counted something."""


class CampaignRow(msgspec.Struct, array_like=True):
    """A campaign's sums in this partition, and the offset of the batch that touched it last."""

    offset: int
    org: str
    campaign: str
    as_of_ms: int
    patterns: dict[int, int]
    totals: list[int]
    overflow: list[int]
    sections: dict[int, int] = {}
    """Section (`app.breakdown`) → offset of the batch that touched its rows last."""
    gaps: list[int] = []
    """Numbers of the gaps (`G`) that may have taken facts of it."""


class DayRow(msgspec.Struct, array_like=True):
    """A campaign's quarter hours of one UTC day: quarter → count by metric."""

    offset: int
    quarters: dict[int, list[int]]


class LabelsRow(msgspec.Struct, array_like=True):
    """What a campaign is called; only in the partition of its own record."""

    offset: int
    org: str
    campaign: str
    name: str | None
    subject: str | None
    fields: dict[str, dict[str, str]]


def campaign_name(campaign: CampaignKey) -> bytes:
    return b"C" + campaign


def day_name(campaign: CampaignKey, day: int) -> bytes:
    return b"D" + campaign + day.to_bytes(4, "big")


def labels_name(campaign: CampaignKey) -> bytes:
    return b"L" + campaign


def recipient_name(campaign: CampaignKey, recipient: RecipientKey) -> bytes:
    return campaign + recipient


def log_name(campaign: CampaignKey, at_ms: int, identity: Identity) -> bytes:
    return campaign + at_ms.to_bytes(8, "big") + identity


def address_name(campaign: CampaignKey, address: str) -> bytes:
    """`address` as `app.keys.normalise_address` gives it."""
    return b"A" + campaign + address.encode("utf-8", "surrogatepass")


def indexed_address(state: RecipientState, recipient: RecipientKey) -> str:
    """By what a recipient stands in the index by address. No address begins like that of an erased one: it has no @."""
    return f"erased:{recipient.hex()}" if state.erased else normalise_address(state.address)


def is_nobody(state: RecipientState) -> bool:
    """Whether it is of somebody who was erased before `RecipientState.person` was kept."""
    return state.erased and not state.person and bool(state.facts)


def activity_name(campaign: CampaignKey, last_at_ms: int, recipient: RecipientKey) -> bytes:
    return b"T" + campaign + last_at_ms.to_bytes(8, "big") + recipient


def row_name(campaign: CampaignKey, key: RowKey) -> bytes:
    return b"R" + campaign + key


def name_name(campaign: CampaignKey, name: bytes) -> bytes:
    """`name`: as `tables.book.name_of` gives it."""
    return b"N" + campaign + name


def foreign_name(campaign: CampaignKey, fingerprint: str) -> bytes:
    return b"X" + campaign + fingerprint.encode()


def part_name(campaign: CampaignKey, name: bytes) -> bytes:
    return b"P" + campaign + name


def cuts_name(campaign: CampaignKey) -> bytes:
    return b"Q" + campaign


def ranks_name(campaign: CampaignKey, section: int) -> bytes:
    """What stands before order and rank (`tables.ranking`)."""
    return b"W" + campaign + bytes((section,))


def gap_name(number: int) -> bytes:
    return b"G" + number.to_bytes(8, "big")


def ends_prefix(campaign: CampaignKey) -> bytes:
    return b"E" + campaign


def ends_name(campaign: CampaignKey, link: int) -> bytes:
    return ends_prefix(campaign) + link.to_bytes(8, "big")


def bit_prefix(campaign: CampaignKey, bit: int) -> bytes:
    """`bit`: one of `INDEXED_BITS`."""
    return b"S" + campaign + bytes((bit.bit_length(),))


def bit_name(campaign: CampaignKey, bit: int, address: str) -> bytes:
    return bit_prefix(campaign, bit) + address.encode("utf-8", "surrogatepass")


def clickers_prefix(campaign: CampaignKey, link: int, people: bool) -> bytes:
    return b"K" + campaign + link.to_bytes(8, "big") + bytes((people,))


def clicks_prefix(campaign: CampaignKey, link: int, people: bool) -> bytes:
    return b"F" + campaign + link.to_bytes(8, "big") + bytes((people,))


def click_names(campaign: CampaignKey, recipient: RecipientKey, clicks: tuple[LinkClicks, ...]) -> set[bytes]:
    """The index keys that a recipient's clicks own."""
    names = set()
    for one in clicks:
        for people, count, first_at_ms, last_at_ms in (
            (False, one.clicks, one.first_at_ms, one.last_at_ms),
            (True, one.people, one.people_first_at_ms, one.people_last_at_ms),
        ):
            if count:
                rank = (MAX_CLICKS - count).to_bytes(4, "big")
                names.add(clickers_prefix(campaign, one.link, people) + rank + recipient)
                prefix = clicks_prefix(campaign, one.link, people)
                names.add(prefix + first_at_ms.to_bytes(8, "big") + recipient)
                names.add(prefix + last_at_ms.to_bytes(8, "big") + recipient)
    return names


def after(prefix: bytes) -> bytes:
    """The smallest key behind all keys that start with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\xff" * 1024


def scan(db: Rdict, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All (key, value) of a column family whose key starts with `prefix`, in order, without its mark."""
    # No bound in the read options: the iterator of rocksdict 0.3.29 points into the bound without holding it, and runs
    # on into other keys at random. A comparison for each row is cheap beside decoding it.
    for name, value in walk(db, prefix):
        if not name.startswith(prefix):
            return
        if name != MARK:
            yield name, value


def scan_keys(db: Rdict, prefix: bytes) -> Iterator[bytes]:
    """All keys of a column family that start with `prefix`, in order."""
    for name in walk_keys(db, prefix):
        if not name.startswith(prefix):
            return
        yield name


def scan_back(db: Rdict, prefix: bytes) -> Iterator[bytes]:
    """All keys of a column family that start with `prefix`, the last one first."""
    for name in walk_keys(db, after(prefix), backwards=True):
        if name.startswith(prefix):
            yield name
        elif name < prefix:
            return


# One cache and one budget of write buffers for all partitions of a process, however many it has.
_cache: Cache | None = None
_buffers: WriteBufferManager | None = None


def _options(*, bloom: bool, create: bool) -> Options:
    global _cache, _buffers
    if _cache is None or _buffers is None:
        _cache = Cache(_BLOCK_CACHE_BYTES)
        _buffers = WriteBufferManager(_WRITE_BUFFERS_BYTES, False)
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    options.set_write_buffer_size(64 << 20)
    options.set_write_buffer_manager(_buffers)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_bottommost_compression_type(DBCompressionType.zstd())
    options.set_max_background_jobs(2)
    options.set_max_open_files(256 if create else -1)  # a reader beside the writer must hold all of its files
    table = BlockBasedOptions()
    table.set_block_cache(_cache)
    table.set_block_size(16 << 10)
    if bloom:
        table.set_bloom_filter(10, False)
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.05)
    options.set_block_based_table_factory(table)
    return options


def _has_files(path: Path) -> bool:
    """Whether a database was ever in the folder."""
    return any(one.suffix in (".sst", ".ldb", ".log") for one in path.glob("*"))


def look_for_database(path: Path) -> None:
    """To be asked before a reader opens it: rocksdict makes a folder that isn't there, and a writer that still has the
    removed one open would write into it. Raises as RocksDB does."""
    if not (path / "CURRENT").exists():
        raise Exception(f"IO error: No such file or directory: {path / 'CURRENT'}")


def open_database(path: Path, *, secondary: Path | None = None) -> Rdict:
    """Opens for writing (creating what is missing), or as a reader beside the writer with files of its own.

    Raises Exception with "lock" in its text while another process has it open for writing.
    """
    create = secondary is None
    if not create:
        look_for_database(path)
    if create and not (path / "CURRENT").exists() and _has_files(path):
        # RocksDB would make an empty one among them, and take what its last write-ahead log has for all there is.
        raise Exception("Corruption: CURRENT is not there, and other files of a database are")
    access = AccessType.read_write() if secondary is None else AccessType.secondary(str(secondary))
    return Rdict(
        str(path),
        options=_options(bloom=True, create=create),
        column_families={
            RECIPIENTS: _options(bloom=True, create=create),
            LOG: _options(bloom=True, create=create),
            INDEX: _options(bloom=False, create=create),
        },
        access_type=access,
    )
