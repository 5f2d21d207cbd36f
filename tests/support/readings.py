"""What becomes of every ESP's samples, in a table: so that a parser that reads otherwise says so (`Esp.reading`).

`python -m tests.support.readings` writes the table anew. It refuses what reads otherwise under the same reading.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import msgspec

from app import facts as f
from app.esps import ESPS
from app.normalize import READING
from tests.support.samples import RECEIVED_MS, SAMPLES, normalized

TABLE = Path(__file__).parents[1] / "app" / "esps" / "readings.json"
LATER_MS = RECEIVED_MS + 1_000 * 86_400_000
"""Behind the times of all samples: no clock is set right."""

Table = dict[str, dict[str, tuple[int, str]]]
"""ESP → sample → (reading, digest)."""


def stored() -> Table:
    return msgspec.json.decode(TABLE.read_bytes(), type=Table)


def table() -> Table:
    """As the parsers read now."""
    found: Table = {}
    for name, esp in sorted(ESPS.items()):
        paths = sorted(path for path in (SAMPLES / name).iterdir() if path.suffix != ".md")
        found[name] = {path.name: (READING + esp.reading, _digest(name, path.read_bytes())) for path in paths}
    return found


def changed(before: Table, now: Table) -> list[str]:
    """Samples that are read otherwise than before though the reading is the same, and readings that fell."""
    return [
        f"{esp}/{sample}"
        for esp, samples in before.items()
        for sample, (reading, digest) in samples.items()
        if (found := now.get(esp, {}).get(sample)) is not None
        and (found[0] < reading or (found[0] == reading and found[1] != digest))
    ]


def _digest(esp: str, body: bytes) -> str:
    made = normalized(esp, body, LATER_MS)
    entries = [
        (record.campaign, entry.address, msgspec.structs.replace(entry.fact, reading=0), entry.detail)
        for _, record in made.records
        for entry in record.entries
    ]
    entries.sort(key=lambda entry: entry[2].identity)
    dead = [(letter.reason, letter.index) for letter in made.dead]
    return hashlib.blake2b(f.encode((entries, dead)), digest_size=12).hexdigest()


if __name__ == "__main__":
    now = table()
    if TABLE.exists() and (bad := changed(stored(), now)):
        sys.exit(f"raise Esp.reading, or READING in app/normalize.py: {', '.join(bad)}")
    TABLE.write_bytes(msgspec.json.format(msgspec.json.encode(now), indent=1) + b"\n")
