"""What this installation left in Redis before keys carried an id: removed once its views are there under the id.

Only what was its own: the key of a campaign's report comes from the installation's secret, so one of them tells whose
all the keys without an id are. Another installation's stay. Nobody would blank in them who is erased.
"""

from __future__ import annotations

import re
from typing import Final, cast

from redis.asyncio import Redis

from app.keys import campaign_key

_LAST: Final = "cr:v3:partitions"
"""The last format without ids; it goes last, so that a removal that is cut short is begun again."""
_REPORT: Final = "cr:v3:report:"
_WITH_ID: Final = re.compile(rb"cr:[0-9a-f]{16}:")
_PER_TRIP: Final = 500


async def forget_predecessor(everyone: Redis, secret: bytes) -> int:
    """Returns how many keys were removed. `everyone`: a client that sees all keys. May raise `redis.RedisError`."""
    if not await everyone.exists(_LAST) or not await _is_ours(everyone, secret):
        return 0
    gone = 0
    names: list[bytes] = []
    async for name in everyone.scan_iter(match="cr:*", count=_PER_TRIP):
        if not _WITH_ID.match(name) and name != _LAST.encode():
            names.append(name)
        if len(names) >= _PER_TRIP:
            gone += await everyone.unlink(*names)
            names.clear()
    return gone + await everyone.unlink(*names, _LAST)


async def _is_ours(everyone: Redis, secret: bytes) -> bool:
    async for name in everyone.scan_iter(match=_REPORT + "*", count=_PER_TRIP):
        org, campaign = cast(list[bytes | None], await everyone.hmget(name, ["org", "campaign"]))
        if org is not None and campaign is not None:
            key = campaign_key(secret, org.decode(), campaign.decode())
            if name == _REPORT.encode() + key.hex().encode():
                return True
    return False
