"""A worker's databases and a query process beside them, in this process: real RocksDB, real Redis, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from redis.asyncio import Redis

from agents.publish import Publisher
from api.query.announcer import Announcer
from api.query.partitions import Partitions
from api.query.server import QueryServer
from app import facts as f
from app import keys
from app.facts import Detail, Entry, ErasedRecord, Fact, FactsRecord, RecipientKey, encode
from app.user_agents import agent_id
from cli.query import url_of
from tables.background import Background
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.redis_client import redis_client
from tables.redis_clock import RedisClock
from tables.view_writer import ViewWriter
from tables.views import PARTITIONS as POSITIONS
from tables.views import SECTION_PARTITIONS
from tests.api.serving import NO_KAFKA, PARTITIONS, SECRET, Api, free_socket, serving

START_MS = 1_790_000_000_000
MINUTE_MS = 60_000
WORD = "thisfolder"
FINGERPRINT = keys.secret_fingerprint(SECRET)


def recipient_of(address: str, campaign: str = "spring", org: str = "acme") -> RecipientKey:
    key = keys.campaign_key(SECRET, org, campaign)
    return keys.recipient_key(SECRET, key, keys.normalise_address(address))


def event(
    kind: str,
    address: str,
    at_ms: int,
    *,
    campaign: str = "spring",
    org: str = "acme",
    evidence: int = 0,
    number: int = 0,
    link: str | None = None,
    country: str | None = None,
    client: str | None = None,
    variant: dict[str, str] | None = None,
    reason: str | None = None,
) -> Entry:
    """An entry as normalize makes it; `number` tells facts apart that are otherwise equal."""
    recipient = recipient_of(address, campaign, org)
    detail = Detail(
        "generic", link=link, country=country, client=client, variant=variant, reason=reason, ip="192.0.2.1"
    )
    fact = Fact(
        keys.identity(recipient, f.TYPE_NUMBERS[kind], str(at_ms), str(number), link or ""),
        at_ms,
        f.TYPE_NUMBERS[kind],
        evidence,
        keys.content_id(encode(detail)),
        link=keys.text_id(link) if link else 0,
        place=keys.text_id(f"{country}\0") if country else 0,
        agent=agent_id(client, None, None, None) if client else 0,
        network=7,
        reason=keys.text_id(reason) if reason else 0,
        variant=keys.text_id("\0".join(f"{k}={v}" for k, v in variant.items())) if variant else 0,
    )
    return Entry(recipient, address, fact, encode(detail))


class World:
    """The worker: counts what it is given and publishes it."""

    def __init__(self, state: Path, redis_url: str) -> None:
        self.state = state
        (state / "slots").mkdir(parents=True, exist_ok=True)
        (state / "slots" / "id").write_text(WORD)
        self.redis: Redis = redis_client(redis_url, timeout_s=5)
        self.publisher = Publisher(ViewWriter(self.redis), f"{WORD}-0")
        self.databases = {partition: self.open(partition) for partition in range(PARTITIONS)}
        self._task = asyncio.create_task(self.publisher.run())

    def open(self, partition: int, generation: int = 1) -> PartitionDatabase:
        meta = Meta(LAYOUT_VERSION, partition, PARTITIONS, "topic", FINGERPRINT, generation)
        database = PartitionDatabase(self.state / f"p{partition}", meta, SECRET, RecipientCache(100))
        self.publisher.add(database)
        return database

    def write(self, entries: Sequence[Entry], campaign: str = "spring", org: str = "acme") -> None:
        """Counted at once, published in a moment."""
        for partition, database in self.databases.items():
            own = [one for one in entries if keys.recipient_partition(one.recipient, PARTITIONS) == partition]
            if own:
                self._apply(
                    partition,
                    database,
                    FactsRecord(f.FACTS_VERSION, org, campaign, START_MS, own, FINGERPRINT),
                )

    def erase(self, address: str, campaign: str = "spring", org: str = "acme") -> None:
        record = ErasedRecord(
            f.FACTS_VERSION, org, campaign, START_MS, [recipient_of(address, campaign, org)], FINGERPRINT
        )
        for partition, database in self.databases.items():
            self._apply(partition, database, record)

    def _apply(self, partition: int, database: PartitionDatabase, record: f.LogRecord) -> None:
        self.publisher.mark(partition, database.apply([(database.next_offset, encode(record))]))

    async def published(self) -> None:
        """Waits until Redis has everything."""
        async with asyncio.timeout(10):
            for name in (POSITIONS, SECTION_PARTITIONS):
                while True:
                    stored: dict[bytes, bytes] = await self.redis.hgetall(name)  # type: ignore[assignment]
                    if all(
                        stored.get(str(p).encode()) == f"{one.generation}:{one.next_offset}:topic".encode()
                        for p, one in self.databases.items()
                    ):
                        break
                    await asyncio.sleep(0.01)

    async def count(self, *entries: Entry, campaign: str = "spring", org: str = "acme") -> None:
        self.write(entries, campaign, org)
        await self.published()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for database in self.databases.values():
            database.close()
        await self.redis.aclose()


class Process:
    """A query process."""

    def __init__(self, url: str, partitions: Partitions, announcer: Announcer) -> None:
        self.url = url
        self.partitions = partitions
        self.announcer = announcer


@contextlib.asynccontextmanager
async def query_process(state: Path, redis_url: str, *, secret: bytes = SECRET) -> AsyncIterator[Process]:
    """It has announced what it can read when the context is entered."""
    partitions = Partitions(state, secret)
    queries = QueryServer(partitions, secret)
    redis = redis_client(redis_url, timeout_s=5)
    with free_socket() as sock:
        server = uvicorn.Server(
            uvicorn.Config(
                queries.app(), http="httptools", ws="none", lifespan="off", access_log=False, log_config=None,
                timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        serving_task = asyncio.create_task(server._serve([sock]))
        url = url_of(sock)
        announcer = Announcer(redis, partitions, state, url, clock=RedisClock())
        announcing = Background().task("announcer", announcer.run)
        try:
            async with asyncio.timeout(10):
                while not (server.started and announcer.announced):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            yield Process(url, partitions, announcer)
        finally:
            announcing.cancel()
            await asyncio.gather(announcing, return_exceptions=True)
            await announcer.stop()
            server.should_exit = True
            await asyncio.wait_for(serving_task, 10)
            await redis.aclose()
            await queries.close()
            partitions.close()


class Reading:
    """All of it, and an API that asks."""

    def __init__(self, api: Api, world: World, process: Process) -> None:
        self.api, self.world, self.process = api, world, process

    async def get(self, path: str, secret: str = "acme-read") -> Any:
        """The document; an error's is given with its status as `status`."""
        answer = await self.api.get(f"/api/v1/campaigns/spring{path}", secret)
        document = answer.json()
        return document if answer.status_code == 200 else document | {"status": answer.status_code}

    async def pages(self, path: str, *, limit: int = 50) -> AsyncIterator[Any]:
        """All pages of a list."""
        cursor = ""
        joint = "&" if "?" in path else "?"
        while True:
            document = await self.get(f"{path}{joint}limit={limit}{cursor}")
            assert "items" in document, document
            yield document
            if document["next"] is None:
                return
            cursor = f"&cursor={document['next']}"

    async def all(self, path: str, *, limit: int = 50) -> list[Any]:
        return [item async for page in self.pages(path, limit=limit) for item in page["items"]]


@contextlib.asynccontextmanager
async def reading(redis_url: str, folder: Path, *, kafka: str = NO_KAFKA) -> AsyncIterator[Reading]:
    world = World(folder / "state", redis_url)
    try:
        await world.published()
        async with (
            query_process(world.state, redis_url) as process,
            serving(redis_url, kafka=kafka, ready=False) as api,
        ):
            # What is counted here was never in topic `facts`, so nothing in it is left to be counted.
            api.context.uncounted = lambda *asked, **bound: set()
            yield Reading(api, world, process)
    finally:
        await world.close()
