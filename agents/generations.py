"""Which generation a partition's database has: Kafka gives them, and they only rise (`app.installation`).

Rules:
- A database that is made new, or rebuilt, takes one above all that are known: to the installation's log, to the
  database that it replaces, and to Redis. (Beginning at 1 again would freeze reports: Redis holds a higher one.)
- So does one that finds a higher one than its own: a host that has an older copy got the partition back. Kafka's
  assignment makes it the owner, and what the other host counted is behind it from then on.
- So does one whose views in Redis are ahead of the log's end: the log has lost records, and never gets there.
- So does one that has crossed or noted a gap (`tables.gaps`): a generation belongs to one database.
- Only at assignment: a stalled worker whose partition has moved never takes one, so it stays below the owner's.
- Redis need not answer: it knows of nothing that the log doesn't, databases from before the log aside. If one of those
  is higher, publication is withheld, and the watchdog has the partition assigned once more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from redis.exceptions import RedisError

from app.installation import Gap, History, LostWebhooks
from tables.installation import InstallationLog
from tables.view_writer import ViewWriter

log = logging.getLogger(__name__)


class Generations:
    """Those of one assignment. Calls block, and raise TryLater where Kafka doesn't answer."""

    def __init__(
        self,
        installation: InstallationLog,
        worker: str,
        in_redis: Mapping[int, int],
        ahead: Collection[int] = (),
    ) -> None:
        """Reads what Kafka knows. `in_redis`: partition → the highest generation there; `ahead`: partitions whose views
        there are ahead of the log's end."""
        self._installation = installation
        self._worker = worker
        self._ahead = ahead
        self._known = dict(in_redis)
        for partition, generation in installation.generations().items():
            self._known[partition] = max(generation, self._known.get(partition, 0))

    def is_passed(self, partition: int, generation: int) -> bool:
        """Whether a database of this generation needs a new one."""
        return self._known.get(partition, 0) > generation or partition in self._ahead

    def record(
        self, partition: int, unrecorded: Callable[[History], Sequence[Gap | LostWebhooks]]
    ) -> History:
        """Losses that a database knows, and topic `installation` doesn't: it was made again since, and what the log
        lacks of what was counted would be known to nobody else. Gives what is recorded of the partition then."""
        # Asked again: another partition's database may have just recorded them.
        history = self._installation.histories([partition])[partition]
        if losses := unrecorded(history):
            log.warning(
                "partition %d: losses that topic installation doesn't know are recorded again", partition
            )
            self._installation.append_together(losses)
            history = self._installation.histories([partition])[partition]
        return history

    def take(
        self,
        partition: int,
        above: int = 0,
        *,
        crossed: tuple[int, ...] = (),
        held: tuple[int, ...] = (),
        answers: str = "",
    ) -> int:
        """A new one, above all that are known and `above`; the others as in `app.installation.Generation`."""
        generation = self._installation.give_generation(
            partition,
            self._worker,
            above=max(above, self._known.get(partition, 0)),
            now_ms=int(time.time() * 1000),
            crossed=crossed,
            held=held,
            answers=answers,
        )
        self._known[partition] = generation
        log.info("partition %d goes on as generation %d", partition, generation)
        return generation


async def generations_at_assignment(
    installation: InstallationLog,
    writer: ViewWriter,
    worker: str,
    partitions: Sequence[int],
    ahead: Collection[int] = (),
) -> Generations:
    """Of the partitions that were assigned; `ahead` as `Generations` takes it."""
    in_redis: dict[int, int] = {}
    try:
        in_redis = await writer.highest_generations(partitions)
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("redis can't be asked for generations: %s", type(error).__name__)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, Generations, installation, worker, in_redis, ahead)
