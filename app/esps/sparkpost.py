"""SparkPost's (Bird's) webhooks: an array of events, each wrapped as `{"msys": {"message_event": {…}}}`.

Source: "Webhooks" and "Events", developers.sparkpost.com/api (and what `/v1/webhooks/events/documentation` says, as
printed there); "Event definitions", "Bounce Classification Codes" and "Best Practices for Managing Webhook Data
Streams", support.sparkpost.com/docs; read 2026-11-24. What is not plain from them:
- Nothing is signed: `auth_type` Basic or OAuth 2 (a bearer token), or a custom header.
- Anything but 200 is tried again, twelve times over eight hours; ten seconds are a timeout. The webhook is not even
  made unless a test with `[{"msys": {}}]` is answered 200: no event, and nothing wrong.
- `bounce` means given up. Its hardness is that of the class (10, 30 and 90 are hard); 25 and 26 are SparkPost's own
  refusals. `out_of_band` comes after a delivery and may be no bounce at all: an auto-reply (60), a challenge (100), a
  delay (70), a request to be taken off or put on a list (90, 80).
- `initial_open` is a pixel at the top of the message, `open` one at its bottom: who ticks both gets two opens for one.
- `ip_address` is in events of delivery the receiving server's: only engagement events have one here.
- `user_agent_parsed.is_prefetched` and `is_proxy` are the provider's own fetches; a mail client's name is not among the
  families, which are browsers', so the agent is read by us.
- `rcpt_to` may be an alias in another spelling; `raw_rcpt_to` is how the sender wrote it. The first one is documented
  as the recipient.
- `event_id` is "unique", but that it stays the same in a resend is not said: it is shown and never makes the identity.
- `relay_*` is received mail, `ab_test_*` and `ingest_*` are about jobs: dead letters that say so.
"""

from __future__ import annotations

from typing import Final

from app.esps import documents, fields
from app.esps.credentials import check_unsigned, verify_unsigned
from app.esps.esp import Esp, KeptHeaders
from app.facts import Event, Poison

# type → our type.
_TYPES: Final = {
    "injection": "queued",
    "delivery": "delivered",
    "delay": "deferred",
    "bounce": "bounced",
    "out_of_band": "bounced",
    "spam_complaint": "complained",
    "policy_rejection": "rejected",
    "generation_rejection": "rejected",
    "generation_failure": "failed",
    "open": "opened",
    "initial_open": "opened",
    "click": "clicked",
    "amp_open": "opened",
    "amp_initial_open": "opened",
    "amp_click": "clicked",
    "list_unsubscribe": "unsubscribed",
    "link_unsubscribe": "unsubscribed",
}
_ENGAGEMENT: Final = frozenset({"opened", "clicked", "unsubscribed"})
_REPLIED: Final = frozenset({"delivered", "deferred", "bounced", "autoresponded"})
"""Types whose `reason` is what the receiving server said."""
_NO_RECIPIENT: Final = ("relay_event", "ab_test_event", "ingest_event")

_HARD: Final = frozenset({10, 30, 90})
_REFUSED: Final = frozenset({25, 26})
# bounce_class of an `out_of_band` that is none.
_NO_BOUNCES: Final = {
    60: "autoresponded",
    70: "deferred",
    80: "subscribed",
    90: "unsubscribed",
    100: "autoresponded",
}
_CLASSES: Final = {
    1: "Undetermined",
    10: "Invalid Recipient",
    20: "Soft Bounce",
    21: "DNS Failure",
    22: "Mailbox Full",
    23: "Too Large",
    24: "Timeout",
    25: "Admin Failure",
    26: "Smart Send Suppression",
    30: "Generic Bounce: No RCPT",
    40: "Generic Bounce",
    50: "Mail Block",
    51: "Spam Block",
    52: "Spam Content",
    53: "Prohibited Attachment",
    54: "Relaying Denied",
    60: "Auto-Reply",
    70: "Transient Failure",
    80: "Subscribe",
    90: "Unsubscribe",
    100: "Challenge-Response",
}

