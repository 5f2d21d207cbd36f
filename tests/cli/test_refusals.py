"""A role that is refused says so in the installation's Redis, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
import redis as redis_library

from app.settings import Settings
from app.verdicts import DEFAULT_RULES
from cli import refusals
from cli.identity import Identified, identify
from cli.refusals import CODE, tell_refused
from cli.role_configuration import RoleConfiguration
from cli.supervisor import REFUSED_S
from tables import telling as telling_module
from tables.presence import (
    REFUSED_MS,
    WORKERS,
    Presence,
    conditions_of,
    decode_presence,
    presence,
    refused_name,
)
from tables.redis_client import redis_client
from tables.redis_clock import time_ms
from tables.redis_names import sync_client
from tests.support.kafka import delete_topics
from tests.support.processes import environment, reports


@pytest.fixture
def found(kafka: str, redis_db: str, tmp_path: Path) -> Identified:
    """An installation that another host has made."""
    delete_topics(kafka)
    return identify(Settings(kafka=kafka, redis=redis_db, partitions=2, data=tmp_path / "first"))


@pytest.fixture
def client(found: Identified) -> Iterator[redis_library.Redis]:
    """Its Redis, where its API has told of itself."""
    with sync_client(found.settings.redis, found.identity.id, timeout_s=5) as client:
        said = presence(DEFAULT_RULES, 1, time_ms(client.time()), role="api")
        client.hset(WORKERS, "first:1", msgspec.json.encode(said))
        yield client


@pytest.fixture
def environ(found: Identified, tmp_path: Path) -> dict[str, str]:
    """A second host, without the secret."""
    return environment(
        tmp_path / "second", kafka=found.settings.kafka, redis=found.settings.redis, partitions="2"
    )


def all_else(client: redis_library.Redis) -> dict[str, object]:
    names = [str(cast(bytes, name).decode()) for name in client.keys("cr:*")]
    return {name: client.dump(name) for name in names if not name.endswith(":workers")}


def told(client: redis_library.Redis, role: str) -> Presence:
    stored = client.hget(WORKERS, refused_name(role))
    assert stored is not None
    return decode_presence(stored)


def test_roles_that_are_refused_say_why_and_nothing_else(
    client: redis_library.Redis, environ: dict[str, str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[orgs.acme]\ncolour = 'red'\n")
    cases: tuple[tuple[str, dict[str, str], int, str], ...] = (
        ("query", {}, 3, "this host has no secret"),
        ("normalize", {"REPORTS_SECRET": "x" * 40}, 3, "REPORTS_SECRET is not the secret of installation"),
        (
            "api",
            {"REPORTS_CONFIG": str(bad)},
            2,
            f"(in {bad}: `reports check` lists all that is wrong)",
        ),
    )
    before = all_else(client)
    with contextlib.ExitStack() as stack:
        processes = {
            role: stack.enter_context(
                reports(
                    [role],
                    environ | wrong | {"REPORTS_DATA": str(tmp_path / f"second-{role}")},
                    tmp_path / role,
                )
            )
            for role, wrong, _, _ in cases
        }
        for role, _, status, _ in cases:
            assert processes[role].wait(60) == status
    stored, now_ms = cast(dict[bytes, bytes], client.hgetall(WORKERS)), time_ms(client.time())
    assert set(stored) == {b"first:1", *(refused_name(role).encode() for role in processes)}
    for role, _, _, said in cases:
        line = (tmp_path / role).read_text().splitlines()[-1]
        assert line.startswith("reports: "), "its parent takes the last line for the reason"
        one = told(client, role)
        (condition,) = one.conditions
        assert (condition.code, one.role, condition.reason) == (CODE, role, None)
        assert said in condition.message and line.removeprefix("reports: ") in condition.message
        assert str(tmp_path / f"second-{role}") in condition.message
        assert condition in conditions_of(stored, now_ms + 2 * int(REFUSED_S * 1000))
        assert condition not in conditions_of(stored, now_ms + REFUSED_MS)
        assert not one.is_alive(now_ms)
    assert all_else(client) == before


def test_what_is_said_again_is_since_the_first_time(
    client: redis_library.Redis, environ: dict[str, str]
) -> None:
    tell_refused("query", "it has no secret", environ)
    first = told(client, "query")
    tell_refused("query", "it has another secret", environ)
    second = told(client, "query")
    assert second.conditions[0].since_ms == first.conditions[0].since_ms == first.since_ms
    assert second.at_ms > first.at_ms
    assert second.conditions[0].message.endswith(": it has another secret")
    tell_refused("query", "x" * 10_000, environ)
    assert len(told(client, "query").conditions[0].message) <= 2_000


@pytest.mark.parametrize("bad", ["[settings", "[settings]\npartitions = 'many'\n"])
def test_servers_that_reports_toml_names_are_found_where_it_is_wrong_now(
    found: Identified, client: redis_library.Redis, tmp_path: Path, bad: str
) -> None:
    """In the copy of the last one that was accepted."""
    file = tmp_path / "reports.toml"
    environ = environment(tmp_path / "second", config=str(file))
    file.write_text(f"[settings]\nkafka = '{found.settings.kafka}'\nredis = '{found.settings.redis}'\n")
    RoleConfiguration(environ, only_settings=True)
    file.write_text(bad)
    tell_refused("query", "this host has no secret", environ)
    assert "this host has no secret" in told(client, "query").conditions[0].message


def test_a_redis_where_the_installation_is_not_stays_as_it_is(
    found: Identified, environ: dict[str, str]
) -> None:
    """It may be another installation's."""
    with redis_library.Redis.from_url(found.settings.redis) as everybodys:
        everybodys.hset("cr:0123456789abcdef:workers", "theirs", "{}")
        tell_refused("query", "this host has no secret", environ)
        assert everybodys.keys() == [b"cr:0123456789abcdef:workers"]
        assert everybodys.hkeys("cr:0123456789abcdef:workers") == [b"theirs"]


@pytest.mark.parametrize(
    "wrong",
    [{"REPORTS_KAFKA": "127.0.0.1:9"}, {"REPORTS_REDIS": "redis://127.0.0.1:9/0"}, {"REPORTS_HTTP": "no"}],
)
def test_where_nobody_can_be_told_nothing_happens(
    environ: dict[str, str], wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "TELL_S", 0.2)
    tell_refused("query", "this host has no secret", environ | wrong)


async def test_a_role_that_runs_takes_it_back(
    client: redis_library.Redis, found: Identified, environ: dict[str, str]
) -> None:
    for role in ("query", "api"):
        await asyncio.to_thread(tell_refused, role, "this host has no secret", environ)
    redis = redis_client(found.settings.redis, installation=found.identity.id)
    running = presence(DEFAULT_RULES, 1, time_ms(client.time()), role="query")
    task = asyncio.create_task(telling_module.tell(redis, "second:2", lambda: running))
    async with asyncio.timeout(10):
        while b"second:2" not in client.hkeys(WORKERS):  # noqa: ASYNC110  # it is in another process
            await asyncio.sleep(0.01)
    assert set(client.hkeys(WORKERS)) == {b"first:1", b"second:2", refused_name("api").encode()}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await redis.aclose()
