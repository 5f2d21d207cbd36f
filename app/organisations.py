"""Organisations: the tenants of an installation, their API keys and their sources, from reports.toml.

Rules:
- A name that is not known, a contradiction or a missing part is a ConfigError whose `setting` is the path in the
  file (`orgs.acme.sources.news.esp`); nothing is guessed and nothing is skipped.
- A secret never stands in the file: each is a reference (`env:NAME`, `file:PATH`) that the caller resolves.
- Nothing here shows a secret in its `repr`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import chain
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from app.document import Table
from app.errors import ConfigError
from app.networks import network_problem

SCOPES = frozenset({"read", "write", "ops"})
MAX_RATE_LIMIT = 1_000_000
SECRET_SCHEMES = ("env:", "file:")

DEFAULT_CAMPAIGN_TEMPLATES = ("{metadata.campaign_id}", "{tag}")

_ANY_LINK = "https://any.invalid/some/page?of=it#all"
_TEMPLATE = re.compile(r"(?:[^{}]|\{(?:tag|metadata\.[^{}]{1,100})\})+")

Unusable = Callable[[bytes], str | None]
"""Why this can't be the secret, in words that follow what it is called; None: it can be."""
SecretResolver = Callable[[str, Unusable], bytes]
"""Gives the usable secret behind a reference; raises LookupError whose text says for a person what is wrong."""


class KnowsItsSecrets(Protocol):
    """What an ESP's module has to say here (`app.esps.esp.Esp`)."""

    @property
    def unusable(self) -> Unusable: ...


class AbsentSecret(LookupError):
    """Not on this host for now, or spoilt there: no fault of the file. What needs it is marked `absent`, and lets
    nobody in."""


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    org: str
    secret: bytes
    scopes: frozenset[str]
    absent: bool = False
    """Its secret can't be used on this host: it is nobody's, and who comes with it is told to come again."""

    def __repr__(self) -> str:
        return f"ApiKey(name={self.name!r}, org={self.org!r}, secret=***, scopes={sorted(self.scopes)})"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook endpoint. `secrets`, `basic` (`user:password`) and `bearer` are lists for rotation."""

    org: str
    name: str
    esp: str
    secrets: tuple[bytes, ...] = ()
    campaign: tuple[str, ...] = DEFAULT_CAMPAIGN_TEMPLATES
    """Templates; the first one whose fields are all there names the campaign."""
    default_campaign: str = "unassigned"
    variant_prefix: str = "ab_"
    strip_query: tuple[str, ...] = ()
    hidden_links: tuple[str, ...] = ()
    """Patterns of links that no person can see, as they are without `strip_query`: who follows one is a machine."""
    basic: tuple[bytes, ...] = ()
    bearer: tuple[bytes, ...] = ()
    topics: tuple[str, ...] = ()
    """ARNs of the SNS topics that this source takes (Amazon SES): what vouches for it in place of a secret."""
    sns_sha1: bool = False
    """Whether SNS' older signature (version 1, over SHA-1) is good enough beside version 2."""
    postal_sha1: bool = False
    """Whether Postal's older signature (over SHA-1) is good enough where it sends no newer one."""
    public_url: str = ""
    insecure: bool = False
    rate_limit: int = 0
    """Webhooks a second that one API process takes of it; 0: as many as come."""
    absent: tuple[str, ...] = ()
    """Which of `secrets`, `basic` and `bearer` can't all be used on this host: then nothing of it is taken."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}: {len(getattr(self, name))}" for name in ("secrets", "basic", "bearer"))
        return f"Source(org={self.org!r}, name={self.name!r}, esp={self.esp!r}, {counts})"


class Organisation(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    timezone: str
    exclude: tuple[str, ...] = ()
    """Patterns of addresses (`*` and `?`) that are logged and marked but not counted."""
    proxy_networks: tuple[str, ...] = ()
    """Networks of mailbox providers' proxies, beside those of `app.networks`."""
    scanner_networks: tuple[str, ...] = ()
    """Networks of security products, beside those of `app.networks`."""
    keys: tuple[ApiKey, ...] = ()
    sources: dict[str, Source] = {}

    def generic_source(self) -> Source | None:
        """The source that `POST /api/v1/events` feeds; an organisation has at most one."""
        return next((source for source in self.sources.values() if source.esp == "generic"), None)


