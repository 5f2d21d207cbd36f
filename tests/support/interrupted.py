"""A client of Redis whose round trips are interrupted: before Redis has done anything, after it has, or half-way."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Interruption(NamedTuple):
    """What happens at a round trip."""

    when: str
    """`before` Redis has the commands, `after` it has carried them out, or when it has carried out `half` of them."""
    what: Callable[[], Awaitable[None]]
    """Awaited at that moment. Raises what the caller is to see, or changes the world and lets the trip go on."""


class InterruptedRedis:
    """Stands for a `redis.asyncio.Redis`. `plan`: what happens at the next trips, None for nothing."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.plan: deque[Interruption | None] = deque()

    def pipeline(self, transaction: bool = True) -> _Pipeline:
        return _Pipeline(self._redis.pipeline(transaction=transaction), self, transaction)

    async def scan_iter(self, **arguments: Any) -> AsyncIterator[bytes]:
        found = await self.trip(lambda: _all(self._redis.scan_iter(**arguments)))
        for name in found:
            yield name

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        command = getattr(self._redis, name)

        async def run(*arguments: Any, **named: Any) -> Any:
            return await self.trip(lambda: command(*arguments, **named))

        return run

    async def trip(
        self, carry_out: Callable[[], Awaitable[Any]], half: Callable[[], Awaitable[Any]] | None = None
    ) -> Any:
        planned = self.plan.popleft() if self.plan else None
        if planned is not None and planned.when == "before":
            await planned.what()
        if planned is not None and planned.when == "half" and half is not None:
            await half()
            await planned.what()
        answer = await carry_out()
        if planned is not None and planned.when == "after":
            await planned.what()
        return answer


async def _all(names: AsyncIterator[Any]) -> list[Any]:
    return [name async for name in names]


class _Pipeline:
    def __init__(self, pipe: Any, redis: InterruptedRedis, transaction: bool) -> None:
        self._pipe = pipe
        self._redis = redis
        self._transaction = transaction

    async def __aenter__(self) -> _Pipeline:
        await self._pipe.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pipe.__aexit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    async def execute(self) -> Any:
        stack = list(self._pipe.command_stack)

        async def half() -> Any:
            """The rest is sent once more with what went before it, as a client does after it has connected again."""
            self._pipe.command_stack = stack[: len(stack) // 2]
            await self._pipe.execute()
            self._pipe.command_stack = list(stack)

        return await self._redis.trip(self._pipe.execute, None if self._transaction else half)
