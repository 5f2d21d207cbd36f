"""Confirming a subscription of Amazon SNS: `ConfirmSubscription`, for a topic that a source names.

Source: "HTTP/HTTPS subscription confirmation JSON format", docs.aws.amazon.com/sns/latest/dg, read 2026-11-24: the
message's token is all that it needs; no signature of ours, as `SubscribeURL` has none (from memory). Rules:
- The address is made here, of the region in the topic's ARN; the one in the message (`SubscribeURL`) is never called.
- Amazon away: TryLater, SNS repeats its message. Amazon refuses the token: the message is refused and the log says so;
  a new subscription request at Amazon brings a new one.
"""

from __future__ import annotations

import logging
from typing import Final

from api.outgoing import RETRY_AFTER_S, Outgoing
from app.errors import RejectRequest, TryLater
from app.esps.esp import Confirmation
from app.esps.sns import ARN
from app.organisations import Source

log = logging.getLogger("reports.api")

_CHINA: Final = "arn:aws-cn:"


class Confirmations:
    def __init__(self, outgoing: Outgoing | None = None) -> None:
        self._outgoing = outgoing or Outgoing()

    async def confirm(self, source: Source, confirmation: Confirmation) -> None:
        """Raises RejectRequest 403 for a topic that isn't the source's, 400 for a refused token; TryLater."""
        arn = ARN.fullmatch(confirmation.topic_arn)
        if arn is None or confirmation.topic_arn not in source.topics:
            raise RejectRequest(403, "forbidden", "this source takes nothing of that topic")
        domain = "amazonaws.com.cn" if confirmation.topic_arn.startswith(_CHINA) else "amazonaws.com"
        status, _ = await self._outgoing.get(
            f"https://sns.{arn[1]}.{domain}/",
            {
                "Action": "ConfirmSubscription",
                "TopicArn": confirmation.topic_arn,
                "Token": confirmation.token,
            },
        )
        if status >= 500 or status == 429:
            raise TryLater(RETRY_AFTER_S, "Amazon SNS is busy, try again")
        if status != 200:
            log.warning(
                "sns refused a confirmation: org=%s source=%s status=%d", source.org, source.name, status
            )
            raise RejectRequest(400, "not_confirmed", "Amazon SNS refused to confirm the subscription")
        log.info("sns subscription confirmed: org=%s source=%s", source.org, source.name)

    async def close(self) -> None:
        await self._outgoing.close()
