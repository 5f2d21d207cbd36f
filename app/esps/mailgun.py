"""Mailgun's webhooks, the current form (JSON) and the legacy one (form fields, urlencoded or multipart).

Sources, read 2026-11-24: "Webhook Payloads", "Securing Webhooks" and "Automatic Retries" below
documentation.mailgun.com/docs/mailgun/user-manual/webhooks, "Event Types" below …/user-manual/events; for the legacy
form help.mailgun.com, "Legacy Webhooks" (14048832145051), and the tables of fields in the former user manual
(github.com/mailgun/documentation, source/user_manual.rst). What is not plain from them:
- Only the timestamp and the token are signed, not the event: `once` lets the API refuse a token that comes with a
  second body. Its token is all that was signed, in one piece: the two are joined without a mark between them, so the
  same signature fits after a digit moved from one to the other. Its digest is the event's own, since a repeated
  multipart body may have another boundary.
- A signature is good for a day (where the time of the request is given): attempts go on for 8 hours, and whether each
  is signed anew is not documented. Without an end, one captured signature would vouch for anything as soon as the API
  has forgotten its token.
- A subaccount's webhook carries `parent-signature` too, made with the main account's key: either may fit.
- In the legacy form the sender's own variables are fields beside Mailgun's; Mailgun's come last, and the last counts.
- `failed` is a deferral with severity `temporary`; with `permanent` it is our `rejected` where Mailgun did not even try
  (reason `suppress-…`), else a bounce: soft after 8 hours of temporary failures (reason `old`), hard otherwise.
- Legacy `dropped` likewise: `old` is a soft bounce, `hardfail` a rejection unless it carries a server's code.
- `id` is unique within a day only, and no page says that it survives a repeated webhook: it is shown, no more.
- `client-info.bot` names the machine that opened or clicked; empty: none was seen (documented for Bot Detection, the
  values of it from memory).
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Final

import msgspec

from app.esps import documents, fields, forms
from app.esps.credentials import fits, verify_signed
from app.esps.esp import NOW, Esp, KeptHeaders, Once, WireHeaders, refused
from app.facts import Event, Poison
from app.organisations import Source

# Mailgun's word → ours; `failed` is told apart by `_failed`.
_TYPES: Final = {
    "accepted": "queued",
    "rejected": "rejected",
    "delivered": "delivered",
    "opened": "opened",
    "clicked": "clicked",
    "unsubscribed": "unsubscribed",
    "complained": "complained",
}
_UNKNOWN: Final = frozenset({"unknown", "other", ""})
_TOO_OLD: Final = 602
MAX_AGE_S: Final = 24 * 3600
"""Less than the API remembers tokens."""
MAX_AHEAD_S: Final = 3600
_SIGNED: Final = ("timestamp", "token", "signature", "parent-signature")

# The legacy form's fields, in lower case; all others are the sender's own variables.
_FORM_FIELDS: Final = frozenset(
    {
        *_SIGNED, "event", "recipient", "domain", "ip", "country", "region", "city", "user-agent", "device-type",
        "client-type", "client-name", "client-os", "campaign-id", "campaign-name", "tag", "x-mailgun-tag", "url",
        "mailing-list", "message-id", "message-headers", "code", "error", "notification", "reason", "description",
        "attachment-count", "body-plain", "x-mailgun-sid",
    }
)  # fmt: skip


class _Triple(msgspec.Struct, frozen=True, rename={"parent_signature": "parent-signature"}):
    timestamp: str | int
    token: str
    signature: str
    parent_signature: str = ""


class _Envelope(msgspec.Struct, frozen=True, rename={"event_data": "event-data"}):
    signature: _Triple
    event_data: msgspec.Raw = msgspec.Raw(b"")


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_pairs = msgspec.json.Decoder(list[tuple[str, str]]).decode


def verify(source: Source, headers: WireHeaders, body: bytes) -> None:
    """HMAC-SHA256 (hex) over timestamp and token, under any of the source's keys. Both stand in the body."""
    verify_signed(source, headers, body, _check_signature)


def _check_signature(source: Source, headers: WireHeaders, body: bytes) -> None:
    triple = _triple(body)
    if triple is None:
        raise refused()
    if not _is_current(triple.timestamp, headers.get(NOW)):
        raise refused()
    signed = _signed(triple)
    expected = [hmac.digest(secret, signed, sha256).hex().encode() for secret in source.secrets]
    found = fits(expected, triple.signature.encode())
    if not found | fits(expected, triple.parent_signature.encode()):
        raise refused()


def _is_current(timestamp: str | int, now: bytes | None) -> bool:
    signed_at_s = fields.whole(timestamp)
    if signed_at_s is None:
        return False
    return now is None or -MAX_AHEAD_S <= int(now) - signed_at_s <= MAX_AGE_S


def once(body: bytes) -> Once | None:
    triple = _triple(body)
    if triple is None:
        return None
    if _is_json(body):
        # Without `event-data` the body itself may be the event.
        content = bytes(_decode_envelope(body).event_data) or body
    else:
        content = msgspec.json.encode(forms.read(body))
    return Once(_signed(triple), sha256(content).digest())


def _is_json(body: bytes) -> bool:
    return body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def _triple(body: bytes) -> _Triple | None:
    """What vouches for the body; nothing else of it is looked at."""
    if _is_json(body):
        try:
            return _decode_envelope(body).signature
        except (ValueError, RecursionError):
            return None
    found = dict(forms.read_credentials(body))
    token, signature = found.get("token"), found.get("signature")
    if not token or not signature:
        return None
    return _Triple(found.get("timestamp", ""), token, signature, found.get("parent-signature", ""))


