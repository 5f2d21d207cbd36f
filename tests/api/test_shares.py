"""Shared links over HTTP: who makes and ends them, what they show, and that an end is an end everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from api import live as live_module
from api import share_log as share_log_module
from api.app import api_routes
from api.auth import COOKIE as COOKIE_OF_SESSIONS
from api.feed import FeedKey
from api.openapi import document_of
from api.viewers import SHARE_COOKIE
from app.organisations import Organisations
from app.settings import Settings
from app.shares import COOKIE, MAX_LIVE, SHOWN_MS, bytes_of, proof, read_token, text_of
from app.times import utc_text
from tables.views import Labels
from tests.api.browser import browsing
from tests.api.reading import START_MS, event, reading
from tests.api.serving import ORGANISATIONS, PARTITIONS, SECRET, Api, Events, bearer, serving
from tests.support.kafka import fresh_topics

SPRING = "/api/v1/campaigns/spring"
SHARES = f"{SPRING}/shares"
SECTIONS = ("report", "summary", "timeline", "links", "places", "clients", "providers", "variants", "uniques")


@pytest.fixture(scope="module")
def broker(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    data = tmp_path_factory.mktemp("shares")
    fresh_topics(Settings(kafka=kafka, data=data, partitions=PARTITIONS))
    return kafka


@contextlib.asynccontextmanager
async def process(redis_url: str, kafka: str, **more: Any) -> AsyncIterator[Api]:
    """An API process that has read the shares."""
    async with serving(redis_url, kafka=kafka, **more) as api:
        await read_all(api)
        yield api


async def read_all(api: Api) -> None:
    async with asyncio.timeout(10):
        while not api.context.shares.fresh:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def api(redis_db: str, broker: str) -> AsyncIterator[Api]:
    async with process(redis_db, broker) as api:
        await api.worker.publish("spring", sent=4, opened=1, labels=Labels("Spring"))
        await api.worker.publish("summer", sent=9)
        await api.worker.publish("spring", sent=77, org="globex")
        yield api
        # The topic is the module's: what one test made is no other's.
        for campaign, org in (("spring", "acme"), ("summer", "acme"), ("spring", "globex")):
            for share in api.context.shares.of_campaign(org, campaign):
                if share.revoked_at_ms is None:
                    ended = msgspec.structs.replace(share, revoked_at_ms=1)
                    await api.context.shares.write(api.context.producer, ended)


def later(api: Api) -> str:
    return str(utc_text(int((api.context.clock() + 3_600) * 1000)))


async def make(api: Api, path: str = SHARES, key: str = "acme-all", **document: Any) -> Any:
    body = document or {"expires": later(api)}
    answer = await api.http.post(path, json=body, headers=bearer(key))
    assert answer.status_code == 201, answer.text
    return answer.json()


def token_in(link: str) -> str:
    return str(urlsplit(link).fragment)


class Guest:
    """Somebody with a link and nothing else: a browser of their own."""

    def __init__(self, api: Api) -> None:
        self.http = httpx.AsyncClient(base_url=api.address, timeout=5, trust_env=False, verify=False)
        self.path = ""

    async def open(self, token: str, **headers: str) -> httpx.Response:
        answer = await self.http.post("/api/v1/shared", json={"token": token}, headers=headers)
        if answer.status_code == 200:
            self.path = answer.json()["path"]
        return answer

    async def get(self, end: str, **headers: str) -> httpx.Response:
        return await self.http.get(f"{self.path}/{end}", headers=headers)


@contextlib.asynccontextmanager
async def guest(api: Api, link: str = "") -> AsyncIterator[Guest]:
    one = Guest(api)
    async with one.http:
        if link:
            assert (await one.open(token_in(link))).status_code == 200
        yield one


async def test_a_link_shows_one_report_and_nothing_else(api: Api) -> None:
    made = await make(api)
    assert made["url"].startswith(f"{api.address}/shared#")
    assert (made["state"], made["made_by"], made["revoked_at"]) == ("live", "all", None)
    async with guest(api) as one:
        answer = await one.open(token_in(made["url"]))
        assert answer.json() == {
            "id": made["id"],
            "path": f"/api/v1/shared/{made['id']}",
            "campaign": "spring",
            "organisation": "Acme",
            "timezone": "Europe/Berlin",
            "expires": made["expires"],
        }
        assert (await one.http.get(one.path)).json() == answer.json()
        for section in SECTIONS:
            shown = await one.get(section)
            assert shown.status_code == 200, section
            assert (shown.json()["campaign"], shown.json()["name"]) == ("spring", "Spring")
            # The numbers are those that a key sees.
            assert shown.json() == (await api.get(f"{SPRING}/{section}")).json()
        assert (await one.get("summary")).json()["summary"]["sent"] == 4
        for nothing in ("recipients", "recipients/a@example.com", "events", "exports/recipients.csv", "shares",
                        "exports/events.csv", "links/1/clickers", "live/tickets"):  # fmt: skip
            assert (await one.get(nothing)).status_code == 404, nothing
        # Neither has the browser anything to show elsewhere, nor would it count there.
        cookie = one.http.cookies.jar
        value = next(iter(cookie)).value
        for path in (SPRING + "/report", SHARES, "/api/v1/campaigns", "/api/v1/compare?campaign=spring", "/ops/lag",
                     "/api/v1/uniques?campaign=spring", "/api/v1/sources", "/session", SPRING + "/live"):  # fmt: skip
            assert (await one.http.get(path)).status_code == 401, path
            for name in (SHARE_COOKIE, "reports_session"):
                assert (await api.http.get(path, headers={"Cookie": f"{name}={value}"})).status_code == 401, (
                    path
                )
        for method in ("POST", "PUT", "DELETE"):
            assert (await one.http.request(method, one.path + "/summary")).status_code == 405


async def test_the_cookie(api: Api) -> None:
    made = await make(api)
    async with guest(api) as one:
        (cookie,) = (await one.open(token_in(made["url"]))).headers.get_list("set-cookie")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", f"path=/api/v1/shared/{made['id']}"} <= parts
    (age,) = [int(part.removeprefix("max-age=")) for part in parts if part.startswith("max-age=")]
    assert 3_500 < age <= 3_600
    assert "secure" not in parts
    api.context.settings = msgspec.structs.replace(api.context.settings, public_url="https://mail.example")
    async with guest(api) as one:
        assert "Secure" in (await one.open(token_in(made["url"]))).headers["set-cookie"]
    (listed,) = (await api.get(SHARES, "acme-all")).json()["items"]
    assert listed["url"].startswith("https://mail.example/shared#")


async def test_a_link_is_no_key_and_a_key_no_link(api: Api) -> None:
    made = await make(api)
    token = token_in(made["url"])
    for header in (bearer(token), {"Cookie": f"reports_session={token}"}):
        assert (await api.http.get(SPRING + "/report", headers=header)).status_code == 401
    path = f"/api/v1/shared/{made['id']}/report"
    claimed = read_token(token)
    assert claimed is not None
    for cookie in (token, text_of(claimed[1]), "", "x" * 43, "é"):
        sent = [(b"Cookie", f"{SHARE_COOKIE}={cookie}".encode())]
        assert (await api.http.get(path, headers=sent)).status_code == 401, cookie
    assert (await api.get(path, "acme-all")).status_code == 401, "keys don't count there"
    async with guest(api, made["url"]) as one:
        for name in ("token", "ticket", "key"):
            answer = await one.get(f"report?{name}={token}")
            assert (answer.status_code, answer.json()["error"]) == (401, "credential_in_query")
        assert (
            await one.http.post(f"/api/v1/shared?token={token}", json={"token": token})
        ).status_code == 400


async def test_forged_cut_and_swapped(api: Api) -> None:
    mine, other = await make(api), await make(api, "/api/v1/campaigns/summer/shares")
    foreign = await make(api, SHARES, "globex-read")
    tokens = [token_in(one["url"]) for one in (mine, other, foreign)]
    raws = [bytes_of(token, 48) for token in tokens]
    a, b = raws[0], raws[1]
    assert a is not None and b is not None
    cookie = proof(SECRET, api.context.shares.of_campaign("acme", "spring")[0], COOKIE)
    forged = [
        "", "x", tokens[0][:-1], tokens[0] + "A", tokens[0] + "=", tokens[0].swapcase(), tokens[0][1:],
        tokens[0] + "\n",
        text_of(a[:16] + b[16:]), text_of(b[:16] + a[16:]), text_of(bytes(48)), text_of(a[:16] + cookie),
        text_of(bytes(16) + a[16:]), "é" * 64,
    ]  # fmt: skip
    async with guest(api) as one:
        for token in forged:
            answer = await one.open(token)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized"), token
        assert not list(one.http.cookies.jar)
        for body in (b"", b"[]", b'{"token": 1}', b'{"token": "a", "b": 1}', b"\xff", b"[" * 1_000):
            assert (await one.http.post("/api/v1/shared", content=body)).status_code == 400
        assert (await one.http.post("/api/v1/shared", content=b" " * 5_000)).status_code == 413
    # One's cookie at another one's address.
    async with guest(api, mine["url"]) as one:
        (value,) = [cookie.value for cookie in one.http.cookies.jar]
        for made in (other, foreign):
            sent = {"Cookie": f"{SHARE_COOKIE}={value}"}
            path = f"/api/v1/shared/{made['id']}/report"
            assert (await api.http.get(path, headers=sent)).status_code == 401
        for path in ("0" * 32, made["id"].upper(), made["id"][:-1], "..", "%00", "x"):
            answer = await one.http.get(f"/api/v1/shared/{path}/report")
            assert answer.status_code in (401, 404), path
    async with guest(api, foreign["url"]) as one:
        assert (await one.get("summary")).json()["summary"]["sent"] == 77, "its own organisation's campaign"


async def test_two_links_and_a_session_in_one_browser(api: Api) -> None:
    first, second = await make(api), await make(api, "/api/v1/campaigns/summer/shares")
    async with guest(api) as one:
        assert (await one.http.post("/session", data={"key": "globex-read"})).status_code == 200
        paths = [(await one.open(token_in(made["url"]))).json()["path"] for made in (first, second)]
        seen = [(await one.http.get(path + "/summary")).json()["summary"]["sent"] for path in paths]
        assert seen == [4, 9]
        assert (await one.http.get(SPRING + "/summary")).json()["summary"]["sent"] == 77, "still signed in"


async def test_foreign_pages(api: Api) -> None:
    made = await make(api)
    async with guest(api) as one:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert (await one.open(token_in(made["url"]), **headers)).status_code == 403
        assert (await one.open(token_in(made["url"]), Origin=api.address)).status_code == 200
        answer = await one.get("report", Origin="https://evil.example")
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
    # Signed in by cookie: what makes and ends links must come from our own pages.
    await api.http.post("/session", data={"key": "acme-all"})
    body = {"expires": later(api)}
    assert (await api.http.post(SHARES, json=body)).status_code == 403
    assert (await api.http.delete(f"{SHARES}/{made['id']}")).status_code == 403
    own = {"Origin": api.address}
    assert (await api.http.post(SHARES, json=body, headers=own)).status_code == 201
    assert (await api.http.delete(f"{SHARES}/{made['id']}", headers=own)).status_code == 204
    api.http.cookies.clear()


async def test_scopes_and_other_organisations(api: Api) -> None:
    made = await make(api)
    one = f"{SHARES}/{made['id']}"
    assert (await api.http.post(SHARES, json={"expires": later(api)}, headers=bearer())).status_code == 403
    assert (await api.http.delete(one, headers=bearer())).status_code == 403
    for path in (SHARES, one):
        assert (await api.http.get(path)).status_code == 401
    listed = (await api.get(SHARES)).json()
    assert (listed["next"], listed["matching"]) == (None, len(listed["items"]))
    assert [item for item in listed["items"] if item["state"] == "live"] == [made | {"url": None}], (
        "whoever may only read doesn't invite others"
    )
    assert (await api.get(one)).json() == made | {"url": None}
    assert (await api.get(one, "acme-all")).json() == made
    # Another organisation, and another campaign of the same one.
    assert (await api.get(SHARES, "globex-read")).json()["items"] == []
    for path, key in ((one, "globex-read"), (f"/api/v1/campaigns/summer/shares/{made['id']}", "acme-all")):
        assert (await api.get(path, key)).status_code == 404
        assert (await api.http.delete(path, headers=bearer(key))).status_code == 404
    for share_id in ("x", "0" * 32, "%00", made["id"].upper()):
        assert (await api.get(f"{SHARES}/{share_id}", "acme-all")).status_code == 404
    assert (await api.get(one)).json()["state"] == "live"
    answer = await api.http.post(
        "/api/v1/campaigns/nothing/shares", json={"expires": later(api)}, headers=bearer("acme-all")
    )
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


BAD = [
    b"", b"{}", b"[]", b'{"expires": null}', b'{"expires": true}', b'{"expires": "tomorrow"}', b'{"expires": -1}',
    b'{"expires": "2026-12-24T18:00:00"}', b'{"expires": "2020-01-01T00:00:00Z"}', b'{"expires": 1e30}',
    b'{"expires": "9999-12-31T23:59:59-23:59"}', b'{"expires": 99999999999999999999}', b'{"expires": "x", "a": 1}',
    b'{"expires": "4000-01-01T00:00:00Z"}', b"\xff", b"[" * 2_000,
]  # fmt: skip


async def test_bad_requests(api: Api) -> None:
    for body in BAD:
        answer = await api.http.post(SHARES, content=body, headers=bearer("acme-all"))
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_share"), body
        assert "tomorrow" not in answer.text
    assert (await api.http.post(SHARES, content=b" " * 5_000, headers=bearer("acme-all"))).status_code == 413
    assert (await api.http.post(SHARES + "?x=1", json={}, headers=bearer("acme-all"))).status_code == 400


async def test_it_expires_to_the_second(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    now = api.context.clock()
    expires_ms = int((now + 60) * 1000)
    made = await make(api, expires=expires_ms)
    assert made["expires"] == utc_text(expires_ms)
    async with guest(api, made["url"]) as one:
        api.context.clock = lambda: expires_ms / 1000 - 0.002
        assert (await one.get("report")).status_code == 200
        async with one.http.stream("GET", one.path + "/live", timeout=10) as response:
            events = Events(response)
            await events.until("snapshot")
            began = time.monotonic()
            api.context.clock = lambda: expires_ms / 1000
            with pytest.raises(EOFError):
                await events.until("never")
            assert time.monotonic() - began < 4
        answer = await one.get("report")
        assert (answer.status_code, answer.json()["error"]) == (401, "link_ended")
        assert "expired" in answer.json()["message"]
        assert (await one.get("live")).status_code == 401
        assert (await one.open(token_in(made["url"]))).json()["error"] == "link_ended"
    listed = (await api.get(SHARES, "acme-all")).json()["items"]
    assert [(item["state"], item["url"]) for item in listed if item["id"] == made["id"]] == [
        ("expired", None)
    ]
    api.context.clock = lambda: (expires_ms + SHOWN_MS) / 1000
    assert (await api.get(SHARES, "acme-all")).json()["items"] == []
    assert (await api.get(f"{SHARES}/{made['id']}", "acme-all")).status_code == 404


async def test_revoked_while_streaming_in_another_process(api: Api, redis_db: str, broker: str) -> None:
    made = await make(api)
    async with process(redis_db, broker) as other, guest(other, made["url"]) as one:
        async with one.http.stream("GET", one.path + "/live", timeout=10) as response:
            events = Events(response)
            assert (await events.until("snapshot")).data["links"]["rows"] == []
            await api.worker.publish("spring", sent=5, opened=2)
            await events.until_opened(2)
            assert (
                await api.http.delete(f"{SHARES}/{made['id']}", headers=bearer("acme-all"))
            ).status_code == 204
            began = time.monotonic()
            with pytest.raises(EOFError):
                await events.until("never")
            assert time.monotonic() - began < 4
        assert (await one.get("report")).json()["error"] == "link_ended"
        text = (await other.http.get("/metrics")).text
        assert 'sse_closed_total{reason="unauthorised"} 1.0' in text
    answer = await api.http.delete(f"{SHARES}/{made['id']}", headers=bearer("acme-all"))
    assert answer.status_code == 204, "again is no error"
    item = (await api.get(f"{SHARES}/{made['id']}", "acme-all")).json()
    assert (item["state"], item["url"]) == ("revoked", None)
    assert item["revoked_at"] is not None


async def test_links_outlive_restarts_and_an_emptied_redis_and_so_do_revocations(
    api: Api, redis_db: str, broker: str
) -> None:
    held, gone = await make(api), await make(api)
    assert (await api.http.delete(f"{SHARES}/{gone['id']}", headers=bearer("acme-all"))).status_code == 204
    await api.context.redis.flushall()
    async with process(redis_db, broker, ready=False) as restarted, guest(restarted) as one:
        assert (await one.open(token_in(held["url"]))).status_code == 200
        assert (await one.get("report")).status_code == 503, "its numbers are not there yet"
        assert (await one.open(token_in(gone["url"]))).json()["error"] == "link_ended"
        await restarted.worker.ready()
        await restarted.worker.publish("spring", sent=6)
        assert (await one.get("summary")).json()["summary"]["sent"] == 6
        states = {item["id"]: item["state"] for item in (await restarted.get(SHARES)).json()["items"]}
        assert (states[held["id"]], states[gone["id"]]) == ("live", "revoked")


async def test_without_kafka_nothing_is_opened(redis_db: str) -> None:
    async with serving(redis_db) as api:
        await api.worker.publish("spring", sent=4)
        answer = await api.http.post(SHARES, json={"expires": later(api)}, headers=bearer("acme-all"))
        assert answer.status_code == 503
        for path in (SHARES, f"{SHARES}/{'0' * 32}"):
            assert (await api.get(path)).status_code == 503
        answer = await api.http.post("/api/v1/shared", json={"token": text_of(bytes(48))})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_it_names_nobody(redis_db: str, broker: str, tmp_path: Path) -> None:
    told = "https://example.com/u?e=ada%40example.com"
    async with reading(redis_db, tmp_path, kafka=broker) as one:
        await read_all(one.api)
        await one.world.count(
            event("sent", "ada@example.com", START_MS),
            event("clicked", "ada@example.com", START_MS + 1, link="https://example.com/a"),
            event("clicked", "ada@example.com", START_MS + 2, link=told),
            event("sent", "bob@example.com", START_MS),
            event("bounced", "bob@example.com", START_MS + 3, reason="<bob@example.com> unknown"),
        )
        seen = await one.get("/report")
        assert "ada@example.com" in str(seen) and "ada%40" in str(seen) and "bob@" in str(seen)
        made = await make(one.api)
        async with guest(one.api, made["url"]) as viewer:
            for section in SECTIONS:
                text = (await viewer.get(section)).text
                assert "ada" not in text and "bob" not in text and "@" not in text, section
            rows = (await viewer.get("links")).json()["links"]["rows"]
            assert [row["top_clickers"] for row in rows] == [None, None]
            assert {row["link"] for row in rows} == {
                "https://example.com/a",
                "https://example.com/u?e=(hidden)",
            }
            ids = {row["id"] for row in seen["links"]["rows"]}
            assert len(ids & {row["id"] for row in rows}) == 1, (
                "an address can't be guessed by the link's hash"
            )
            (provider,) = (await viewer.get("providers")).json()["providers"]["rows"]
            assert provider["reasons"] == {"<(hidden)> unknown": 1}
            assert (await viewer.get("report")).json()["summary"] == seen["summary"]
            # Live, beside somebody who may see all of it.
            async with (
                one.api.live(f"{SPRING}/live") as full,
                viewer.http.stream("GET", viewer.path + "/live", timeout=10) as response,
            ):
                events = Events(response)
                whole, part = await full.until("snapshot"), await events.until("snapshot")
                await one.world.count(event("clicked", "ada@example.com", START_MS + 9, link=told, number=2))
                more, change = await full.until_clicks(3), await events.until_clicks(3)
                assert "ada@" in str(whole.data) and "ada%40" in str(more.data)
                for one_event in (part, change):
                    assert "ada" not in str(one_event.data) and "@" not in str(one_event.data)
                assert "(hidden)" in str(change.data)


async def test_who_is_cut_off_from_the_log_opens_nothing_and_ends_its_streams(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make(api)
    async with guest(api, made["url"]) as one:
        async with one.http.stream("GET", one.path + "/live", timeout=10) as response:
            events = Events(response)
            await events.until("snapshot")
            assert "\nshares_fresh 1.0\n" in (await api.http.get("/metrics")).text
            # As if the topic had not been heard of for so long.
            monkeypatch.setattr(share_log_module, "FRESH_S", -1.0)
            assert "\nshares_fresh 0.0\n" in (await api.http.get("/metrics")).text
            with pytest.raises(EOFError):
                await events.until("never")
        answer = await one.get("report")
        assert (answer.status_code, answer.json()["error"]) == (503, "try_later")
        monkeypatch.undo()
        assert (await one.get("report")).status_code == 200


async def test_a_topic_made_anew_has_no_links(api: Api, broker: str, tmp_path: Path) -> None:
    made = await make(api)
    fresh_topics(Settings(kafka=broker, data=tmp_path, partitions=PARTITIONS))
    async with guest(api) as one, asyncio.timeout(20):
        while (answer := await one.open(token_in(made["url"]))).json().get("error") != "unauthorized":
            assert answer.status_code in (200, 503)
            await asyncio.sleep(0.1)
        assert answer.status_code == 401


async def test_an_organisation_that_is_gone(api: Api) -> None:
    made = await make(api)
    async with guest(api, made["url"]) as one:
        api.context.organisations = Organisations({"globex": ORGANISATIONS.by_id["globex"]})
        assert (await one.get("report")).status_code == 401
        api.context.organisations = ORGANISATIONS
        assert (await one.get("report")).status_code == 200


async def test_a_bound_on_links(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.shares.MAX_LIVE", 2)
    assert MAX_LIVE == 100
    made = [await make(api) for _ in range(2)]
    body = {"expires": later(api)}
    answer = await api.http.post(SHARES, json=body, headers=bearer("acme-all"))
    assert (answer.status_code, answer.json()["error"]) == (409, "too_many_shares")
    await api.http.delete(f"{SHARES}/{made[0]['id']}", headers=bearer("acme-all"))
    assert (await api.http.post(SHARES, json=body, headers=bearer("acme-all"))).status_code == 201
    monkeypatch.setattr("api.shares.MAX_LIVE", 100)
    monkeypatch.setattr("api.shares.MAX_KNOWN", len((await api.get(SHARES)).json()["items"]))
    answer = await api.http.post(SHARES, json=body, headers=bearer("acme-all"))
    assert (answer.status_code, answer.json()["error"]) == (409, "too_many_shares")


def test_what_is_shared_has_a_feed_of_its_own() -> None:
    seen = {FeedKey("all", "UTC", frozenset(), shared) for shared in (False, True)}
    assert len(seen) == 2, "bytes made for a key's holder never reach a link's"
    assert live_module.SHARED_RECHECK_S <= 2


OPEN_IT = """
(async () => {
  const answer = await fetch("/api/v1/shared", {
    method: "POST", body: JSON.stringify({token: location.hash.slice(1)}),
  });
  const {path} = await answer.json();
  window.seen = [];
  window.source = new EventSource(path + "/live?sections=summary");
  for (const name of ["snapshot", "change"])
    source.addEventListener(name, event => seen.push(JSON.parse(event.data).summary.opened));
  const others = await Promise.all(["report", "recipients"].map(end => fetch(path + "/" + end)));
  return [document.cookie, ...others.map(one => one.status), (await fetch("/api/v1/campaigns")).status];
})()
"""


async def test_a_browser_opens_it_and_watches(api: Api, tmp_path: Path) -> None:
    made = await make(api)
    async with browsing(tmp_path) as tab:
        # Any of our addresses does for a page here: what counts is what the browser sends where.
        await tab.open(f"{api.address}/healthz#{token_in(made['url'])}")
        assert await tab.run(OPEN_IT) == ["", 200, 404, 401], "no script sees the cookie, nobody else gets it"
        await tab.until("seen.length === 1 && seen[0] === 1")
        await api.worker.publish("spring", sent=5, opened=3)
        await tab.until("seen.at(-1) === 3")
        await api.http.delete(f"{SHARES}/{made['id']}", headers=bearer("acme-all"))
        # It ends, comes back by itself once, is refused, and then stays closed.
        await tab.until("source.readyState === EventSource.CLOSED", 15)


def test_the_api_s_description_names_the_cookies_and_the_ticket() -> None:
    document = document_of(api_routes())
    schemes = document["components"]["securitySchemes"]
    assert (schemes["share"]["name"], schemes["session"]["name"]) == (SHARE_COOKIE, COOKIE_OF_SESSIONS)
    named = {
        path: [one["name"] for one in document["paths"][path]["get"]["parameters"]]
        for path in ("/api/v1/campaigns/{campaign}/live", "/api/v1/shared/{share}/live")
    }
    assert ["ticket" in names for names in named.values()] == [True, False]
    below = {
        path.rpartition("/")[2] for path in document["paths"] if path.startswith("/api/v1/shared/{share}/")
    }
    assert below == {*SECTIONS, "live"}, "nothing else has an address below a shared link"
