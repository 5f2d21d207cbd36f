"""Real servers for every test that wants them: one Kafka node and one Redis for the whole run, on free ports.

`kafka` is its bootstrap address, `redis_url` its URL, `redis_db` the same with nothing in it.

What uses servers or looks at a clock has the mark `alone`. Such tests wait for most of the time, so `make test` runs
two of their modules at once, each process with servers of its own, and the rest beside them at the lowest priority.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, settings

from app.settings import Settings
from cli import own_kafka, own_redis
from cli.addresses import read_address

# Hypothesis' own limits are on time, and a busy machine is no finding.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

PURE = ("tests/app/", "tests/tables/", "tests/test_imports.py", "tests/test_docs_esps.py")
SERVERS = {"kafka", "redis_url", "redis_db", "stack"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before pytest itself looks which marks are asked for."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if SERVERS & fixtures or not item.nodeid.startswith(PURE):
            item.add_marker("alone")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a real node. Its topics are shared: see `tests.support.kafka.fresh_topics`."""
    data = tmp_path_factory.mktemp("kafka")
    server = own_kafka.start(Settings(data=data), print)
    yield read_address(data, "kafka")
    server.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real server, shared by all tests."""
    data = tmp_path_factory.mktemp("redis")
    server = own_redis.start(Settings(data=data), print)
    yield read_address(data, "redis")
    server.stop()


@pytest.fixture
def redis_db(redis_url: str) -> str:
    """URL of the same server, emptied."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url
