"""Amazon SES through SNS: one event of SES in an envelope, signed by SNS with a key whose certificate is Amazon's.

There is no position, no place and no bot flag. Nobody but Amazon has a certificate that the API believes, and the
product has no switch to believe another one: `reports load` sends to a source that says `insecure = true`, under a
signature that nobody looks at. With a private key (tests, benchmarks: they hand the API's certificate store a
certificate of their own, as its constructor allows) it is a real signature of version 2.
"""

from __future__ import annotations

import base64
import uuid
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cli.traffic.esps.writer import (
    Credentials,
    Event,
    Said,
    Signed,
    Writer,
    encode,
    meant,
    message_id,
    metadata,
    rfc3339,
)
from cli.traffic.happening import Happening

CERTIFICATE_URL: Final = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-" + "0a" * 16 + ".pem"
NO_SIGNATURE: Final = "bm9ib2R5IGxvb2tzIGF0IGl0"
_SIGNED: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")

# Our type → SES' word and the member with the details.
WORDS: Final = {
    "queued": ("Send", "send"),
    "delivered": ("Delivery", "delivery"),
    "deferred": ("DeliveryDelay", "deliveryDelay"),
    "bounced": ("Bounce", "bounce"),
    "complained": ("Complaint", "complaint"),
    "rejected": ("Reject", "reject"),
    "failed": ("Rendering Failure", "failure"),
    "opened": ("Open", "open"),
    "clicked": ("Click", "click"),
    "unsubscribed": ("Subscription", "subscription"),
    "subscribed": ("Subscription", "subscription"),
}


def event(happening: Happening, event_id: str) -> Said:
    mail = happening.mail
    at = rfc3339(happening.at_ms)
    word, member = WORDS[happening.type]
    details, reason = _details(happening, at)
    inner = {
        "eventType": word,
        "mail": {
            # Of Send, Reject and Rendering Failure this is the event's time.
            "timestamp": at,
            "source": "news@acme.example",
            "sendingAccountId": "123456789012",
            "messageId": message_id(mail),
            "destination": [mail.recipient],
            "headersTruncated": False,
            "headers": [],
            "commonHeaders": {"to": [mail.recipient], "subject": "Spring is here"},
            "tags": {
                "ses:configuration-set": ["campaigns"],
                **{name: [value] for name, value in metadata(mail).items()},
            },
        },
        member: details,
    }
    said: Event = {"MessageId": _uuid(event_id), "Timestamp": at, "Message": inner}
    return said, meant(happening, precision_ms=1, reason=reason)


def _details(happening: Happening, at: str) -> tuple[Event, str | None]:
    """What SES says of the type, and what of it is the reason."""
    kind = happening.type
    recipient = happening.mail.recipient
    if kind == "delivered":
        return {"timestamp": at, "processingTimeMillis": 546, "recipients": [recipient],
                "smtpResponse": "250 2.0.0 OK", "reportingMTA": "a8-70.smtp-out.amazonses.com"}, None  # fmt: skip
    if kind == "deferred":
        word = "MailboxFull" if "full" in (happening.reason or "") else "TransientCommunicationFailure"
        return {"timestamp": at, "delayType": word, "expirationTime": at,
                "delayedRecipients": [{"emailAddress": recipient, "status": "4.4.1",
                                       "diagnosticCode": happening.reason}]}, word  # fmt: skip
    if kind == "bounced":
        hard = happening.bounce == "hard"
        subtype = "NoEmail" if hard else "MailboxFull"
        return {"timestamp": at, "bounceType": "Permanent" if hard else "Transient", "bounceSubType": subtype,
                "bouncedRecipients": [{"emailAddress": recipient, "action": "failed", "status": "5.1.1" if hard
                                       else "4.2.2", "diagnosticCode": happening.reason}],
                "reportingMTA": "dns; mta.example.com"}, subtype  # fmt: skip
    if kind == "complained":
        return {"timestamp": at, "complainedRecipients": [{"emailAddress": recipient}],
                "complaintFeedbackType": "abuse", "userAgent": "feedback loop"}, "abuse"  # fmt: skip
    if kind == "opened" or kind == "clicked":
        found: Event = {
            "timestamp": at,
            "ipAddress": happening.ip,
            "userAgent": happening.user_agent,
        }
        if kind == "clicked":
            found |= {"link": happening.link, "linkTags": None}
        return found, None
    if kind in ("unsubscribed", "subscribed"):
        leaves = kind == "unsubscribed"
        return {"timestamp": at, "source": "UnsubscribeHeader", "contactList": "all",
                "newTopicPreferences": {"unsubscribeAll": leaves, "topicSubscriptionStatus": []},
                "oldTopicPreferences": {"unsubscribeAll": not leaves, "topicSubscriptionStatus": []},
                }, "UnsubscribeHeader"  # fmt: skip
    if kind == "failed":
        return {"errorMessage": happening.reason, "templateName": "news"}, happening.reason
    if kind == "rejected":
        return {"reason": happening.reason}, happening.reason
    return {}, None


def _uuid(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def renew(said: Event, word: str) -> None:
    """SES published it once more: another message of SNS."""
    said["MessageId"] = _uuid(f"{word}{said['MessageId']}")


def body(events: list[Event]) -> bytes:
    (said,) = events
    return encode(
        {
            "Type": "Notification",
            **said,
            "Subject": "Amazon SES Email Event Notification",
            "Message": encode(said["Message"]).decode(),
            "SignatureVersion": "2",
            "SigningCertURL": CERTIFICATE_URL,
            "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
        }
    )


def sign(credentials: Credentials, body: bytes, now_s: int) -> Signed:
    envelope: dict[str, str] = msgspec.json.decode(body, type=dict[str, str])
    envelope["TopicArn"] = credentials.topic
    envelope["Signature"] = _signature(envelope, credentials.private_key)
    headers = {
        "content-type": "text/plain; charset=UTF-8",
        "user-agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": envelope["Type"],
        "x-amz-sns-message-id": envelope["MessageId"],
        "x-amz-sns-topic-arn": envelope["TopicArn"],
    }
    return headers, encode(envelope)


def _signature(envelope: dict[str, str], pem: bytes) -> str:
    if not pem:
        return NO_SIGNATURE
    text = "".join(f"{name}\n{envelope[name]}\n" for name in _SIGNED)
    return base64.b64encode(_key(pem).sign(text.encode(), padding.PKCS1v15(), SHA256())).decode()


@lru_cache(maxsize=64)
def _key(pem: bytes) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("not an RSA key")
    return key


WRITER: Final = Writer(
    name="amazon_ses", types=frozenset(WORDS), event=event, body=body, sign=sign, renew=renew
)