class Organisations(msgspec.Struct, frozen=True):
    by_id: dict[str, Organisation] = {}

    def find_key(self, secret: bytes) -> ApiKey | None:
        """The API key with this secret; every key is compared, each in constant time."""
        found = None
        for key in self._keys():
            if not key.absent and hmac.compare_digest(key.secret, secret):
                found = key
        return found

    def lacks_keys(self) -> bool:
        """Whether the secret of an API key is absent: then nobody can say whose an unknown one is."""
        return any(key.absent for key in self._keys())

    def takes_nothing(self) -> bool:
        """Whether there are ways in for events, sources and API keys of scope `write`, and each lacks the absent secret
        that would let them in."""
        ways = [
            *(not key.absent for key in self._keys() if "write" in key.scopes),
            *map(self._can_take, self._sources()),
        ]
        return bool(ways) and not any(ways)

    def _can_take(self, source: Source) -> bool:
        if source.absent:
            return False
        if source.esp != "generic" or source.secrets or source.basic or source.bearer or source.insecure:
            return True
        return not any("write" in key.scopes for key in self.by_id[source.org].keys)

    def waiting(self) -> list[str]:
        """The sources and API keys that can't be used without absent secrets, by their places in the file."""
        return [
            *(f"orgs.{source.org}.sources.{source.name}" for source in self._sources() if source.absent),
            *(f"orgs.{key.org}.keys.{key.name}" for key in self._keys() if key.absent),
        ]

    def _sources(self) -> Iterator[Source]:
        return chain.from_iterable(one.sources.values() for one in self.by_id.values())

    def _keys(self) -> Iterator[ApiKey]:
        return chain.from_iterable(one.keys for one in self.by_id.values())

    def find_source(self, org: str, name: str) -> Source | None:
        organisation = self.by_id.get(org)
        return organisation.sources.get(name) if organisation else None


def parse_organisations(
    document: Mapping[str, object], resolve_secret: SecretResolver, esps: Mapping[str, KnowsItsSecrets]
) -> Organisations:
    """The organisations of a whole parsed reports.toml, but for what `same_secrets` finds. Raises ConfigError for the
    first wrong thing in it.

    `esps`: what `esp = "…"` may be (`app.esps.ESPS`, which stands on this module and can't be imported here).
    """
    top = Table("", document)
    top.known("orgs", "settings")
    return Organisations(
        {org: _organisation(org, table, resolve_secret, esps) for org, table in top.tables("orgs")}
    )


def same_secrets(organisations: Organisations) -> Iterator[tuple[ApiKey, ApiKey]]:
    """API keys whose secret an earlier one has, and that one: nobody could say whose a request is."""
    owners: dict[bytes, ApiKey] = {}
    for organisation in organisations.by_id.values():
        for key in organisation.keys:
            if not key.absent and owners.setdefault(key.secret, key) is not key:
                yield key, owners[key.secret]


def without_secrets(organisations: Organisations, keys: Collection[ApiKey]) -> Organisations:
    """The same with these API keys `absent`."""
    replace = msgspec.structs.replace
    return Organisations(
        {
            org: replace(
                one,
                keys=tuple(replace(key, secret=b"", absent=True) if key in keys else key for key in one.keys),
            )
            for org, one in organisations.by_id.items()
        }
    )


def _organisation(
    org: str, table: Table, resolve_secret: SecretResolver, esps: Mapping[str, KnowsItsSecrets]
) -> Organisation:
    table.known("name", "timezone", "exclude", "proxy_networks", "scanner_networks", "keys", "sources")
    sources = {
        name: _source(org, name, source, resolve_secret, esps) for name, source in table.tables("sources")
    }
    generic = [name for name, source in sources.items() if source.esp == "generic"]
    if len(generic) > 1:
        where = f"{table.path}.sources.{generic[1]}.esp"
        raise ConfigError(
            where, f"a second generic source beside {generic[0]}: /api/v1/events can feed only one"
        )
    proxy_networks = _networks(table, "proxy_networks")
    scanner_networks = _networks(table, "scanner_networks")
    for number, network in enumerate(scanner_networks):
        if network in proxy_networks:
            where = f"{table.path}.scanner_networks[{number}]"
            raise ConfigError(where, f"{network!r} is among proxy_networks too: keep one of them")
    return Organisation(
        id=org,
        name=table.text("name", org),
        timezone=_timezone(table),
        exclude=table.texts("exclude"),
        proxy_networks=proxy_networks,
        scanner_networks=scanner_networks,
        keys=tuple(_api_key(org, name, key, resolve_secret) for name, key in table.tables("keys")),
        sources=sources,
    )


def _timezone(table: Table) -> str:
    name = table.text("timezone", "UTC")
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"{table.path}.timezone", f"unknown timezone {name!r}") from None
    return name


def _networks(table: Table, name: str) -> tuple[str, ...]:
    networks = table.texts(name)
    for number, network in enumerate(networks):
        if problem := network_problem(network):
            raise ConfigError(f"{table.path}.{name}[{number}]", problem)
    return networks


def _api_key(org: str, name: str, table: Table, resolve_secret: SecretResolver) -> ApiKey:
    table.known("secret", "scopes")
    scopes = table.texts("scopes")
    if not scopes:
        raise ConfigError(f"{table.path}.scopes", f"is missing (any of {', '.join(sorted(SCOPES))})")
    for scope in scopes:
        if scope not in SCOPES:
            raise ConfigError(
                f"{table.path}.scopes", f"unknown scope {scope!r} (known: {', '.join(sorted(SCOPES))})"
            )
    reference = table.text("secret", "")
    if not reference:
        raise ConfigError(f"{table.path}.secret", "is missing")
    secret = _secret(f"{table.path}.secret", reference, resolve_secret, _any_secret)
    return ApiKey(name=name, org=org, secret=secret or b"", scopes=frozenset(scopes), absent=secret is None)


