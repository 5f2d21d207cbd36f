"""What remains of an erased person's facts."""

from __future__ import annotations

import msgspec
import pytest

from app import facts as f
from app.erasure import blank, tells
from app.facts import Detail
from tests.support.facts import START_MS, entry

WHOLE = Detail(
    "generic", link="https://example.com/?who=a%40example.com", reason="no A@example.com here", smtp_reply="550 a",
    ip="192.0.2.1", user_agent="agent", client="Gmail", device="mobile", system="iOS", browser="Safari", country="DE",
    city="Berlin", provider="Gmail", variant={"subject": "A"}, esp_event_id="1", message_id="2", tags=("t",),
    metadata={"name": "Ann"},
)  # fmt: skip


def test_nothing_that_identifies_remains_and_all_that_is_counted_does() -> None:
    before = entry(f.CLICKED, START_MS, detail=f.encode(WHOLE), link=7, reason=8)
    after = blank(before)
    assert after.fact == before.fact
    assert after.address == ""
    kept = {
        name: value for name, value in msgspec.structs.asdict(f.decode_detail(after.detail)).items() if value
    }
    assert kept == {
        "esp": "generic", "client": "Gmail", "device": "mobile", "system": "iOS", "browser": "Safari", "country": "DE",
        "city": "Berlin", "provider": "Gmail", "variant": {"subject": "A"},
    }  # fmt: skip
    assert blank(after) == after


def test_a_link_and_a_reason_that_many_share_remain() -> None:
    detail = f.encode(Detail("generic", link="https://example.com/a", reason="mailbox full"))
    kept = f.decode_detail(blank(entry(f.BOUNCED, START_MS, detail=detail)).detail)
    assert (kept.link, kept.reason) == ("https://example.com/a", "mailbox full")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("to A@Example.com", True),
        ("?u=a%40example.com", True),
        ("b@example.com", False),
        ("", False),
        (None, False),
    ],
)
def test_whether_a_text_tells_an_address(text: str | None, found: bool) -> None:
    assert tells(text, "a@example.com") is found
    assert not tells(text, "")
