"""`reports dead` and `reports import`: what they print, and that what they send is counted, once."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dead import Selection, printable
from app.settings import Settings
from app.topics import WEBHOOKS, WEBHOOKS_PARTITIONS, webhook_of
from cli.dead import shown_lines
from cli.main import run
from cli.moments import moment_ms
from cli.traffic.esps.sendgrid import Signer
from tables.dead_letters import DeadLetters
from tests.support.dead import RECEIVED_MS, bury, webhook
from tests.support.intake import stored
from tests.support.kafka import fresh_topics
from tests.support.stack import Stack


@given(st.binary(max_size=300))
def test_nothing_of_a_body_reaches_the_terminal_as_a_control(body: bytes) -> None:
    for line in shown_lines(body):
        assert line.isprintable()


def test_what_is_shown() -> None:
    assert list(shown_lines(b'{"a": "\xc3\xa4"}\n\x1b[2J\xff\r')) == ['{"a": "ä"}', "\\x1b[2J\\xff\\r"]
    assert printable("a\u202eb") == "a\\u202eb"
    long = list(shown_lines(b"x" * 1_000_000))
    assert len(long[0]) == 64 * 1024 and "1000000 bytes" in long[1]


def test_times() -> None:
    now_ms = 1_790_000_000_000
    assert moment_ms("90m", now_ms) == now_ms - 5_400_000
    assert moment_ms("2026-09-21T14:13:20Z", 0) == moment_ms("2026-09-21T14:13:20", 0) == now_ms
    with pytest.raises(ValueError, match="yesterday"):
        moment_ms("yesterday", 0)


@pytest.fixture
def topic(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    fresh_topics(Settings(kafka=kafka))
    (tmp_path / "reports.toml").write_text("")
    for name, value in (
        ("KAFKA", kafka),
        ("DATA", str(tmp_path)),
        ("CONFIG", str(tmp_path / "reports.toml")),
    ):
        monkeypatch.setenv(f"REPORTS_{name}", value)
    return kafka


def test_the_commands(topic: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    def said(*arguments: str, status: int = 0) -> str:
        assert run(["dead", *arguments]) == status
        out, err = capfdbinary.readouterr()
        return (out + err).decode()

    assert len(said("list").splitlines()) == 1
    bury(
        topic,
        (webhook(b'{"email": "a@example.com\x1b"}'), "no type"),
        (webhook(b"2", source="app", esp="generic"), "not JSON"),
        (webhook(b"3", org="globex"), "not JSON"),
        (webhook(b"4", org=""), "not a webhook record"),
    )
    lines = said("list").splitlines()
    assert [line.split()[0] for line in lines] == ["ID", "3", "2", "1", "0"]
    assert "a@example.com" not in "".join(lines)
    assert [line.split()[0] for line in said("list", "--reason", "not JSON", "--limit", "1").splitlines()] == [
        "ID", "2", "there",
    ]  # fmt: skip
    assert len(said("list", "--source", "acme/app", "--since", "1h").splitlines()) == 2
    assert len(said("list", "--until", "1h").splitlines()) == 1
    shown = said("show", "0")
    assert "reason: no type\n" in shown and '\n  {"email": "a@example.com\\x1b"}\n' in shown
    assert said("show", "0", "--raw") == '{"email": "a@example.com\x1b"}'
    assert "no dead letter 77" in said("show", "77", status=1)
    for wrong in ((), ("1", "--reason", "x"), ("1", "2", "--body", str(tmp_path / "reports.toml"))):
        said("replay", *wrong, status=2)

    assert "2 letters would be replayed" in said("replay", "--reason", "not JSON", "--dry-run")
    assert stored(topic, WEBHOOKS, WEBHOOKS_PARTITIONS) == []
    assert "2 letters replayed" in said("replay", "--reason", "not JSON")
    again = said("replay", "--reason", "not JSON")
    assert "2 were replayed before" in again and "0 letters replayed" in again
    assert "2 letters replayed" in said("replay", "--reason", "not JSON", "--again")
    assert "2 was replayed before" in said("replay", "2")
    mended = tmp_path / "mended"
    mended.write_bytes(b"[]")
    assert "1 letter replayed" in said("replay", "0", "--body", str(mended))
    assert "reports import" in said("replay", "3", "99", status=1)
    assert [line.endswith("(replayed)") for line in said("list").splitlines()] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert "replayed: yes" in said("show", "0")
    records = stored(topic, WEBHOOKS, WEBHOOKS_PARTITIONS)
    bodies = sorted((webhook_of(value, headers).org, value) for _, value, headers in records)
    assert bodies == [("acme", b"2"), ("acme", b"2"), ("acme", b"[]"), ("globex", b"3"), ("globex", b"3"),
                      ("globex", b"3")]  # fmt: skip
    assert all(dict(headers)["received_at_ms"] == b"%d" % RECEIVED_MS for _, _, headers in records)


def test_thousands_of_letters(topic: str) -> None:
    count = 7_000
    bury(topic, *((webhook(b"%d" % number), ("x", "y")[number % 2]) for number in range(count)))
    assert run(["dead", "replay", "--reason", "x"]) == 0
    with DeadLetters(topic) as letters:
        assert letters.choose(Selection(), again=False)[1] == count // 2
        chosen, left_out = letters.choose(Selection(reason="x"), again=True)
        assert (len(chosen), left_out) == (count // 2, 0)
        assert [letter.id for letter in letters.letters(chosen)] == list(range(0, count, 2))
    records = stored(topic, WEBHOOKS, WEBHOOKS_PARTITIONS)
    assert sorted(int(value) for _, value, _ in records) == list(range(0, count, 2))


OPEN = {"email": "a@example.com", "event": "open", "timestamp": 1_790_000_000, "campaign_id": "mended"}


def test_from_poison_to_the_report(tmp_path: Path) -> None:
    """Poison in, found, mended, replayed twice; saved bodies imported twice: each counts once."""
    with Stack(tmp_path / "stack") as stack:
        stack.start_all()
        broken = {**OPEN, "email": 7}
        good = {**OPEN, "email": "b@example.com"}
        body = json.dumps([good, broken]).encode()
        signer = Signer((stack.data / "keys" / "acme-news.key").read_bytes())
        headers = signer.headers(body, int(time.time()))
        url = f"{stack.url}/webhooks/acme/news"
        assert (
            httpx.post(url, content=body, headers=headers, trust_env=False, verify=False).status_code == 200
        )

        def opened(expected: int) -> None:
            stack.wait_for(
                lambda: stack.summary("mended").get("opened") == expected, 30, f"{expected} opened"
            )

        def settled() -> None:
            stack.wait_for(
                lambda: stack.get("/ops/lag", key=stack.key()).json()["lag_ms"] == 0, 30, "everything counted"
            )

        opened(1)
        (letter,) = stack.get("/ops/dead", key=stack.key()).json()["items"]
        assert stack.get("/ops/dead", key=stack.key("globex")).json()["items"] == []
        assert f"{letter['id']}  " in stack.run("dead", "list").stdout
        assert '"email":7' in stack.run("dead", "show", str(letter["id"])).stdout

        mended = tmp_path / "mended.json"
        mended.write_text(json.dumps([OPEN]))
        for _ in range(2):
            done = stack.run("dead", "replay", str(letter["id"]), "--body", str(mended))
            assert done.returncode == 0, done.stdout
            opened(2)
        assert "replayed before" in done.stdout
        done = stack.run("dead", "replay", "--reason", str(letter["reason"]))
        assert "0 letters replayed" in done.stdout
        settled()
        assert stack.summary("mended")["total_opens"] == 2

        saved = tmp_path / "saved.jsonl"
        events = [{**OPEN, "email": f"p{number}@example.com"} for number in range(50)]
        lines = [{"body": [event], "received_at": "2026-09-22T00:00:00Z"} for event in events]
        saved.write_text("".join(json.dumps(line) + "\n" for line in lines))
        for _ in range(2):
            done = stack.run("import", "news", str(saved))
            assert done.returncode == 0, done.stdout
            opened(52)
            settled()
        assert stack.summary("mended")["total_opens"] == 52
        # What came months ago has waited only since it was imported.
        assert stack.get("/ops/lag", key=stack.key()).json()["delay"]["p99_ms"] < 60_000

        # The same of a compressed webhook, with an event that is kept compressed.
        long = {**OPEN, "email": 8, "note": "x" * 40_000}
        body = gzip.compress(json.dumps([{**OPEN, "email": "c@example.com"}, long]).encode())
        headers = signer.headers(body, int(time.time())) | {"Content-Encoding": "gzip"}
        assert (
            httpx.post(url, content=body, headers=headers, trust_env=False, verify=False).status_code == 200
        )
        opened(53)
        first = stack.get("/ops/dead", key=stack.key()).json()["items"][0]
        number = str(first["id"])
        assert first["size"] < 1_000
        document = stack.get(f"/ops/dead/{number}", key=stack.key()).json()
        assert json.loads(document["body"])[0]["email"] == 8 and document["encoding"] is None
        assert "header content-encoding: gzip" in stack.run("dead", "show", number).stdout
        assert stack.run("dead", "show", number, "--raw").stdout == document["body"]
        assert stack.run("dead", "replay", number).returncode == 0
        stack.wait_for(
            lambda: stack.get("/ops/lag", key=stack.key()).json()["dead_letters"] == 3, 30, "its death"
        )
        again = stack.get("/ops/dead", key=stack.key()).json()["items"][0]
        assert (again["replay_of"], again["size"]) == (first["id"], first["size"])
        assert f"replay of: {number}\n" in stack.run("dead", "show", str(again["id"])).stdout
        mended.write_text(document["body"].replace(":8", ':"d@example.com"'))
        assert stack.run("dead", "replay", str(again["id"]), "--body", str(mended)).returncode == 0
        opened(54)
        settled()
        assert stack.summary("mended")["total_opens"] == 54

        news, _ = stack.get("/api/v1/sources", key=stack.key()).json()["sources"]
        assert (news["source"], news["counts"]["accepted"]) == ("news", 2)
        assert news["last_event_at"] and news["silent"] is False
        assert stack.run("reconcile").returncode == 0
