"""Amazon SES, whose events come through Amazon SNS: an envelope (`app.esps.sns`) with SES' event as a text in it.

Source: "Contents of event data that Amazon SES publishes to Amazon SNS", "Examples of event data that Amazon SES
publishes to Amazon SNS" and "Amazon SNS notification contents for Amazon SES" of the SES developer guide,
docs.aws.amazon.com/ses/latest/dg, read 2026-11-24. What is not plain from them:
- SNS tries again after 5xx, not after 4xx, and by default for about a minute. Somebody saw 429 taken as final
  (github.com/aws/apprunner-roadmap/issues/227), so who sends too much is answered 503.
- "Notifications" (of an identity) and "event publishing" (of a configuration set) differ in the name of one field,
  `notificationType` or `eventType`. What tells that a topic was connected is no event.
- `Send` means that SES accepted the message: our `queued`. A bounce that is "Transient" is given up: soft;
  "Undetermined" is soft. What SES itself suppressed (on a list, unsubscribed before) is reported as a bounce, or as a
  complaint: `rejected`. `UnsubscribedRecipient` is from memory.
- A complaint of type `not-spam` says the opposite of one: `unknown`. A complaint lists everyone of its domain who
  got the message, since most providers don't tell who complained.
- One message may be about several recipients: an event for each. An open or click of a message to several doesn't say
  whose it was: a dead letter. One message for each recipient is what tracking needs.
- `MessageId` survives SNS' own retries, but one event published twice has two: the identity is made of the event.
- The `Subscription` event's fields are as in public code that reads it; AWS' page was not to be had in full.
- Message tags have names and values: metadata. Those named `ses:…` are SES' own and left out, except the configuration
  set (`configuration_set`).
Rule: a body of SES' event alone (a saved raw delivery) is parsed as well; `verify` would refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import msgspec

from app.esps import documents, fields, sns
from app.esps.esp import Esp, KeptHeaders
from app.facts import Event, Poison

_Members = documents.JsonObject

# Type of event → our type, the member with its details, and that with its recipients ("": those of the message).
_TYPES: Final = {
    "Send": ("queued", "send", ""),
    "Delivery": ("delivered", "delivery", "recipients"),
    "DeliveryDelay": ("deferred", "deliveryDelay", "delayedRecipients"),
    "Bounce": ("bounced", "bounce", "bouncedRecipients"),
    "Complaint": ("complained", "complaint", "complainedRecipients"),
    "Reject": ("rejected", "reject", ""),
    "Rendering Failure": ("failed", "failure", ""),
    "Open": ("opened", "open", ""),
    "Click": ("clicked", "click", ""),
    "Subscription": ("subscribed", "subscription", ""),
}
_SUPPRESSED: Final = frozenset({"Suppressed", "OnAccountSuppressionList", "UnsubscribedRecipient"})

_encode: Final = msgspec.json.Encoder().encode

_Item = tuple[Event | Poison, bytes]
"""What `parse` gives, and what `split` does."""


def parse(body: bytes, headers: KeptHeaders) -> list[Event | Poison]:
    return [item for item, _ in _items(body, bodies=False)]


def split(body: bytes, headers: KeptHeaders) -> list[bytes]:
    return [alone for _, alone in _items(body, bodies=True)]


def _items(body: bytes, *, bodies: bool) -> list[_Item]:
    result: list[_Item] = []
    for index, item in enumerate(documents.read_list(body)):
        if isinstance(item, Poison):
            result.append((item, item.raw))
        else:
            result += _read(item, index, bodies)
    return result


def _read(item: _Members, index: int, bodies: bool) -> list[_Item]:
    """One envelope, or one event of SES without one."""
    kind = item.get("Type")
    inner = item
    sns_id: str | None = None
    sns_time: object = None
    if kind is not None:
        if kind != "Notification":
            known = type(kind) is str and kind in sns.SIGNED
            return [_poisoned(f"SNS: {kind}" if known else "SNS: unknown type", index, item)]
        message = fields.text(item.get("Message")) or ""
        if message.startswith("Successfully validated SNS topic"):
            return []
        found = documents.read_list(message.encode()) if message[:1] == "{" else []
        if len(found) != 1:
            return [_poisoned("the message is no event of SES", index, item)]
        (only,) = found
        if isinstance(only, Poison):
            return [_poisoned(only.reason, index, item)]
        inner = only
        sns_id, sns_time = fields.text(item.get("MessageId")), item.get("Timestamp")
    if inner.get("notificationType") == "AmazonSnsSubscriptionSucceeded":
        return []
    expanded = _expand(inner, sns_id, sns_time)
    if isinstance(expanded, str):
        return [_poisoned(expanded, index, item)]
    return [(event, _alone(item, narrowed()) if bodies else b"") for event, narrowed in expanded]


def _poisoned(reason: str, index: int, item: _Members) -> _Item:
    poison = documents.poison(reason, index, item, wrapped=False)
    return poison, poison.raw


def _alone(item: _Members, inner: _Members) -> bytes:
    """A body with the event of one recipient."""
    if "Type" in item:
        return _encode({**item, "Message": _encode(inner).decode()})
    return _encode(inner)


def _expand(
    inner: _Members, sns_id: str | None, sns_time: object
) -> list[tuple[Event, Callable[[], _Members]]] | str:
    """For each recipient the event, and what makes SES' event of this one alone; or why it is none."""
    get = inner.get
    word = get("eventType") or get("notificationType")
    mail = fields.members(get("mail"))
    found = _TYPES.get(word) if type(word) is str else None
    kind, member, recipients = found or ("unknown", "", "")
    details = fields.members(get(member))
    listed = details.get(recipients) if recipients else mail.get("destination")
    if type(listed) is not list or not listed:
        listed = mail.get("destination")
    people = [person for person in _people(listed) if person[0]]
    if not people:
        return "no recipient"
    if len(people) > 1 and kind in ("opened", "clicked", "subscribed"):
        return f"SES does not say which recipient {kind}"
    kind, bounce, reason = _outcome(kind, details)
    metadata = _metadata(mail)
    if kind == "unknown":
        metadata["event"] = f"{word}: {reason}" if reason else str(word)
    if fields.members(details.get("linkTags")):
        metadata |= {f"link.{name}": value for name, value in _first_values(details["linkTags"])}
    at_ms = fields.time_ms(details.get("timestamp"))
    if at_ms is None:
        at_ms = fields.time_ms(mail.get("timestamp")) or fields.time_ms(sns_time)
    engagement = kind in ("opened", "clicked")
    esp_event_id = fields.text(details.get("feedbackId")) or sns_id
    return [
        (
            Event(
                type=kind,
                recipient=address,
                at_ms=at_ms,
                esp_event_id=esp_event_id,
                message_id=fields.text(mail.get("messageId")),
                link=fields.text(details.get("link")),
                ip=fields.text(details.get("ipAddress")) if engagement else None,
                user_agent=fields.text(details.get("userAgent")) if engagement else None,
                bounce=bounce,
                reason=reason,
                smtp_reply=fields.text(person.get("diagnosticCode"))
                or fields.text(details.get("smtpResponse")),
                metadata=metadata,
            ),
            partial(_narrowed, inner, member, recipients, element),
        )
        for address, person, element in people
    ]


