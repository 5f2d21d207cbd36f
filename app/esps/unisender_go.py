"""Unisender Go's (UniOne's) webhooks: `{"auth": …, "events_by_user": [{"events": [{…}, …]}]}`.

Source: "Web API", godocs.unisender.ru/web-api-ref (in English docs.unione.io/en/web-api-ref). Of it the section on the
callback's format could be read on 2026-11-24 only as a reseller prints it, with other names for some fields
(developers.gms.net/email-api/webhooks/callback-format), and the statuses in "Webhooks" of the same platform's former
documentation (us1.unione.io/ru/docs/page/webhook_v1). From memory: what `delivery_status` and the single statuses mean,
that times are UTC, the compressed form, the check of the address, and the retries (every ten minutes for a day unless
the answer is 200 within three seconds, as Unisender's own page "Webhooks" has it). What is not plain from them:
- `auth` is the MD5 of the body with the API key in the place of `auth`'s value: weak by design. Whoever saw one body
  can make another one with bytes behind it, so that only a body that is JSON to its end is looked at, and a secret in
  the address (`bearer`) beside the key is worth its trouble.
- With `json_post_compressed` the body is gzip, and `auth` is over what it holds.
- When the address is set up it may be tried with GET.
- `soft_bounced` with `err_will_retry` is tried again: our `deferred`. With any other status it is given up, or undone
  by a later delivery: a soft bounce. `hard_bounced` is no bounce where nothing was sent (unsubscribed before,
  suppressed, the mailing was blocked): `rejected`; nor where the message was lost: `failed`.
- There is no id of an event; `job_id` is the message's. Places, positions and machines are not given.
- `transactional_spam_block` is about servers, not a recipient: a dead letter that says so.
"""

from __future__ import annotations

import re
from hashlib import md5
from typing import Final

import msgspec

from app.errors import PoisonEvent, RejectRequest
from app.esps import documents, fields
from app.esps.credentials import fits, verify_signed
from app.esps.esp import Esp, KeptHeaders, WireHeaders, refused
from app.facts import Event, Poison
from app.inflate import inflate
from app.organisations import Source

_AUTH: Final = re.compile(rb'"auth"[ \t\r\n]*+:[ \t\r\n]*+"([0-9a-fA-F]{32})"')

_TYPES: Final = {
    "sent": "sent",
    "delivered": "delivered",
    "opened": "opened",
    "clicked": "clicked",
    "unsubscribed": "unsubscribed",
    "subscribed": "subscribed",
    "soft_bounced": "bounced",
    "hard_bounced": "bounced",
    "spam": "complained",
}
_ENGAGEMENT: Final = frozenset({"opened", "clicked", "unsubscribed", "subscribed", "complained", "unknown"})
_NOT_SENT: Final = {
    "err_unsubscribed": "rejected",
    "err_unreachable": "rejected",
    "err_skip_letter": "rejected",
    "err_spam_skipped": "rejected",
    "err_lost": "failed",
}
_RETRIED: Final = frozenset({"err_will_retry", "err_resend"})


class _Envelope(msgspec.Struct):
    auth: str


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    """MD5 of the body with the API key in the place of `auth`'s value, under any of the keys."""
    verify_signed(source, headers, body, _check_auth)


def _check_auth(source: Source, headers: WireHeaders, body: bytes) -> None:
    encoding = headers.get(b"content-encoding", b"").decode("latin-1")
    try:
        plain = inflate(body, encoding) if encoding else body
        auth = _decode_envelope(plain).auth
    except (PoisonEvent, RejectRequest, ValueError, RecursionError):
        raise refused() from None
    found = next((match for match in _AUTH.finditer(plain) if match[1] == auth.encode()), None)
    if found is None:
        raise refused()
    start, end = found.span(1)
    before, behind = plain[:start], plain[end:]
    expected = (_md5(b"%b%b%b" % (before, key, behind)) for key in source.secrets)
    if not fits(expected, found[1].lower()):
        raise refused()


def _md5(content: bytes) -> bytes:
    return md5(content, usedforsecurity=False).hexdigest().encode()


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return documents.events(documents.read_by_user(body), _event, wrapped=True)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(documents.read_by_user(body), wrapped=True)


def _event(item: documents.JsonObject) -> Event | str:
    """The event, or why it is none."""
    name = item.get("event_name")
    if name == "transactional_spam_block":
        return "about servers, not a recipient"
    data = fields.members(item.get("event_data"))
    recipient = data.get("email")
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    status = fields.text(data.get("status"))
    info = fields.members(data.get("delivery_info"))
    outcome = fields.text(info.get("delivery_status"))
    kind, bounce = _kind(status, outcome)
    engagement = kind in _ENGAGEMENT
    metadata = fields.strings(data.get("metadata"))
    if kind == "unknown" and (word := status or fields.text(name)):
        metadata["event"] = word
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=fields.time_ms(data.get("event_time")),
        message_id=fields.text(data.get("job_id")),
        link=fields.text(data.get("url")) if kind == "clicked" else None,
        ip=fields.text(info.get("ip")) if engagement else None,
        user_agent=fields.text(info.get("user_agent")) if engagement else None,
        bounce=bounce,
        reason=outcome if kind in ("bounced", "deferred", "rejected", "failed") else None,
        smtp_reply=fields.text(info.get("destination_response")) if not engagement else None,
        metadata=metadata,
    )


def _kind(status: str | None, outcome: str | None) -> tuple[str, str | None]:
    """(our type, hard or soft)."""
    kind = _TYPES.get(status, "unknown") if status else "unknown"
    if kind != "bounced":
        return kind, None
    if status == "soft_bounced":
        return ("deferred", None) if outcome in _RETRIED else ("bounced", "soft")
    if outcome in _NOT_SENT:
        return _NOT_SENT[outcome], None
    return "bounced", "hard"


ESP: Final = Esp(name="unisender_go", verify=verify, parse=parse, split=split, probes=frozenset({"GET"}))
