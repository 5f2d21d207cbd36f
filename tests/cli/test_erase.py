"""Erasing on a running stack: the person is nowhere any more, every number stays, and nothing brings them back."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from cli.config import load_configuration
from cli.erase import org_of
from cli.main import run
from tables.reading import PartitionReader
from tables.redis_names import sync_client
from tests.support.stack import TWO_ORGS, Stack

GONE, STAYS, LATER = "Gone.Person@example.com", "stays@example.com", "late@example.com"
CAMPAIGNS = ("spring", "autumn/2026")
SECTIONS = ("summary", "timeline", "links", "places", "clients", "providers", "variants")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("erase") / "stack") as running:
        running.start_servers()
        running.start("api")
        running.start("normalize")
        running.start("run", "aggregate")
        running.start("query")
        running.wait_ready()
        yield running


def mailing(address: str, campaign: str, *, reason: str | None = None) -> list[dict[str, object]]:
    """Everything that could say who it was: links and reasons with the address in them, too."""

    def one(kind: str, at: str, **more: object) -> dict[str, object]:
        return {"type": kind, "campaign": campaign, "recipient": address, "at": f"2026-11-01T10:{at}Z"} | more

    return [
        one("sent", "00:00", id=f"{campaign}/{address}/1", metadata={"mail": address}, tags=[address]),
        one("delivered", "00:10", provider="Gmail", ip="192.0.2.77", variant={"subject": "A"}),
        one("opened", "05:00", ip="192.0.2.77", country="DE", city="Berlin", user_agent=f"Reader of {address}"),
        one("clicked", "06:00", link="https://example.com/shared", position=1),
        one("clicked", "07:00", link=f"https://example.com/?who={quote(address)}"),
        one("bounced", "08:00", bounce="soft", reason=reason or f"mailbox of {address} is full"),
    ]  # fmt: skip


def report(stack: Stack, campaign: str, org: str = "acme") -> dict[str, Any]:
    path = f"/api/v1/campaigns/{quote(campaign, safe='')}/report"
    answer = stack.get(path, key=stack.key(org))
    document: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    return {name: document.get(name) for name in (*SECTIONS, "lag_ms")}


def whole(stack: Stack, campaign: str, org: str = "acme") -> dict[str, Any]:
    """The report when its rows are those of its summary, with its top clickers: they are null while no query process
    has caught up with the numbers."""
    found: dict[str, Any] = {}

    def told() -> bool:
        document = report(stack, campaign, org)
        if document.pop("lag_ms"):
            return False
        found.update(document)
        rows = found["links"]["rows"] if found["links"] else [{"top_clickers": None}]
        return all(row["top_clickers"] is not None for row in rows)

    stack.wait_for(told, 30, "the top clickers")
    return found


def without_names(document: dict[str, Any]) -> dict[str, Any]:
    """The report without what says who: addresses of clickers, names and ids of links and reasons of one person."""
    text = json.dumps(document["links"]["rows"])
    kept = json.loads(text)
    for row in kept:
        if row["link"] != "https://example.com/shared":
            del row["link"]
        row["top_clickers"] = len(row["top_clickers"])
    providers = [row | {"reasons": sorted(row["reasons"].values())} for row in document["providers"]["rows"]]
    return document | {"links": sorted(kept, key=lambda row: str(row["id"])), "providers": providers}


def items(stack: Stack, campaign: str, what: str, org: str = "acme") -> list[dict[str, Any]]:
    path = f"/api/v1/campaigns/{quote(campaign, safe='')}/{what}"
    answer = stack.get(path, key=stack.key(org), limit="500")
    found: list[dict[str, Any]] = answer.json()["items"] if answer.status_code == 200 else []
    return found


def everything(stack: Stack) -> list[tuple[str, bytes]]:
    """(where it stands, bytes) of all that the databases and Redis hold, sections unpacked."""
    found: list[tuple[str, bytes]] = []
    for path in sorted((stack.data / "state").glob("p[0-9]*")):
        with PartitionReader(path) as reader:
            found += [
                (f"{path.name} {family}", name + b"\0" + value) for family, name, value in reader.everything()
            ]
    with sync_client(stack.redis_url, "", timeout_s=5) as redis:
        for key in redis.keys("*"):
            kind = redis.type(key)
            if kind == b"hash":
                for field, value in redis.hgetall(key).items():
                    found.append((key.decode(), field + b"\0" + unpacked(value)))
            elif kind == b"zset":
                found += [(key.decode(), member) for member in redis.zrange(key, 0, -1)]
            elif kind == b"string":
                found.append((key.decode(), redis.get(key) or b""))
    return found


def unpacked(value: bytes) -> bytes:
    return zlib.decompress(value) if value[:1] == b"\x78" else value


def holders(stack: Stack, address: str) -> set[str]:
    """Where an address stands, as it is or encoded in a link."""
    wanted = {spelled.lower().encode() for spelled in (address, quote(address))}
    return {where for where, data in everything(stack) if any(one in data.lower() for one in wanted)}


def post(stack: Stack, events: list[dict[str, object]], org: str = "acme") -> None:
    answer = stack.post_events(events, org)
    assert (answer.status_code, answer.json()["refused"]) == (200, [])


def settled(stack: Stack) -> None:
    """Everything that was accepted is counted and published."""

    def quiet() -> bool:
        lag = stack.get("/ops/lag", key=stack.key()).json()
        return bool(lag["lag_ms"] == 0 and not lag["stale"])

    stack.wait_for(quiet, 30, "no lag")
    stack.wait_for(lambda: stack.run("lag").returncode == 0 and quiet(), 30, "no lag")


def erase(stack: Stack, address: str, org: str = "acme") -> httpx.Response:
    return httpx.post(
        f"{stack.url}/api/v1/erasures",
        json={"recipient": address},
        headers={"authorization": f"Bearer {stack.key(org)}"},
        timeout=10,
        trust_env=False,
        verify=False,
    )


def test_nowhere_any_more_and_every_number_as_before(stack: Stack) -> None:
    for campaign in CAMPAIGNS:
        for address in (GONE, STAYS):
            post(stack, mailing(address, campaign))
        post(stack, mailing(GONE, campaign), "globex")
    post(stack, mailing(STAYS, "without them"))
    settled(stack)
    before = {campaign: whole(stack, campaign) for campaign in CAMPAIGNS}
    theirs = {campaign: whole(stack, campaign, "globex") for campaign in CAMPAIGNS}
    assert before["spring"]["summary"]["sent"] == 2
    where = holders(stack, GONE)
    assert any(":sections:" in name for name in where)
    assert {name.split()[1] for name in where if " " in name} == {"default", "recipients", "log", "index"}
    listed = items(stack, "without them", "recipients")

    answer = erase(stack, "gone.person@EXAMPLE.com ")
    assert (answer.status_code, answer.json()) == (200, {"campaigns": 3})

    def forgotten() -> bool:
        return all(
            {item["recipient"] for item in items(stack, campaign, "recipients")} == {STAYS, None}
            for campaign in CAMPAIGNS
        )

    stack.wait_for(forgotten, 15, "the erasure")
    settled(stack)
    for campaign in CAMPAIGNS:
        assert without_names(whole(stack, campaign)) == without_names(before[campaign])
        assert {item["recipient"] for item in items(stack, campaign, "events")} == {STAYS, None}
        path = f"/api/v1/campaigns/{quote(campaign, safe='')}/recipients/{GONE}"
        assert stack.get(path, key=stack.key()).status_code == 404
        assert whole(stack, campaign, "globex") == theirs[campaign]
        assert [item["recipient"] for item in items(stack, campaign, "recipients", "globex")] == [GONE]
    assert items(stack, "without them", "recipients") == listed
    assert stack.summary("without them")["sent"] == 1
    reconciled = stack.run("reconcile")
    assert reconciled.returncode == 0, reconciled.stdout


def test_the_other_organisation_forgets_them_too_and_then_nothing_holds_the_address(stack: Stack) -> None:
    done = stack.run("erase", GONE, "--org", "globex")
    assert (done.returncode, "the erasure is stored for 2 campaigns of globex" in done.stdout) == (0, True), (
        done.stdout
    )
    assert GONE not in done.stdout
    stack.wait_for(lambda: not holders(stack, GONE), 15, "that the address is nowhere")
    assert holders(stack, STAYS)
    for log in stack.folder.glob("*.log"):
        assert GONE.lower() not in log.read_text(errors="replace").lower(), log


def test_a_resend_an_import_and_a_rebuild_bring_nothing_back(stack: Stack, tmp_path: Path) -> None:
    before = {campaign: whole(stack, campaign) for campaign in CAMPAIGNS}
    for campaign in CAMPAIGNS:
        post(stack, mailing(GONE, campaign))
    saved = tmp_path / "saved.jsonl"
    body = {"events": mailing(GONE, "spring") + mailing(GONE, "autumn/2026")}
    saved.write_text(json.dumps({"body": body, "headers": {"content-type": "application/json"}}) + "\n")
    done = stack.run("import", "acme/app", str(saved))
    assert done.returncode == 0, done.stdout
    settled(stack)
    assert {campaign: whole(stack, campaign) for campaign in CAMPAIGNS} == before
    assert not holders(stack, GONE)
    # What is new of them is counted, and is nobody's.
    late: dict[str, object] = {
        "type": "opened", "campaign": "spring", "recipient": GONE, "at": "2026-11-02T10:00:00Z", "ip": "192.0.2.77",
    }  # fmt: skip
    post(stack, [late])
    opens = before["spring"]["summary"]["total_opens"]
    stack.wait_for(lambda: stack.summary("spring").get("total_opens") == opens + 1, 15, "the late open")
    settled(stack)
    assert not holders(stack, GONE)
    now = {campaign: whole(stack, campaign) for campaign in CAMPAIGNS}
    for arguments in ((), ("--from-log",)):
        rebuilt = stack.run("rebuild", *arguments)
        assert rebuilt.returncode == 0, rebuilt.stdout
        settled(stack)
        assert {campaign: without_names(whole(stack, campaign)) for campaign in CAMPAIGNS} == {
            campaign: without_names(now[campaign]) for campaign in CAMPAIGNS
        }
        assert not holders(stack, GONE)
        reconciled = stack.run("reconcile")
        assert reconciled.returncode == 0, reconciled.stdout


def test_erased_before_their_first_event(stack: Stack) -> None:
    """In a campaign that is known: what comes later is nobody's from the beginning."""
    before = stack.summary("spring")["sent"]
    assert erase(stack, LATER).status_code == 200
    post(stack, mailing(LATER, "spring"))
    assert isinstance(before, int)
    stack.wait_for(lambda: stack.summary("spring").get("sent") == before + 1, 15, "the late mailing")
    settled(stack)
    assert not holders(stack, LATER)


