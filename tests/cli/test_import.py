"""Saved bodies: what a file holds, what is kept of a request, and which lines are bad."""

from __future__ import annotations

import contextlib
import json
import time
from base64 import b64encode
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.esps import amazon_ses
from app.facts import Event, Poison
from app.organisations import Organisation, Organisations, Source
from app.settings import Settings
from app.topics import WEBHOOKS, WEBHOOKS_PARTITIONS, webhook_of
from cli.import_ import _Bad, pieces, source_of, webhook_from
from cli.main import run
from tests.support.intake import stored
from tests.support.kafka import fresh_topics
from tests.support.samples import sample

NEWS = Source(org="acme", name="news", esp="sendgrid", secrets=(b"k",))
NOW_MS = 1_790_000_000_000
MAX = 10_000
EVENT = '{"email":"a@example.com","event":"open","timestamp":1790000000}'
CONFIG = """
[orgs.acme]
name = "Acme"
[orgs.acme.sources.news]
esp = "sendgrid"
insecure = true
[orgs.acme.sources.ses]
esp = "amazon_ses"
insecure = true
[orgs.globex.sources.news]
esp = "sendgrid"
insecure = true
"""


def bodies(path: Path) -> list[bytes]:
    return [webhook_from(text, NEWS, NOW_MS, NOW_MS, MAX).body for _, text, _ in pieces(path, None, MAX)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[{EVENT}]", [f"[{EVENT}]"]),
        (f"[{EVENT}]\n\n{EVENT}\r\n", [f"[{EVENT}]", EVENT]),
        (json.dumps([json.loads(EVENT)], indent=2), [json.dumps([json.loads(EVENT)], indent=2)]),
        (f"[\n{EVENT},\n{EVENT}\n]", [f"[\n{EVENT},\n{EVENT}\n]"]),
        (
            "mandrill_events=%5B%5D\nmandrill_events=%5B1%5D",
            ["mandrill_events=%5B%5D", "mandrill_events=%5B1%5D"],
        ),
        ("--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--", None),
        (json.dumps({"body": EVENT}), [EVENT]),
        (f'{{"body": {EVENT}}}\n{{"body": [{EVENT}], "headers": {{}}}}', [EVENT, f"[{EVENT}]"]),
        (json.dumps({"body": b64encode(b"\xff").decode(), "encoding": "base64"}), [b"\xff"]),
        ('\ufeff{"body": "1"}\n{"body": "2"}', ["1", "2"]),
        (json.dumps({"body": "mine", "event": "open"}), ['{"body": "mine", "event": "open"}']),
        (json.dumps({"Messages": [{"MessageId": "1", "Body": EVENT}]}, indent=2), [EVENT]),
        (f'{{"MessageId": "1", "Body": {json.dumps(EVENT)}}}\n' * 2, [EVENT] * 2),
    ],
)
def test_what_a_file_holds(tmp_path: Path, text: str, expected: list[str | bytes] | None) -> None:
    path = tmp_path / "saved"
    path.write_bytes(text.encode())
    wanted = [text] if expected is None else expected
    assert bodies(path) == [one if isinstance(one, bytes) else one.encode() for one in wanted]