def _signed(triple: _Triple) -> bytes:
    return f"{triple.timestamp}{triple.token}".encode()


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    if not _is_json(body):
        event = _event(_from_form(forms.read(body) or []))
        return [event if isinstance(event, Event) else Poison(event, None, body)]
    return documents.events(documents.read_list(body), _event_of, wrapped=False)


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return documents.split(documents.read_list(body), wrapped=False) if _is_json(body) else [body]


def _event_of(item: documents.JsonObject) -> Event | str:
    # One that was fetched from the events API stands there without its envelope.
    data = item.get("event-data", item)
    return _event(data) if isinstance(data, dict) else "no event-data"


def _event(data: documents.JsonObject) -> Event | str:
    """Of `event-data`: the event, or why it is none."""
    get = data.get
    recipient = get("recipient")
    if type(recipient) is not str or not recipient.strip():
        return "no recipient"
    word = get("event")
    status = fields.members(get("delivery-status"))
    client = fields.members(get("client-info"))
    place = fields.members(get("geolocation"))
    reason = fields.text(get("reason"))
    kind = _TYPES.get(word, "unknown") if type(word) is str else "unknown"
    if word == "failed":
        kind = _failed(get("severity"), reason)
    bot = client.get("bot")
    return Event(
        type=kind,
        recipient=recipient,
        at_ms=fields.time_ms(get("timestamp")),
        esp_event_id=fields.text(get("id")),
        message_id=fields.text(
            fields.members(fields.members(get("message")).get("headers")).get("message-id")
        ),
        link=fields.text(get("url")),
        ip=fields.text(get("ip")),
        user_agent=fields.text(client.get("user-agent")),
        country=_known(place.get("country")),
        city=_known(place.get("city")),
        # What Mailgun calls client is the browser where the mail was read in one.
        client=_known(client.get("client-name")) if client.get("client-type") == "email client" else None,
        device=fields.device(client.get("device-type")),
        bounce=_bounce(status, reason) if kind == "bounced" else None,
        reason=reason,
        smtp_reply=_reply(status),
        provider=_known(get("recipient-provider")),
        machine=bool(bot.strip()) if isinstance(bot, str) else None,
        tags=fields.texts(get("tags")),
        metadata=_metadata(data, word if kind == "unknown" else None),
    )


def _failed(severity: object, reason: str | None) -> str:
    if severity == "temporary":
        return "deferred"
    return "rejected" if reason is not None and reason.startswith("suppress-") else "bounced"


def _bounce(status: documents.JsonObject, reason: str | None) -> str:
    given = status.get("bounce-type")
    if given == "hard" or given == "soft":
        return str(given)
    code = fields.whole(status.get("code")) or 0
    return "soft" if reason == "old" or code == _TOO_OLD or 400 <= code < 500 else "hard"


def _reply(status: documents.JsonObject) -> str | None:
    """ "550 5.1.1 No such user": what Mailgun has of the code is put before the words. Codes from 600 are its own."""
    words = fields.text(status.get("message")) or fields.text(status.get("description"))
    code = fields.whole(status.get("code")) or 0
    if not 200 <= code < 600:
        return words
    if words is None:
        return str(code)
    return words if words.startswith(str(code)) else f"{code} {words}"


def _metadata(data: documents.JsonObject, word: object) -> dict[str, str]:
    metadata: dict[str, str] = {}
    campaigns = data.get("campaigns")
    if isinstance(campaigns, list) and campaigns:
        campaign = fields.plain(fields.members(campaigns[0]).get("id"))
        if campaign:
            metadata["campaign_id"] = campaign
    metadata |= fields.strings(data.get("user-variables"))
    if isinstance(word, str):
        metadata["event"] = word
    return metadata


def _known(value: object) -> str | None:
    return value if isinstance(value, str) and value.lower() not in _UNKNOWN else None


def _from_form(pairs: list[tuple[str, str]]) -> documents.JsonObject:
    """The legacy form in the words of the current one."""
    found = {name.lower(): value for name, value in pairs if name.lower() in _FORM_FIELDS}
    get = found.get
    word, reason, code = get("event"), get("reason"), get("code", "")
    words = get("error") or get("description") or ""
    if "." in code and code not in words:
        words = f"{code} {words}"
    status: documents.JsonObject = {"message": words}
    if word == "bounced":
        word, reason = "failed", "bounce"
    elif word == "dropped":
        # "hardfail": Mailgun did not try, unless a server's answer is there.
        tried = reason == "old" or code[:1] in ("4", "5")
        word = "failed" if tried else "rejected"
    status["code"] = _TOO_OLD if reason == "old" and not code else code
    headers = _headers(get("message-headers"))
    campaign = get("campaign-id")
    return {
        "event": word,
        "recipient": get("recipient"),
        "timestamp": get("timestamp"),
        "reason": reason,
        "delivery-status": status,
        "message": {"headers": {"message-id": get("message-id") or headers.get("message-id")}},
        "url": get("url"),
        "ip": get("ip"),
        "client-info": found,
        "geolocation": found,
        "tags": [value for name, value in pairs if name.lower() in ("tag", "x-mailgun-tag")],
        "campaigns": [{"id": campaign}],
        "user-variables": {name: value for name, value in pairs if not _is_mailguns(name)},
    }


def _is_mailguns(name: str) -> bool:
    name = name.lower()
    return name in _FORM_FIELDS or name.startswith("attachment-")


def _headers(encoded: str | None) -> dict[str, str]:
    """Name in lower case → value, of the mail's own headers, which come as a JSON list of pairs in a text."""
    try:
        return {name.lower(): value for name, value in _decode_pairs(encoded or "[]")}
    except (ValueError, RecursionError):
        return {}


ESP: Final = Esp(name="mailgun", verify=verify, parse=parse, split=split, timed=True, once=once)
