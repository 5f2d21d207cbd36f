"""One accepted webhook → records of topic `facts`, and dead letters for what can't be one.

Rules:
- Total: any webhook gives records and dead letters, nothing is raised.
- The campaign is the one that the event names, else that of the source's first template whose fields are all there,
  else the source's default.
- The identity is made of type, recipient and the sender's id where that survives resends; else of type, recipient and
  time, link, IP address and agent as reported. An event without a time happened when its webhook came in.
- What the ESP doesn't say (an agent, an address) is 0 in the fact. What it says and nothing is known of is not: the
  agent is then that of empty words, and the place is 0 beside a network.
- Whatever is made of a text (links, agents, places, …) is cached with a bound: a campaign has few of each.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from app import facts as f
from app.errors import PoisonEvent, RejectRequest
from app.esps import ESPS
from app.esps.generic import IMPLICIT_SOURCE, events_source
from app.esps.limits import address_problem, campaign_problem, detail_problem
from app.facts import CampaignKey, Detail, Entry, Event, Fact, FactsRecord, Poison
from app.inflate import DEFAULT_LIMIT, inflate
from app.keys import (
    campaign_key,
    content_id,
    identity,
    normalise_address,
    recipient_key,
    recipient_partition,
    secret_fingerprint,
    text_id,
)
from app.networks import Network, Networks, networks_of
from app.organisations import Organisation, Organisations, Source
from app.providers import provider_of
from app.source_rules import SourceRules, rules_of
from app.topics import Webhook
from app.user_agents import Agent, agent_id

READING: Final = 0
"""Raised by every mend here, or in what is used here, that makes something else of an event that could be read before.
A fact's reading is this and the ESP's (`Esp.reading`) together. It never falls."""
CLAMP_AFTER_MS: Final = 3_600_000
"""A reported time more than an hour ahead of the webhook's arrival is a broken clock."""
MAX_RECORD_BYTES: Final = 256 * 1024
"""About how large a record of `facts` may grow before the next one is begun; Kafka takes 1 MiB."""
PLAIN_BYTES: Final = 32 * 1024
"""How large a part of a body that was smaller itself may be without being compressed: within what every record of the
log may hold beside a body (`topics.RECORD_OVERHEAD`)."""
_ENTRY_BYTES: Final = 200
"""Of an entry without its address and its detail, at most."""
CACHE: Final = 65_536

LookUpAgent = Callable[[str], Agent]
LookUpPlace = Callable[[str], tuple[str, str | None] | None]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """For topic `webhooks.dead`: `webhook` holds what can be repaired and sent again (one event, or the whole body)."""

    webhook: Webhook
    reason: str
    stage: str
    """As in `topics.Origin`."""
    index: int | None = None


class Normalized(msgspec.Struct, frozen=True):
    records: list[tuple[int, FactsRecord]]
    """(partition of `facts`, record)."""
    dead: list[DeadLetter]


def find_source(organisations: Organisations, org: str, name: str) -> tuple[Organisation, Source] | None:
    """Whose webhook it is, by the names on its record; None when the configuration no longer knows them."""
    organisation = organisations.by_id.get(org)
    if organisation is None:
        return None
    source = organisation.sources.get(name)
    if source is None and name == IMPLICIT_SOURCE:
        source = events_source(organisation)
    return None if source is None else (organisation, source)


def normalize(
    webhook: Webhook,
    source: Source,
    organisation: Organisation,
    secret: bytes,
    partitions: int,
    look_up_agent: LookUpAgent,
    look_up_place: LookUpPlace,
    *,
    inflate_limit: int = DEFAULT_LIMIT,
) -> Normalized:
    """`secret`: the installation's; `partitions`: those of topic `facts`; `inflate_limit`: bytes."""
    esp = ESPS.get(webhook.esp)
    if esp is None:
        return _all_dead(webhook, "unknown ESP")
    headers = dict(webhook.headers)
    try:
        body = inflate(webhook.body, headers.get("content-encoding", ""), inflate_limit)
    except PoisonEvent as error:
        return _all_dead(webhook, error.reason)
    except RejectRequest as error:
        return _all_dead(webhook, error.code)
    run = _Run(
        webhook, body, source, organisation, secret, partitions, look_up_agent, look_up_place, esp.reading
    )
    bodies: list[bytes] = []
    for index, item in enumerate(esp.parse(body, headers)):
        if isinstance(item, Poison):
            run.bury(item.reason, item.index, item.raw)
        elif reason := run.add(item):
            bodies = bodies or esp.split(body, headers)
            run.bury(reason, index, bodies[index])
    return Normalized(run.records(), run.dead)


