"""May this host go on under the installation that it finds, or make one? Pure: `cli.identity` looks and acts.

The rules, in their order; what is refused says why and which way leads out (`REFUSALS`):
1. Where the installation has an identity, a host goes on with its secret and its number of partitions, or not at all.
2. Where it has none and nothing was ever keyed (`facts` holds no record), the host makes one.
3. Where it has none but facts are there, the installation is older than identities. It is adopted only by a host that
   proves itself: by its databases, or, where it has none, by its secret yielding the keys of most stored facts. (A
   minority may be foreign: before there were identities nothing kept another secret out.)
4. A secret is made only for 2, so none is ever made where facts were keyed by another one.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from app.facts import Entry, FactsRecord
from app.installation import Identity
from app.keys import campaign_key, normalise_address, recipient_key


class Databases(Enum):
    """What a host's partition databases say of its secret and of topic `facts`."""

    NONE = "none"
    MATCH = "match"
    OTHER_SECRET = "other secret"  # noqa: S105
    OTHER_TOPIC = "other topic"


class Host(msgspec.Struct, frozen=True, kw_only=True):
    secret: str | None
    """`keys.secret_fingerprint`; None: this host has no secret."""
    partitions: int


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What there is where the installation has no identity."""

    facts: bool
    """Whether topic `facts` holds records."""
    databases: Databases = Databases.NONE
    ours: int = 0
    """Facts, of those looked at, whose keys the host's secret yields."""
    foreign: int = 0
    """Facts whose keys it doesn't yield."""


class Decision(Enum):
    SERVE = "serve"
    MAKE = "make"
    ADOPT = "adopt"
    NO_SECRET = "no secret"  # noqa: S105
    OTHER_SECRET = "other secret"  # noqa: S105
    OTHER_PARTITIONS = "other partitions"
    UNPROVEN = "unproven"
    OTHER_DATABASES = "other databases"
    OTHER_CLUSTER = "other cluster"
    OTHER_KEYS = "other keys"


def decide(host: Host, identity: Identity | None, evidence: Evidence | None = None) -> Decision:
    """`evidence` is needed where there is no identity."""
    if identity is not None:
        if host.secret is None:
            return Decision.NO_SECRET
        if host.secret != identity.secret:
            return Decision.OTHER_SECRET
        return Decision.SERVE if host.partitions == identity.partitions else Decision.OTHER_PARTITIONS
    assert evidence is not None
    if evidence.databases is Databases.OTHER_SECRET:
        return Decision.OTHER_DATABASES
    if not evidence.facts:
        return Decision.MAKE
    if host.secret is None:
        return Decision.UNPROVEN
    if evidence.databases is Databases.OTHER_TOPIC:
        return Decision.OTHER_CLUSTER
    if evidence.databases is Databases.MATCH or evidence.ours > evidence.foreign:
        return Decision.ADOPT
    # Facts that all leave it open (nobody's address in them) rule nobody out.
    return Decision.OTHER_KEYS if evidence.foreign else Decision.ADOPT


_FROM_ELSEWHERE: Final = "copy the file secret from another host's data folder, or from a backup,"
_KEYS: Final = ". This host also needs the key files that its reports.toml names below {keys}, from there"
_NOWHERE: Final = (
    ". Where a copy of the secret is left on no host and in no backup, the numbers can't be continued: "
    "docs/operate.md, `A lost secret`, says what can be had again"
)

REFUSALS: Final[dict[Decision, str]] = {
    Decision.NO_SECRET: (
        "this host has no secret, and Kafka at {kafka} holds {installation}: set REPORTS_SECRET to its secret, or "
        f"{_FROM_ELSEWHERE} to {{file}}{_KEYS}{_NOWHERE}"
    ),
    Decision.OTHER_SECRET: (
        "{source} is not the secret of {installation} in Kafka at {kafka}: set REPORTS_SECRET to its secret, or "
        f"{_FROM_ELSEWHERE} to {{file}}{{unset}}{_KEYS}{_NOWHERE}"
    ),
    Decision.OTHER_PARTITIONS: (
        "REPORTS_PARTITIONS is {partitions}, but {installation} in Kafka at {kafka} was made with {made_partitions}: "
        "set REPORTS_PARTITIONS={made_partitions}"
    ),
    Decision.UNPROVEN: (
        "this host has no secret, and topic facts in Kafka at {kafka} holds facts that were keyed by one: set "
        f"REPORTS_SECRET to it, or {_FROM_ELSEWHERE} to {{file}}{_KEYS}{_NOWHERE}"
    ),
    Decision.OTHER_DATABASES: (
        "the databases in {databases} were made with another secret than {source}: restore that secret (set "
        "REPORTS_SECRET, or copy the file secret to {file}{unset}); only where the numbers are to begin anew remove "
        "the databases"
    ),
    Decision.OTHER_CLUSTER: (
        "the databases in {databases} don't belong to Kafka at {kafka}: topic facts was recreated or the cluster is "
        "another one; to go on with the old one set REPORTS_KAFKA to it or restore it, to count the new topic from its "
        "start remove the databases"
    ),
    Decision.OTHER_KEYS: (
        "{source} is not what the facts in Kafka at {kafka} were keyed by ({foreign} of {looked_at} have keys of "
        f"another secret): set REPORTS_SECRET to that, or {_FROM_ELSEWHERE} to {{file}}{{unset}}{_KEYS}{_NOWHERE}"
    ),
}
"""What is wrong and the way out, in one line. `cli.identity` fills in the names."""


def yields_key(secret: bytes, record: FactsRecord, entry: Entry) -> bool | None:
    """Whether the entry was keyed by this secret; None: it can't be told, since it carries no address."""
    if "@" not in entry.address:
        return None
    campaign = campaign_key(secret, record.org, record.campaign)
    return recipient_key(secret, campaign, normalise_address(entry.address)) == entry.recipient
