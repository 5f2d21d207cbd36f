"""Reading the dead letters from an API process: in a thread, one question at a time, none of them for long.

What one question has learnt of the topic (which letters were replayed) serves the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import KafkaException

from app.errors import TryLater
from tables.dead_letters import DeadLetters, Marks

WAIT_S: Final = 5.0

_T = TypeVar("_T")


class Desk:
    def __init__(self) -> None:
        self._marks = Marks()
        self._asking = asyncio.Lock()

    async def ask(self, kafka: str, question: Callable[[DeadLetters], _T]) -> _T:
        """Raises TryLater where Kafka doesn't answer, or where others ask for too long."""

        def read() -> _T:
            with DeadLetters(kafka, self._marks) as letters:
                return question(letters)

        def done(future: asyncio.Future[_T]) -> None:
            self._asking.release()
            if not future.cancelled():
                future.exception()  # whoever asked may have gone: then nobody else looks at it

        try:
            async with asyncio.timeout(WAIT_S):
                await self._asking.acquire()
        except TimeoutError:
            raise TryLater(2, "others are reading the dead letters, try again") from None
        # Shielded: the thread goes on where its request is gone, and the next question waits for its end.
        future = asyncio.get_running_loop().run_in_executor(None, read)
        future.add_done_callback(done)
        try:
            return await asyncio.shield(future)
        except KafkaException:
            raise TryLater(2, "the dead letters can't be read at the moment") from None