def _people(listed: object) -> Iterable[tuple[str, _Members, object]]:
    """(address, what is said of that one, the list's own element) of a list of addresses or of objects with one."""
    for element in listed if type(listed) is list else ():
        person = fields.members(element)
        address = element if type(element) is str else person.get("emailAddress")
        if type(address) is str and address.strip():
            yield _bare(address), person, element


def _bare(address: str) -> str:
    """`Jane Doe <jane@example.com>` → `jane@example.com`: what was given as a recipient may carry a name."""
    if address.rstrip().endswith(">") and "<" in address:
        return address.rstrip()[:-1].rpartition("<")[2]
    return address


def _outcome(kind: str, details: _Members) -> tuple[str, str | None, str | None]:
    """(our type, hard or soft, reason)."""
    if kind == "bounced":
        subtype = fields.text(details.get("bounceSubType"))
        if subtype in _SUPPRESSED:
            return "rejected", None, subtype
        named = subtype if subtype not in (None, "General", "Undetermined") else None
        broad = fields.text(details.get("bounceType"))
        return kind, "hard" if broad == "Permanent" else "soft", named or broad
    if kind == "complained":
        subtype = fields.text(details.get("complaintSubType"))
        if subtype in _SUPPRESSED:
            return "rejected", None, subtype
        feedback = fields.text(details.get("complaintFeedbackType"))
        return "unknown" if feedback == "not-spam" else kind, None, feedback
    if kind == "deferred":
        return kind, None, fields.text(details.get("delayType"))
    if kind == "subscribed":
        return _left(details), None, fields.text(details.get("source"))
    return kind, None, fields.text(details.get("reason")) or fields.text(details.get("errorMessage"))


def _left(details: _Members) -> str:
    """Whether the new preferences leave something that the old ones had."""
    new = fields.members(details.get("newTopicPreferences"))
    old = fields.members(details.get("oldTopicPreferences"))
    if new.get("unsubscribeAll") is True:
        return "unsubscribed"
    return "unsubscribed" if _opted_out(new) - _opted_out(old) else "subscribed"


def _opted_out(preferences: _Members) -> set[object]:
    topics = preferences.get("topicSubscriptionStatus")
    found = [fields.members(topic) for topic in topics] if type(topics) is list else []
    return {
        fields.plain(topic.get("topicName")) for topic in found if topic.get("subscriptionStatus") == "OptOut"
    }


def _metadata(mail: _Members) -> dict[str, str]:
    metadata = {}
    for name, value in _first_values(mail.get("tags")):
        if name == "ses:configuration-set":
            metadata["configuration_set"] = value
        elif not name.startswith("ses:"):
            metadata[name] = value
    subject = fields.text(fields.members(mail.get("commonHeaders")).get("subject"))
    if subject and "subject" not in metadata:
        metadata["subject"] = subject
    return metadata


def _first_values(tags: object) -> Iterable[tuple[str, str]]:
    for name, values in fields.members(tags).items():
        found = fields.texts(values)
        if found:
            yield name, found[0]


def _narrowed(inner: _Members, member: str, recipients: str, element: object) -> _Members:
    narrowed = dict(inner)
    if recipients and type(fields.members(inner.get(member)).get(recipients)) is list:
        narrowed[member] = {**fields.members(inner.get(member)), recipients: [element]}
    mail = fields.members(inner.get("mail"))
    if mail.get("destination"):
        narrowed["mail"] = {**mail, "destination": [element if type(element) is str else _address(element)]}
    return narrowed


def _address(element: object) -> object:
    return fields.members(element).get("emailAddress")


ESP: Final = Esp(
    name="amazon_ses",
    verify=sns.verify,
    parse=parse,
    split=split,
    check=sns.check,
    limited_status=503,
    certificate_url=sns.certificate_url,
    confirmation=sns.confirmation,
)