def _all_dead(webhook: Webhook, reason: str) -> Normalized:
    return Normalized([], [DeadLetter(webhook=webhook, reason=reason, stage="parse")])


def _cut_out(webhook: Webhook, raw: bytes) -> Webhook:
    """The webhook with a part of its body alone, and never a larger record than it was itself.

    What a few bytes on the wire stood for (compressed, or numbers that are written out) may be more than a record of
    the log holds, and a dead letter that can't be written would stop everything behind it.
    """
    headers = tuple(pair for pair in webhook.headers if pair[0] != "content-encoding")
    longest = max(len(webhook.body), PLAIN_BYTES)
    if len(raw) > longest:
        packer = zlib.compressobj(wbits=31)
        raw = packer.compress(raw) + packer.flush()
        headers = (*headers, ("content-encoding", "gzip"))
    if len(raw) > longest:
        return webhook
    return msgspec.structs.replace(webhook, body=raw, headers=headers)


class _Run:
    """The work on one webhook."""

    def __init__(
        self,
        webhook: Webhook,
        body: bytes,
        source: Source,
        organisation: Organisation,
        secret: bytes,
        partitions: int,
        look_up_agent: LookUpAgent,
        look_up_place: LookUpPlace,
        reading: int,
    ) -> None:
        """`body`: the webhook's, inflated. `reading`: the ESP's."""
        self.dead: list[DeadLetter] = []
        self._webhook = webhook
        self._body = body
        self._rules: SourceRules = rules_of(source, organisation.exclude)
        self._networks: Networks = networks_of(organisation.proxy_networks, organisation.scanner_networks)
        self._secret = secret
        self._reading = READING + reading
        self._partitions = partitions
        self._look_up_agent = look_up_agent
        self._look_up_place = look_up_place
        self._open: dict[tuple[int, str], list[Entry]] = {}
        self._sizes: dict[tuple[int, str], int] = {}
        self._full: list[tuple[int, FactsRecord]] = []

    def bury(self, reason: str, index: int | None, raw: bytes) -> None:
        webhook = self._webhook
        if raw not in (webhook.body, self._body):
            webhook = _cut_out(webhook, raw)
        stage = "parse" if index is None else "event"
        self.dead.append(DeadLetter(webhook=webhook, reason=reason, stage=stage, index=index))

    def records(self) -> list[tuple[int, FactsRecord]]:
        for (partition, campaign), entries in self._open.items():
            self._full.append((partition, self._record(campaign, entries)))
        return self._full

    def _record(self, campaign: str, entries: list[Entry]) -> FactsRecord:
        webhook = self._webhook
        return FactsRecord(
            f.FACTS_VERSION,
            webhook.org,
            campaign,
            webhook.accepted_at_ms,
            entries,
            _fingerprint(self._secret),
        )

    def add(self, event: Event) -> str | None:
        """Adds the event's entry, or says why it can't be one."""
        address = event.recipient.strip()
        campaign = event.campaign if event.campaign is not None else self._rules.campaign(event)
        reason = address_problem(address) or _campaign_problem(campaign)
        if reason:
            return reason
        key = _campaign_key(self._secret, self._webhook.org, campaign)
        try:
            entry = self._entry(event, address, key)
        except UnicodeEncodeError:
            return "not Unicode"
        reason = detail_problem(len(entry.detail))
        if reason:
            return reason
        place = recipient_partition(entry.recipient, self._partitions), campaign
        size = len(entry.detail) + len(address) + _ENTRY_BYTES
        entries = self._open.get(place)
        if entries is None:
            self._open[place] = [entry]
            self._sizes[place] = size
        elif self._sizes[place] + size > MAX_RECORD_BYTES:
            self._full.append((place[0], self._record(campaign, entries)))
            self._open[place] = [entry]
            self._sizes[place] = size
        else:
            entries.append(entry)
            self._sizes[place] += size
        return None

    def _entry(self, event: Event, address: str, key: CampaignKey) -> Entry:
        rules = self._rules
        normalised = normalise_address(address)
        recipient = recipient_key(self._secret, key, normalised)
        kind = f.TYPE_NUMBERS.get(event.type, f.UNKNOWN)
        evidence, at_ms, reported = self._time(event)
        if kind == f.BOUNCED and event.bounce == "soft":
            evidence |= f.SOFT_BOUNCE
        if rules.excluded(normalised):
            evidence |= f.EXCLUDED
        if event.machine:
            evidence |= f.MACHINE

        agent = _NO_AGENT
        if event.user_agent:
            agent = self._look_up_agent(event.user_agent)
            evidence |= agent.evidence
        if event.client or event.device:
            agent = _esps_agent(agent, event.client, event.device)
        network = _NO_NETWORK
        country, city = event.country, event.city
        if event.ip:
            network = self._networks.find(event.ip)
            evidence |= network.evidence
            if not country:
                found = self._look_up_place(event.ip)
                if found:
                    country, city = found
        link = event.link and rules.link(event.link)
        if link and rules.is_hidden(link):
            evidence |= f.HIDDEN_LINK
        provider = event.provider or provider_of(normalised.rpartition("@")[2])
        variant = rules.variant(event)
        metadata = event.metadata
        detail = f.encode(
            Detail(
                self._webhook.esp,
                link,
                event.reason,
                event.smtp_reply,
                event.ip,
                event.user_agent,
                agent.client,
                agent.device,
                agent.system,
                agent.browser,
                country,
                city,
                provider,
                variant,
                event.esp_event_id,
                event.message_id,
                event.tags,
                # In order, so that equal entries are equal bytes.
                dict(sorted(metadata.items())) if len(metadata) > 1 else metadata,
            )
        )
        position = event.position or 0
        rest = b"%d\0%d\0%b\0%b" % (evidence, position, address.encode(), detail)
        if event.event_id is not None:
            same = identity(recipient, kind, event.event_id)
        else:
            same = identity(
                recipient, kind, reported, event.link or "", event.ip or "", event.user_agent or ""
            )
        fact = Fact(
            same,
            at_ms,
            kind,
            evidence,
            content_id(rest),
            _text_id(link) if link else 0,
            position,
            _text_id(f"{country}\0{city or ''}") if country else 0,
            agent.text_id,
            network.text_id,
            _text_id(event.reason) if event.reason else 0,
            _text_id(provider),
            _text_id("\0".join(f"{name}={value}" for name, value in variant.items())) if variant else 0,
            self._reading,
        )
        return Entry(recipient, address, fact, detail)

    def _time(self, event: Event) -> tuple[int, int, str]:
        """(evidence bits, time of the fact, time as reported for the identity)."""
        received_at_ms = self._webhook.received_at_ms
        at_ms = event.at_ms
        if at_ms is None:
            return f.UNTIMED, received_at_ms, str(received_at_ms)
        if at_ms > received_at_ms + CLAMP_AFTER_MS:
            return f.CLAMPED, received_at_ms, str(at_ms)
        return 0, at_ms, str(at_ms)


_NO_AGENT: Final = Agent()
_NO_NETWORK: Final = Network(0, 0)
_text_id = lru_cache(maxsize=CACHE)(text_id)
_campaign_problem = lru_cache(maxsize=1024)(campaign_problem)
_campaign_key = lru_cache(maxsize=1024)(campaign_key)
_fingerprint = lru_cache(maxsize=16)(secret_fingerprint)


@lru_cache(maxsize=CACHE)
def _esps_agent(agent: Agent, client: str | None, device: str | None) -> Agent:
    """What the ESP itself says of client and device goes before what we read in the agent."""
    client, device = client or agent.client, device or agent.device
    words = agent_id(client, device, agent.system, agent.browser)
    return Agent(client, device, agent.system, agent.browser, agent.evidence, words)
