"""SparkPost's webhooks: an array of up to 350 wrapped events, with Basic or a bearer token.

Places and prefetching machines are told, positions aren't; an event's id is not said to survive a resend.
"""

from __future__ import annotations

from typing import Final

from cli.traffic.esps.writer import Event, Said, Writer, encode, meant, message_id, metadata, unsigned
from cli.traffic.happening import Happening

# Our type → the wrapper and SparkPost's type.
WORDS: Final = {
    "queued": ("message_event", "injection"),
    "delivered": ("message_event", "delivery"),
    "deferred": ("message_event", "delay"),
    "bounced": ("message_event", "bounce"),
    "rejected": ("message_event", "policy_rejection"),
    "failed": ("gen_event", "generation_failure"),
    "opened": ("track_event", "open"),
    "clicked": ("track_event", "click"),
    "complained": ("message_event", "spam_complaint"),
    "unsubscribed": ("unsubscribe_event", "list_unsubscribe"),
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    kind = happening.type
    group, word = WORDS[kind]
    fact: Event = {
        "type": word,
        "event_id": event_id,
        "timestamp": str(happening.at_ms // 1000),
        "message_id": message_id(mail),
        "rcpt_to": mail.recipient,
        "raw_rcpt_to": mail.recipient,
        "rcpt_meta": metadata(mail),
        "rcpt_tags": ["newsletter"],
        "subject": "Spring is here",
        "template_id": "news",
    }
    reason = None
    engaged = kind in ("opened", "clicked")
    if engaged:
        fact |= {
            "ip_address": happening.ip,
            "user_agent": happening.user_agent,
            "geo_ip": {"country": mail.country, "city": mail.city},
            "user_agent_parsed": {"is_mobile": False, "is_proxy": False, "is_prefetched": happening.machine},
        }
        if kind == "clicked":
            fact |= {"target_link_url": happening.link, "target_link_name": "shop"}
    elif kind in ("bounced", "deferred"):
        number, reason = (10, "Invalid Recipient") if happening.bounce == "hard" else (22, "Mailbox Full")
        fact |= {
            "bounce_class": str(number),
            "raw_reason": happening.reason,
            "reason": happening.reason,
            "error_code": (happening.reason or "").split()[0],
        }
    elif kind in ("rejected", "failed"):
        reason = happening.reason
        fact["reason"] = reason
    elif kind == "complained":
        reason = "abuse"
        fact |= {"fbtype": reason, "report_by": "feedback.example.com", "user_str": "relay"}
    if mail.provider:
        fact["mailbox_provider"] = mail.provider
    found = meant(happening, place=True, machine=engaged and happening.machine, provider=True, reason=reason)
    return {"msys": {group: fact}}, found


def renew(said: Event, word: str) -> None:
    wrapper = said["msys"]
    assert isinstance(wrapper, dict)
    for fact in wrapper.values():
        fact["event_id"] = f"{word}.{fact['event_id']}"


WRITER: Final = Writer(
    name="sparkpost",
    types=frozenset(WORDS),
    event=event,
    body=encode,
    sign=unsigned,
    largest=350,
    renew=renew,
)
