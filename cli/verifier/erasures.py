"""Who was erased, and what then stands where their address did: the rules of `docs/privacy.md`, a second time.

- The log says who: records of topic `facts` that name recipients by their keys. Erased is who is named there, at any
  time and whatever came before or after.
- Nothing is counted otherwise than before. Blank are the address, IP address and agent of their events, and links and
  reasons in which the address stands; in the report these are called `erased`, whoever else has them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Set
from hashlib import blake2b
from typing import Final
from urllib.parse import unquote

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from app.facts import ErasedRecord, decode_record
from app.keys import campaign_key, recipient_key
from app.topics import FACTS
from cli.traffic.ledger import FactLine
from cli.verifier.ledger import Campaign, Ledger
from tables.kafka_clients import client_settings

ERASED: Final = "erased"
SILENCE_S: Final = 30.0
_TOGETHER: Final = 10_000
_TAG: Final = b"\xa1e"
"""How a record that names erased recipients begins, behind the length of its array: the others aren't decoded."""


def read_erased(kafka: str, ends: Mapping[int, int]) -> set[bytes]:
    """Keys of the recipients that the log names as erased. `ends`: partition → the offset to read up to.

    Raises KafkaException, also where nothing comes for `SILENCE_S`.
    """
    consumer = Consumer(
        {
            **client_settings(kafka, "reports-verify"),
            "group.id": "reports-verify",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    left = {partition for partition, end in ends.items() if end}
    erased: set[bytes] = set()
    try:
        consumer.assign([TopicPartition(FACTS, partition, 0) for partition in left])
        heard = time.monotonic()
        while left:
            for message in consumer.consume(_TOGETHER, 0.5):
                heard = time.monotonic()
                offset, value = message.offset(), message.value()
                if message.error() is None and value is not None and value[1:3] == _TAG:
                    record = decode_record(value)
                    if isinstance(record, ErasedRecord):
                        erased.update(record.recipients)
                partition = message.partition()
                # An end without a message comes as an error that names the offset behind the last one.
                if partition in left and offset is not None and offset + 1 >= ends[partition]:
                    left.discard(partition)
            if time.monotonic() > heard + SILENCE_S:
                raise KafkaException(f"topic {FACTS} was not read to its end within {SILENCE_S:g} s")
    finally:
        consumer.close()
    return erased


def of_ledger(ledger: Ledger, erased: Set[bytes], secret: bytes) -> dict[Campaign, dict[str, str]]:
    """Campaign → address as compared → what stands in its place, of those of the ledger who were erased."""
    found: dict[Campaign, dict[str, str]] = {}
    for (org, campaign), recipients in ledger.facts.items() if erased else ():
        key = campaign_key(secret, org, campaign)
        for who in recipients:
            recipient = recipient_key(secret, key, who)
            if recipient in erased:
                found.setdefault((org, campaign), {})[who] = nobody(recipient)
    return found


def nobody(recipient: bytes) -> str:
    """One erased person, told apart from the others."""
    return f"{ERASED} {recipient.hex()}"


def tells(text: str | None, who: str) -> bool:
    """Whether an address stands in a text, as it is or encoded."""
    return text is not None and any(who in spelled.lower() for spelled in (text, unquote(text)))


def named(recipients: Mapping[str, list[FactLine]], erased: Mapping[str, str]) -> dict[str, list[FactLine]]:
    """A campaign's recipients with the names that the report has for them, their links and their reasons."""
    gone = [(who, fact) for who in erased for fact in recipients.get(who, ())]
    links = {fact.link for who, fact in gone if tells(fact.link, who)}
    reasons = {fact.reason for who, fact in gone if tells(fact.reason, who)}
    if not gone:
        return dict(recipients)
    return {
        who: [
            msgspec.structs.replace(
                fact,
                recipient=erased.get(who, fact.recipient),
                link=hidden_link(fact.link) if fact.link in links else fact.link,
                reason=ERASED if fact.reason in reasons else fact.reason,
            )
            for fact in facts
        ]
        for who, facts in recipients.items()
    }


def hidden_link(link: str | None) -> str | None:
    """Each keeps a row of its own."""
    return link and f"{ERASED} {id_of(link)}"


def id_of(link: str) -> str:
    """By which a link is asked for: 64 bits of its BLAKE2b."""
    return blake2b(link.encode(), digest_size=8).hexdigest()


def blank(fact: FactLine, who: str, name: str) -> FactLine:
    """A line as the event log must have it once its person was erased."""
    return msgspec.structs.replace(
        fact,
        recipient=name,
        ip=None,
        user_agent=None,
        link=None if tells(fact.link, who) else fact.link,
        reason=None if tells(fact.reason, who) else fact.reason,
    )
