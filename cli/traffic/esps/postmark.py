"""Postmark's webhooks: one record a request, with Basic or a header of one's own.

There is no event before the delivery. Places are told, positions and machines aren't, and no id survives a resend.
"""

from __future__ import annotations

from typing import Final

from cli.traffic.esps.writer import Event, Said, Writer, meant, message_id, metadata, one, rfc3339, unsigned
from cli.traffic.happening import Happening

# Our type → RecordType, the fields of the address and of the time.
RECORDS: Final = {
    "delivered": ("Delivery", "Recipient", "DeliveredAt"),
    "deferred": ("Bounce", "Email", "BouncedAt"),
    "bounced": ("Bounce", "Email", "BouncedAt"),
    "autoresponded": ("Bounce", "Email", "BouncedAt"),
    "failed": ("Bounce", "Email", "BouncedAt"),
    "complained": ("SpamComplaint", "Email", "BouncedAt"),
    "opened": ("Open", "Recipient", "ReceivedAt"),
    "clicked": ("Click", "Recipient", "ReceivedAt"),
    "unsubscribed": ("SubscriptionChange", "Recipient", "ChangedAt"),
    "subscribed": ("SubscriptionChange", "Recipient", "ChangedAt"),
}
# Type, code and name of a bounce.
_HARD: Final = ("HardBounce", 1, "Hard bounce")
_BOUNCES: Final = {
    "bounced": ("SoftBounce", 4096, "Soft bounce"),
    "deferred": ("Transient", 2, "Message delayed"),
    "autoresponded": ("AutoResponder", 32, "Auto responder"),
    "failed": ("TemplateRenderingFailed", 100_008, "Template rendering failed"),
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    record, address, time = RECORDS[kind]
    said: Event = {
        "RecordType": record,
        "MessageStream": "broadcast",
        "ServerID": 23,
        "MessageID": message_id(mail),
        "Tag": "newsletter",
        "Metadata": metadata(mail),
        address: mail.recipient,
        # Seven decimals, as Postmark writes them.
        time: rfc3339(happening.at_ms).replace("Z", "0000Z"),
    }
    reason = None
    if record == "Bounce":
        word, code, reason = _HARD if happening.bounce == "hard" else _BOUNCES[kind]
        said |= {
            "ID": mail.number,
            "Type": word,
            "TypeCode": code,
            "Name": reason,
            "Details": happening.reason,
        }
    elif kind in ("opened", "clicked"):
        said |= {
            "UserAgent": happening.user_agent,
            "Platform": "Unknown",
            "Client": {},
            "OS": {},
            "Geo": {"IP": happening.ip, "CountryISOCode": mail.country, "City": mail.city},
        }
        if kind == "clicked":
            said |= {"OriginalLink": happening.link, "ClickLocation": "HTML"}
        else:
            said["FirstOpen"] = True
    elif record == "SubscriptionChange":
        reason = "Recipient"
        said |= {
            "SuppressSending": kind == "unsubscribed",
            "SuppressionReason": "ManualSuppression" if kind == "unsubscribed" else None,
            "Origin": reason,
        }
    elif kind == "delivered":
        said["Details"] = "250 2.0.0 OK"
    return said, meant(happening, precision_ms=1, place=True, reason=reason)


WRITER: Final = Writer(name="postmark", types=frozenset(RECORDS), event=event, body=one, sign=unsigned)