def test_what_the_command_says_when_it_cannot(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in stack.environ.items():
        if name.startswith("REPORTS_"):
            monkeypatch.setenv(name, value)

    def said(*arguments: str, status: int) -> str:
        assert run(["erase", *arguments]) == status
        out, err = capsys.readouterr()
        text = out + err
        assert "nobody" not in text
        return " ".join(text.replace("│", " ").split())

    assert "--org, one of acme, globex" in said("nobody@example.com", status=2)
    assert "there is no organisation initech" in said("nobody@example.com", "--org", "initech", status=2)
    assert "ADDRESS: longer than 320 characters" in said("nobody" * 100, "--org", "acme", status=2)
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert "ADDRESS: is empty" in said("-", "--org", "acme", status=2)
    monkeypatch.setenv("REPORTS_SECRET", "another secret than the stack has")
    assert "REPORTS_SECRET is not the secret of installation" in said(
        "nobody@example.com", "--org", "acme", status=3
    )
    monkeypatch.delenv("REPORTS_SECRET")
    monkeypatch.setenv("REPORTS_PARTITIONS", "7")
    assert "REPORTS_PARTITIONS=8" in said("nobody@example.com", "--org", "acme", status=3)
    monkeypatch.setenv("REPORTS_PARTITIONS", "9")
    assert "REPORTS_PARTITIONS=8" in said("nobody@example.com", "--org", "acme", status=3)
    monkeypatch.delenv("REPORTS_PARTITIONS")
    monkeypatch.setenv("REPORTS_REDIS", "redis://127.0.0.1:9/0")
    assert "the campaigns can't be read: Redis at 127.0.0.1:9" in said(
        "nobody@example.com", "--org", "acme", status=3
    )


def test_one_organisation_needs_no_name(tmp_path: Path) -> None:
    config = tmp_path / "reports.toml"
    config.write_text(TWO_ORGS.partition("[orgs.globex]")[0])
    environ = {"REPORTS_CONFIG": str(config), "REPORTS_DATA": str(tmp_path)}
    assert org_of(load_configuration(environ)[1], None) == "acme"