_KEPT: Final = (
    "campaign_id",
    "subject",
    "template_id",
    "template_version",
    "transmission_id",
    "subaccount_id",
    "ab_test_id",
    "ab_test_version",
    "ip_pool",
    "mailbox_provider_region",
    "target_link_name",
)
"""Metadata under SparkPost's own names, where the sender's `rcpt_meta` has no such name."""


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return documents.events(_items(body), _event, wrapped=False)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(_items(body), wrapped=False)


def _items(body: bytes) -> list[documents.JsonObject | Poison]:
    """The body's elements without those of a test, which hold nothing."""
    return [item for item in documents.read_list(body) if isinstance(item, Poison) or item.get("msys") != {}]


def _event(item: documents.JsonObject) -> Event | str:
    """The event, or why it is none."""
    wrapper = item.get("msys")
    found = next(iter(wrapper.items()), None) if type(wrapper) is dict else None
    if found is None or type(found[1]) is not dict:
        return "no event within msys"
    group, fact = found
    if group in _NO_RECIPIENT:
        return f"{group}: not about a sent message's recipient"
    get = fact.get
    recipient = get("rcpt_to") or get("raw_rcpt_to")
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    word = get("type")
    known = _TYPES.get(word) if type(word) is str else None
    kind, bounce, reason = _outcome(known or "unknown", word, fact)
    engagement = kind in _ENGAGEMENT or known is None
    geo = fields.members(get("geo_ip")) if engagement else {}
    agent = fields.members(get("user_agent_parsed"))
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=fields.time_ms(get("timestamp")),
        esp_event_id=fields.plain(get("event_id")) or None,
        message_id=fields.text(get("message_id")),
        link=fields.text(get("target_link_url")),
        ip=fields.text(get("ip_address")) if engagement else None,
        user_agent=fields.text(get("user_agent")),
        country=fields.text(geo.get("country")),
        city=fields.text(geo.get("city")),
        device="mobile" if agent.get("is_mobile") is True and not get("user_agent") else None,
        bounce=bounce,
        reason=reason,
        smtp_reply=(fields.text(get("raw_reason")) or fields.text(get("reason")))
        if kind in _REPLIED
        else None,
        provider=fields.text(get("mailbox_provider")),
        machine=_machine(kind, agent),
        tags=fields.texts(get("rcpt_tags")),
        metadata=fields.metadata(fact.get("rcpt_meta"), fact, _KEPT, None if known else word),
    )


def _outcome(kind: str, word: object, fact: documents.JsonObject) -> tuple[str, str | None, str | None]:
    """(our type, hard or soft, reason)."""
    reason = fields.text(fact.get("reason"))
    if kind in ("complained", "unsubscribed"):
        return kind, None, fields.text(fact.get("fbtype"))
    if kind not in ("bounced", "deferred"):
        return kind, None, reason
    number = fields.whole(fact.get("bounce_class"))
    # The receiving server's words stand in `reason`; by them every recipient would be a row of its own.
    reason = (_CLASSES.get(number) if number is not None else None) or reason
    if kind == "deferred":
        return kind, None, reason
    if word == "out_of_band" and number in _NO_BOUNCES:
        return _NO_BOUNCES[number], None, reason
    if number in _REFUSED:
        return "rejected", None, reason
    return kind, "hard" if number in _HARD else "soft", reason


def _machine(kind: str, agent: documents.JsonObject) -> bool | None:
    prefetched, proxy = agent.get("is_prefetched"), agent.get("is_proxy")
    if prefetched is True or (proxy is True and kind == "opened"):
        return True
    return False if prefetched is False else None


ESP: Final = Esp(name="sparkpost", verify=verify_unsigned, parse=parse, split=split, check=check_unsigned)