def test_told_rather_than_guessed(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    path.write_text(f"{EVENT}\n{EVENT}\n")
    assert len(list(pieces(path, "line", MAX))) == 2
    assert len(list(pieces(path, "file", MAX))) == 1


def saved(**fields: object) -> bytes:
    return json.dumps({"body": EVENT, **fields}).encode()


def test_what_is_kept_of_a_request() -> None:
    headers = {"Content-Type": "text/x", "Authorization": "Bearer secret", "Content-Encoding": "gzip"}
    found = webhook_from(
        saved(headers=headers, received_at="2026-09-21T14:13:20+02:00"), NEWS, NOW_MS, NOW_MS, MAX
    )
    assert (found.org, found.source, found.esp) == ("acme", "news", "sendgrid")
    assert found.headers == (("content-type", "text/x"),), "a text is no longer compressed"
    assert found.received_at_ms == NOW_MS - 7_200_000
    packed = webhook_from(
        saved(body="AAAA", encoding="base64", headers=[["Content-Encoding", "gzip"]]), NEWS, 5, NOW_MS, MAX
    )
    assert packed.headers == (("content-encoding", "gzip"),)
    assert packed.received_at_ms == 5
    queued = {"MessageId": "1", "Body": EVENT, "Attributes": {"SentTimestamp": "1790000000001"}}
    assert webhook_from(json.dumps(queued).encode(), NEWS, 5, NOW_MS, MAX).received_at_ms == NOW_MS + 1


@pytest.mark.parametrize(
    "text",
    [
        saved(received_at="yesterday"),
        saved(received_at=NOW_MS * 1000),
        saved(received_at=-1),
        saved(body=1, headers={}),
        saved(body="%", encoding="base64"),
        saved(encoding="rot13"),
        saved(headers={"x": "\u20ac"}),
        saved(headers={"x": 1}),
        saved(body="x" * (MAX + 1)),
        b"x" * (MAX + 1),
    ],
)
def test_bad_lines(text: bytes) -> None:
    with pytest.raises(_Bad) as caught:
        webhook_from(text, NEWS, NOW_MS, NOW_MS, MAX)
    assert str(caught.value)
    assert "example.com" not in str(caught.value)


@given(st.binary(max_size=200) | st.builds(lambda b: b'{"body":' + b, st.binary(max_size=60)))
def test_any_bytes_are_a_body_or_bad(text: bytes) -> None:
    with contextlib.suppress(_Bad):
        assert webhook_from(text, NEWS, NOW_MS, NOW_MS, MAX).org == "acme"


@pytest.mark.parametrize("pretty", [False, True])
def test_a_dead_letter_queue_of_amazons(tmp_path: Path, pretty: bool) -> None:
    """An SNS subscription's: the envelopes as SNS would have posted them."""
    envelopes = [sample("amazon_ses", name).decode() for name in ("delivery.json", "bounce.json")]
    messages = [
        {"MessageId": "m", "ReceiptHandle": "r", "MD5OfBody": "0", "Body": envelope} for envelope in envelopes
    ]
    path = tmp_path / "queue.json"
    path.write_text(
        json.dumps({"Messages": messages}, indent=2) if pretty else "\n".join(map(json.dumps, messages))
    )
    ses = Source(org="acme", name="ses", esp="amazon_ses", topics=("t",))
    found = [webhook_from(text, ses, NOW_MS, NOW_MS, 100_000) for _, text, _ in pieces(path, None, 100_000)]
    assert [webhook.body.decode() for webhook in found] == envelopes
    events = [event for webhook in found for event in amazon_ses.parse(webhook.body, {})]
    assert {event.type for event in events if isinstance(event, Event)} == {"delivered", "bounced"}
    assert not [event for event in events if isinstance(event, Poison)]


def test_the_source() -> None:
    organisations = Organisations(
        {
            "acme": Organisation(id="acme", name="", timezone="UTC", sources={"news": NEWS, "one": NEWS}),
            "globex": Organisation(id="globex", name="", timezone="UTC", sources={"news": NEWS}),
        }
    )
    assert source_of(organisations, "one") is NEWS
    assert source_of(organisations, "acme/news") is NEWS
    assert source_of(organisations, "acme/api").esp == "generic"
    for wrong in ("news", "nobody", "acme/nobody", "nobody/news"):
        with pytest.raises(click.UsageError):
            source_of(organisations, wrong)


def test_the_command(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fresh_topics(Settings(kafka=kafka))
    (tmp_path / "reports.toml").write_text(CONFIG)
    for name, value in (
        ("KAFKA", kafka),
        ("DATA", str(tmp_path / "var")),
        ("CONFIG", str(tmp_path / "reports.toml")),
    ):
        monkeypatch.setenv(f"REPORTS_{name}", value)
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(saved(received_at=NOW_MS) + b"\n" + saved(received_at=NOW_MS) + b"\n")
    bad.write_bytes(
        saved() + b'\n{"body": 1, "headers": {}}\n\n{"body": "x", "received_at": "never"}\n{"bo\n'
    )
    assert run(["import", "acme/news", str(good)]) == 0
    assert run(["import", "acme/news", str(good), str(bad)]) == 1
    said = capfd.readouterr().err
    assert f"{bad}:2: body: must be" in said and f"{bad}:4: received_at: must be" in said
    assert f"{bad}:5: is no saved request" in said
    assert "3 bodies imported to acme/news, 3 bad" in said
    assert run(["import", "news", str(good)]) == 2
    assert run(["import", "ses", str(tmp_path / "nothing")]) == 2
    records = stored(kafka, WEBHOOKS, WEBHOOKS_PARTITIONS)
    assert len(records) == 5
    assert {webhook_of(value, headers).body for _, value, headers in records} == {EVENT.encode()}
    for _, body, headers in records:
        webhook = webhook_of(body, headers)
        assert webhook.imported and time.time() * 1000 - webhook.accepted_at_ms < 60_000
