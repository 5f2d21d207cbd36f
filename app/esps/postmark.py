"""Postmark's webhooks: one JSON object a request.

Source: "Webhooks overview" and the pages "Bounce", "Delivery", "Open tracking", "Click", "Spam complaint" and
"Subscription change webhook" beside it, postmarkapp.com/developer/webhooks, and "Bounce types" of
postmarkapp.com/developer/api/bounce-api, read 2026-11-24. What is not plain from them:
- Nothing is signed: Basic from the address (`https://user:password@…`) or a header of one's own, such as
  `Authorization: Bearer …`.
- 403 ends Postmark's retries, so nothing here ever answers it. Documented for inbound mail (ten retries over 10.5
  hours, postmarkapp.com/support/article/understanding-inbound-webhook-retries-in-postmark); other webhooks are tried
  again for less long (about 20 minutes, from memory).
- `Bounce` stands for all that comes back, `Type` says what it is: an auto-reply is no bounce, a message that is
  "delayed" isn't given up. `TypeCode` is not looked at: the page of the spam complaint shows there a code of another
  type.
- `SubscriptionChange` says too that Postmark suppresses an address after a hard bounce or a complaint. These have
  events of their own, and nobody unsubscribed: `unknown`, with the reason.
- A click is reported once per recipient and link. `ClickLocation` is `HTML` or `Text`, not a position.
- `Client` of a click is a browser, and of an open in webmail too: the agent tells more, `Client` stands in for it only.
- `Geo.IP` is the recipient's (or a proxy's) address. Times carry seven decimals and an offset.
- No id is said to be the same in a resend, so none makes the identity.
"""

from __future__ import annotations

from typing import Final

from app.esps import documents, fields
from app.esps.credentials import check_unsigned, verify_unsigned
from app.esps.esp import Esp, KeptHeaders
from app.facts import Event, Poison

# RecordType → our type, the field with the address, the field with the time.
_RECORDS: Final = {
    "Delivery": ("delivered", "Recipient", "DeliveredAt"),
    "Bounce": ("bounced", "Email", "BouncedAt"),
    "SpamComplaint": ("complained", "Email", "BouncedAt"),
    "Open": ("opened", "Recipient", "ReceivedAt"),
    "Click": ("clicked", "Recipient", "ReceivedAt"),
    "SubscriptionChange": ("unsubscribed", "Recipient", "ChangedAt"),
}

# A bounce's Type → our type, hard or soft.
_BOUNCES: Final = {
    "HardBounce": ("bounced", "hard"),
    "BadEmailAddress": ("bounced", "hard"),
    "SoftBounce": ("bounced", "soft"),
    "DnsError": ("bounced", "soft"),
    "Blocked": ("bounced", "soft"),
    "SpamNotification": ("bounced", "soft"),
    "VirusNotification": ("bounced", "soft"),
    "DMARCPolicy": ("bounced", "soft"),
    "OpenRelayTest": ("bounced", "soft"),
    "Unknown": ("bounced", "soft"),
    "Transient": ("deferred", None),
    "AutoResponder": ("autoresponded", None),
    "AddressChange": ("autoresponded", None),
    "ChallengeVerification": ("autoresponded", None),
    "Unsubscribe": ("unsubscribed", None),
    "Subscribe": ("subscribed", None),
    "SpamComplaint": ("complained", None),
    "ManuallyDeactivated": ("rejected", None),
    "Unconfirmed": ("rejected", None),
    "SMTPApiError": ("failed", None),
    "TemplateRenderingFailed": ("failed", None),
    "InboundError": ("unknown", None),
}

_KEPT: Final = ("MessageStream", "ServerID", "ClickLocation", "ReadSeconds", "FirstOpen", "Subject")
"""Metadata under Postmark's own names, where the sender's has no such name."""


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return documents.events(documents.read_list(body), _event, wrapped=False)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(documents.read_list(body), wrapped=False)


def _event(item: documents.JsonObject) -> Event | str:
    """The event, or why it is none."""
    get = item.get
    word = get("RecordType")
    if word == "Inbound":
        return "a received message, not an event of a sent one"
    kind, address, time = _RECORDS.get(word if type(word) is str else "", ("unknown", "", ""))
    recipient = get(address) or get("Recipient") or get("Email")
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    metadata = fields.metadata(item.get("Metadata"), item, _KEPT, None)
    bounce: str | None = None
    reason: str | None = None
    if word == "Bounce":
        name = fields.text(get("Type"))
        kind, bounce = _BOUNCES.get(name or "", ("bounced", "soft"))
        reason = fields.text(get("Name")) or name
        if kind == "unknown":
            metadata["event"] = f"Bounce: {name}"
    elif word == "SubscriptionChange":
        kind, reason = _change(item)
        if kind == "unknown":
            metadata["event"] = f"SubscriptionChange: {reason}"
    elif kind == "unknown" and type(word) is str:
        metadata["event"] = word
    geo = fields.members(get("Geo"))
    agent = fields.text(get("UserAgent"))
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=fields.time_ms(get(time)),
        esp_event_id=fields.plain(get("ID")) if "ID" in item else None,
        message_id=fields.text(get("MessageID")),
        link=fields.text(get("OriginalLink")),
        ip=fields.text(geo.get("IP")),
        user_agent=agent,
        country=fields.text(geo.get("CountryISOCode")),
        city=fields.text(geo.get("City")),
        client=None if agent else _client(item),
        device=fields.device(get("Platform")),
        bounce=bounce,
        reason=reason,
        smtp_reply=fields.text(get("Details")),
        tags=fields.texts(get("Tag")),
        metadata=metadata,
    )


def _change(item: documents.JsonObject) -> tuple[str, str | None]:
    """(our type, reason) of a SubscriptionChange."""
    reason = fields.text(item.get("SuppressionReason"))
    if item.get("SuppressSending") is False:
        return "subscribed", fields.text(item.get("Origin"))
    if reason in ("HardBounce", "SpamComplaint"):
        return "unknown", reason
    return "unsubscribed", fields.text(item.get("Origin")) or reason


def _client(item: documents.JsonObject) -> str | None:
    client = fields.members(item.get("Client"))
    return fields.text(client.get("Family")) or fields.text(client.get("Name"))


ESP: Final = Esp(name="postmark", verify=verify_unsigned, parse=parse, split=split, check=check_unsigned)