def _source(
    org: str, name: str, table: Table, resolve_secret: SecretResolver, esps: Mapping[str, KnowsItsSecrets]
) -> Source:
    table.known(*(field for field in Source.__struct_fields__ if field not in ("org", "name", "absent")))
    absent: list[str] = []
    esp = _esp(table, esps)

    def secrets(kind: str, unusable: Unusable) -> tuple[bytes, ...]:
        return _secrets(table, kind, resolve_secret, unusable, absent)

    source = Source(
        org=org,
        name=name,
        esp=esp,
        secrets=secrets("secrets", esps[esp].unusable),
        campaign=_templates(table),
        default_campaign=table.text("default_campaign", "unassigned"),
        variant_prefix=table.text("variant_prefix", "ab_"),
        strip_query=table.texts("strip_query"),
        hidden_links=_hidden_links(table),
        basic=secrets("basic", _no_password),
        bearer=secrets("bearer", _any_secret),
        topics=table.texts("topics"),
        sns_sha1=table.flag("sns_sha1"),
        postal_sha1=table.flag("postal_sha1"),
        public_url=table.text("public_url", ""),
        insecure=table.flag("insecure"),
        rate_limit=table.whole("rate_limit", 0, MAX_RATE_LIMIT),
    )
    source = msgspec.structs.replace(source, absent=tuple(absent))
    by_topic = source.esp == "amazon_ses" and bool(source.topics)
    verified = bool(source.secrets or source.basic or source.bearer or source.absent)
    if source.insecure and verified:
        raise ConfigError(
            f"{table.path}.insecure", "contradicts the secrets of this source: keep one of them"
        )
    # The generic source is reached through the API, with an API key of scope `write`.
    if not (verified or by_topic or source.insecure or source.esp == "generic"):
        raise ConfigError(
            f"{table.path}.secrets", "is missing (or say insecure = true to accept unverified webhooks)"
        )
    if not source.default_campaign:
        raise ConfigError(f"{table.path}.default_campaign", "must not be empty")
    return source


def _esp(table: Table, esps: Collection[str]) -> str:
    esp = table.text("esp", "")
    where = f"{table.path}.esp"
    if not esp:
        raise ConfigError(where, f"is missing (any of {', '.join(sorted(esps))})")
    if esp not in esps:
        raise ConfigError(where, f"unknown ESP {esp!r} (known: {', '.join(sorted(esps))})")
    return esp


def _templates(table: Table) -> tuple[str, ...]:
    templates = table.texts("campaign", DEFAULT_CAMPAIGN_TEMPLATES)
    for number, template in enumerate(templates):
        if not _TEMPLATE.fullmatch(template):
            where = f"{table.path}.campaign[{number}]"
            raise ConfigError(
                where, f"{template!r} is no template: its fields are {{tag}} and {{metadata.NAME}}"
            )
    return templates


def _hidden_links(table: Table) -> tuple[str, ...]:
    patterns = table.texts("hidden_links")
    for number, pattern in enumerate(patterns):
        where = f"{table.path}.hidden_links[{number}]"
        if not pattern.startswith(("https://", "http://", "*")):
            raise ConfigError(where, f"{pattern!r} matches no link: begin with https://, http:// or *")
        if fnmatchcase(_ANY_LINK, pattern):
            raise ConfigError(where, f"{pattern!r} matches every link: every click would be a machine's")
    return patterns


def _any_secret(secret: bytes) -> str | None:
    return None


def _no_password(credentials: bytes) -> str | None:
    return None if b":" in credentials else "must be user:password"


def _secrets(
    table: Table, name: str, resolve_secret: SecretResolver, unusable: Unusable, absent: list[str]
) -> tuple[bytes, ...]:
    """Those that are there; `absent` gets the name where one isn't."""
    found = [
        _secret(f"{table.path}.{name}[{number}]", reference, resolve_secret, unusable)
        for number, reference in enumerate(table.texts(name))
    ]
    if None in found:
        absent.append(name)
    return tuple(secret for secret in found if secret is not None)


def _secret(where: str, reference: str, resolve_secret: SecretResolver, unusable: Unusable) -> bytes | None:
    """None: it is absent."""
    if not reference.startswith(SECRET_SCHEMES):
        raise ConfigError(where, 'a secret is never in the file itself: write "env:NAME" or "file:PATH"')
    try:
        return resolve_secret(reference, lambda secret: unusable(secret) if secret else "is empty")
    except AbsentSecret:
        return None
    except LookupError as error:
        raise ConfigError(where, str(error.args[0])) from None
