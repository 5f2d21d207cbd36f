"""Keys, sessions and where they may be used from."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from api.auth import COOKIE, SESSION_S
from app.organisations import Organisations
from tests.api.serving import ORGANISATIONS, Api, bearer, serving

PATH = "/api/v1/campaigns/spring/summary"


@pytest.fixture
async def api(redis_db: str) -> AsyncIterator[Api]:
    async with serving(redis_db) as api:
        await api.worker.publish("spring", sent=3)
        yield api


async def sign_in(api: Api, key: str = "acme-read", **headers: str) -> httpx.Response:
    return await api.http.post("/session", data={"key": key}, headers=headers)


async def test_without_a_key(api: Api) -> None:
    answer = await api.http.get(PATH)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"] == "unauthorized"


@pytest.mark.parametrize(
    "header",
    [
        b"Bearer",
        b"Bearer wrong",
        b"Bearer acme-rea",
        b"Bearer acme-read x",
        b"Basic acme-read",
        b"acme-read",
        b"Bearer \xc3\xa9\xff",
        b"Bearer " + b"x" * 20_000,
    ],
)
async def test_a_wrong_key(api: Api, header: bytes) -> None:
    answer = await api.http.get(PATH, headers=[(b"Authorization", header)])
    assert answer.status_code == 401


async def test_scopes(api: Api) -> None:
    answer = await api.get("/ops/lag")
    assert (answer.status_code, answer.json()["error"]) == (403, "missing_scope")
    assert (await api.get("/ops/lag", "acme-all")).status_code == 200


@pytest.mark.parametrize("name", ["token", "access_token", "key", "API_KEY", "authorization"])
async def test_a_key_in_the_address_is_refused_even_beside_a_good_header(api: Api, name: str) -> None:
    for path in (PATH, "/api/v1/campaigns/spring/live"):
        answer = await api.get(f"{path}?{name}=acme-read")
        assert (answer.status_code, answer.json()["error"]) == (401, "credential_in_query")


async def test_another_organisations_campaign_is_not_found(api: Api) -> None:
    for end in ("summary", "timeline", "report", "live"):
        answer = await api.get(f"/api/v1/campaigns/spring/{end}", "globex-read")
        assert answer.status_code == 404


async def test_session(api: Api) -> None:
    answer = await sign_in(api)
    assert answer.json() == {
        "org": "acme",
        "name": "Acme",
        "timezone": "Europe/Berlin",
        "key": "dashboard",
        "scopes": ["read"],
    }
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(COOKIE + "=")
    for attribute in ("HttpOnly", "SameSite=lax", "Path=/", f"Max-Age={SESSION_S}"):
        assert attribute in cookie
    assert "acme-read" not in cookie
    assert (await api.http.get(PATH)).status_code == 200
    assert (await api.http.get("/session")).json()["org"] == "acme"


async def test_sign_in_with_a_wrong_key(api: Api) -> None:
    for key in ("", "wrong", "é", "x" * 3000):
        assert (await sign_in(api, key)).status_code == 401
    assert (await api.http.post("/session", data={"k": "v"})).status_code == 400
    assert (await api.http.post("/session", json={"key": "acme-read"})).status_code == 415
    assert (await sign_in(api, "x" * 10_000)).status_code == 413
    assert not api.http.cookies


async def test_sign_out_needs_our_own_page_and_ends_the_cookie(api: Api) -> None:
    await sign_in(api)
    assert (await api.http.delete("/session")).status_code == 403
    assert (await api.http.delete("/session", headers={"Origin": "https://evil.example"})).status_code == 403
    assert (await api.http.get(PATH)).status_code == 200
    assert (await api.http.delete("/session", headers={"Origin": api.address})).status_code == 204
    assert (await api.http.get(PATH)).status_code == 401


async def test_sign_in_from_a_foreign_page(api: Api) -> None:
    assert (await sign_in(api, Origin="https://evil.example")).status_code == 403
    assert (await sign_in(api, **{"Sec-Fetch-Site": "cross-site"})).status_code == 403
    assert (await sign_in(api, Origin=api.address)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        # The key has not the scope: it was asked for, so the origin was accepted.
        ({"Sec-Fetch-Site": "same-origin"}, "missing_scope"),
    ],
)
async def test_what_changes_something_needs_our_own_page(
    api: Api, headers: dict[str, str], status: int | str
) -> None:
    await sign_in(api)
    answer = await api.http.post("/api/v1/events", json={"events": []}, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"] == ("foreign_origin" if status == 403 else status)


async def test_a_stream_of_a_foreign_page_is_refused(api: Api) -> None:
    await sign_in(api)
    answer = await api.http.get("/api/v1/campaigns/spring/live", headers={"Origin": "http://127.0.0.1:1"})
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


async def test_a_forged_cookie(api: Api) -> None:
    good = (await sign_in(api)).cookies[COOKIE]
    api.http.cookies.clear()
    forged = [
        good[:-2] + "AA",
        good[:40],
        "",
        "=",
        "é".encode().decode("latin-1"),
        "A" * 5000,
        good + "A",
        good + "!",
    ]
    for value in forged:
        answer = await api.http.get(PATH, headers=[(b"Cookie", f"{COOKIE}={value}".encode("latin-1"))])
        assert answer.status_code == 401, value


async def test_a_session_ends_when_its_time_is_over(api: Api) -> None:
    await sign_in(api)
    now = api.context.clock()
    api.context.clock = lambda: now + SESSION_S + 1
    assert (await api.http.get(PATH)).status_code == 401


async def test_a_session_ends_when_its_key_is_rotated_or_removed(api: Api) -> None:
    await sign_in(api)
    acme = ORGANISATIONS.by_id["acme"]
    rotated = msgspec.structs.replace(acme.keys[0], secret=b"another")
    for keys in ((rotated,), ()):
        changed = msgspec.structs.replace(acme, keys=keys)
        api.context.organisations = msgspec.structs.replace(ORGANISATIONS, by_id={"acme": changed})
        assert (await api.http.get(PATH)).status_code == 401
    api.context.organisations = ORGANISATIONS
    assert (await api.http.get(PATH)).status_code == 200
    narrowed = msgspec.structs.replace(acme.keys[0], scopes=frozenset({"write"}))
    changed = msgspec.structs.replace(acme, keys=(narrowed,))
    api.context.organisations = msgspec.structs.replace(ORGANISATIONS, by_id={"acme": changed})
    assert (await api.http.get(PATH)).status_code == 403


async def test_a_stream_ends_when_its_key_does(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.live.RECHECK_S", 0.5)
    async with api.live("/api/v1/campaigns/spring/live") as events:
        await events.until("snapshot")
        api.context.organisations = msgspec.structs.replace(ORGANISATIONS, by_id={})
        with pytest.raises(EOFError):
            await events.until("the end", 5)


async def test_every_answer_has_the_headers(api: Api) -> None:
    for path in ("/", "/app.js", PATH, "/nothing", "/healthz"):
        answer = await api.http.get(path, headers=bearer())
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def without_its_file(name: str) -> Organisations:
    """`acme` whose key `name` is not on this host."""
    acme = ORGANISATIONS.by_id["acme"]
    keys = tuple(
        msgspec.structs.replace(key, secret=b"", absent=True) if key.name == name else key
        for key in acme.keys
    )
    return Organisations({**ORGANISATIONS.by_id, "acme": msgspec.structs.replace(acme, keys=keys)})


async def test_where_a_key_is_not_on_this_host_nobody_is_sent_away_for_good(api: Api) -> None:
    assert (await sign_in(api)).status_code == 200
    ticket = (await api.http.post("/api/v1/campaigns/spring/live/tickets", headers=bearer())).json()["ticket"]
    api.context.organisations = without_its_file("dashboard")
    for key in ("acme-read", "anybody's"):
        for answer in (await api.get(PATH, key), await sign_in(api, key)):
            assert (answer.status_code, answer.json()["error"]) == (503, "try_later")
            assert int(answer.headers["retry-after"]) > 0
    assert (await api.http.get(PATH)).status_code == 503, "its session"
    assert (await api.http.get(f"/api/v1/campaigns/spring/live?ticket={ticket}")).status_code == 503
    assert (await api.get(PATH, "acme-all")).status_code == 200, "the others"
    api.context.organisations = ORGANISATIONS
    assert (await api.http.get(PATH)).status_code == 200
    assert (await api.get(PATH, "anybody's")).status_code == 401
    api.context.organisations = without_its_file("dashboard")
    api.http.cookies.clear()
    assert (await api.http.get(PATH)).status_code == 401, "who shows no key at all"
