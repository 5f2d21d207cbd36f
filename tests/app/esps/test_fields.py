from __future__ import annotations

import pytest

from app.esps import fields


@pytest.mark.parametrize(
    ("value", "reason", "reply"),
    [
        ("550 5.1.1 no such user", "550 5.1.1", "550 5.1.1 no such user"),
        ("550-5.1.1 The account", "550 5.1.1", "550-5.1.1 The account"),
        ("smtp; 421 try later", "421", "smtp; 421 try later"),
        ("552 #5.2.2 full", "552 5.2.2", "552 #5.2.2 full"),
        ("5500 users", "5500 users", None),
        ("mailbox full", "mailbox full", None),
        ("", None, None),
        (None, None, None),
        (550, None, None),
    ],
)
def test_a_server_s_reply_is_told_from_a_reason(value: object, reason: str | None, reply: str | None) -> None:
    assert fields.reason_and_reply(value) == (reason, reply)
