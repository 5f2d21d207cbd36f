"""What hosts have to agree on, as hashes that each process publishes, and what a difference between them means.

Rules:
- A hash is keyed with the installation's secret and short: it tells configurations apart, and gives none of them away.
- Each part by itself (`PARTS`), so that who looks is told what differs. A role says only what it goes by.
- Secrets that are not on a host are no difference between files: condition `keys_missing` tells of them.
- What may differ from host to host (addresses, folders, levels of logs) is in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

import msgspec

from app.organisations import Organisation, Organisations
from app.settings import Settings

PARTS: Final[dict[str, str]] = {
    "partitions": "REPORTS_PARTITIONS differs",
    "rules": "the verdicts' thresholds differ",
    "max_body": "REPORTS_MAX_BODY differs",
    "organisations": "the organisations and sources of reports.toml differ",
    "secrets": "the keys and secrets that reports.toml names differ",
}
"""Part → what a difference is called."""
_WAY_OUT: Final = (
    "What one host takes another may refuse or read otherwise: make reports.toml, the files that it names and these "
    "settings the same on all hosts, then send SIGHUP, or restart where it is a setting."
)

Fingerprints = Mapping[str, str]
"""Part → hash."""

_encode = msgspec.json.Encoder(order="deterministic").encode


def fingerprints(settings: Settings, organisations: Organisations | None) -> Fingerprints:
    """Of one process; `organisations` None: of a role that doesn't go by them."""
    said: dict[str, object] = {
        "partitions": settings.partitions,
        "rules": settings.rules,
        "max_body": settings.max_body,
    }
    if organisations is not None:
        all_of_them = organisations.by_id.values()
        said["organisations"] = [_without_secrets(one) for one in sorted(all_of_them, key=lambda one: one.id)]
        if not organisations.waiting():
            said["secrets"] = {one.id: _secrets(one) for one in all_of_them}
    return {
        part: blake2b(
            _encode(value), digest_size=8, key=settings.secret[:64], person=b"configuration"
        ).hexdigest()
        for part, value in said.items()
    }


def _without_secrets(organisation: Organisation) -> Organisation:
    replace = msgspec.structs.replace
    return replace(
        organisation,
        keys=tuple(replace(key, secret=b"", absent=False) for key in organisation.keys),
        sources={
            name: replace(source, secrets=(), basic=(), bearer=(), absent=())
            for name, source in organisation.sources.items()
        },
    )


def _secrets(organisation: Organisation) -> object:
    return {
        "keys": {key.name: key.secret for key in organisation.keys},
        "sources": {
            name: (source.secrets, source.basic, source.bearer)
            for name, source in organisation.sources.items()
        },
    }


def differences(said: Iterable[tuple[str, Fingerprints]]) -> str | None:
    """(who, its hashes) of all living processes → one line on what differs, between whom, and the way out."""
    found = list(said)
    lines = []
    for part, words in PARTS.items():
        groups: dict[str, set[str]] = {}
        for who, parts in found:
            if part in parts:
                groups.setdefault(parts[part], set()).add(who)
        if len(groups) > 1:
            sides = sorted(
                (f"[{', '.join(sorted(names))}]" for names in groups.values()),
                key=lambda side: (len(side), side),
            )
            lines.append(f"{words} between {' and '.join(sides)}")
    return f"{'; '.join(lines)}. {_WAY_OUT}" if lines else None
