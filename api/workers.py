"""`GET /ops/workers`: who counts and who parses, which partitions they hold, what they are, and whether they live.

Rules:
- Both tell of themselves in Redis once a second (`tables.presence`): Kafka knows the members of their groups, but not
  what they are, nor whether a partition that they hold is open yet. (Asking it for groups isn't safe besides: see
  `api.log_positions`.)
- One that was silent for `SILENT_MS` is shown as not alive, and forgotten after `FORGOTTEN_MS`. `away` names the
  partitions whose holder is silent or unknown: what comes in for them is counted when somebody has taken them over.
- A partition goes on with the verdict rules that it was counted by; `rebuild_needed` says that its worker's settings
  have others.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from api import parameters
from api.auth import authenticate
from api.context import Context, context_of
from api.errors import json_response
from api.operations import ApiRoute, Operation
from app.errors import UNDECODABLE
from app.shapes_operations import Workers
from app.times import utc_text
from app.topics import FACTS, WEBHOOKS
from tables.conditions import Condition
from tables.presence import SILENT_MS, WORKERS, Presence
from tables.redis_clock import time_ms
from tables.views import DELAYS, OWNERS, Delays, Owner

FORGOTTEN_MS: Final = 86_400_000

_Said = TypeVar("_Said")
_owner = msgspec.json.Decoder(Owner)
_delays = msgspec.json.Decoder(Delays)
_presence = msgspec.json.Decoder(Presence)


class Told(msgspec.Struct, frozen=True):
    """What the workers have said, as it stands in Redis; what can't be read (another version's) is left out."""

    owners: dict[str, Owner] = {}
    delays: dict[str, Delays] = {}
    presences: dict[str, Presence] = {}
    now_ms: int = 0
    """When it stood there, by Redis's clock: that by which they are stamped."""


async def told(context: Context) -> Told:
    """Raises RedisError."""
    async with context.redis.pipeline(transaction=False) as pipe:
        for name in (OWNERS, DELAYS, WORKERS):
            pipe.hgetall(name)
        pipe.time()
        owners, delays, presences, now = await pipe.execute()
    return Told(_read(owners, _owner), _read(delays, _delays), _read(presences, _presence), time_ms(now))


def _read(stored: dict[bytes, bytes], decoder: msgspec.json.Decoder[_Said]) -> dict[str, _Said]:
    found: dict[str, _Said] = {}
    for name, text in stored.items():
        try:
            found[name.decode()] = decoder.decode(text)
        except UNDECODABLE:
            continue
    return found


def workers_document(context: Context, said: Told) -> dict[str, object]:
    """{"workers": [{"worker", "role", "alive", "at", "since", "versions", "partitions", …}], "away": [partition]}."""
    now_ms = said.now_ms
    held: dict[str, dict[int, Owner]] = {}
    for partition, owner in said.owners.items():
        if partition.isdecimal() and int(partition) < context.settings.partitions:
            held.setdefault(owner.worker, {})[int(partition)] = owner
    rows: list[dict[str, Any]] = []
    away = set(range(context.settings.partitions))
    for worker in sorted(held.keys() | said.delays.keys() | said.presences.keys()):
        own, presence, delays = held.get(worker, {}), said.presences.get(worker), said.delays.get(worker)
        signs = [owner.at_ms for owner in own.values()]
        signs += [one.at_ms for one in (presence, delays) if one is not None]
        alive = max(signs) > now_ms - SILENT_MS and not (presence and presence.refused)
        if alive:
            away -= {partition for partition, owner in own.items() if owner.at_ms > now_ms - SILENT_MS}
        if own or max(signs) > now_ms - FORGOTTEN_MS:
            conditions = presence.conditions if presence and presence.holds(now_ms) else ()
            rows.append(_row(worker, own, presence, delays, conditions, alive=alive, at_ms=max(signs)))
    rows.sort(key=lambda row: (row["role"], row["worker"]))
    return {"workers": rows, "away": sorted(away)}


def _row(
    worker: str,
    own: dict[int, Owner],
    presence: Presence | None,
    delays: Delays | None,
    conditions: tuple[Condition, ...],
    *,
    alive: bool,
    at_ms: int,
) -> dict[str, Any]:
    return {
        "worker": worker,
        "role": presence.role if presence else "aggregate",
        "host": presence.host if presence and presence.host else None,
        "alive": alive,
        "at": utc_text(at_ms),
        "since": utc_text(presence.since_ms) if presence else None,
        "versions": {
            "product": presence.product if presence else None,
            "layout": presence.layout if presence else None,
            "rules": presence.rules.version if presence else None,
        },
        "partitions": [
            *({"topic": FACTS, "partition": n, **_held(owner, presence)} for n, owner in sorted(own.items())),
            *(
                {"topic": WEBHOOKS, "partition": n}
                for n in (presence.partitions if presence and alive else ())
            ),
        ],
        "p50_ms": delays.p50_ms if delays and alive else None,
        "p99_ms": delays.p99_ms if delays and alive else None,
        "facts_per_s": delays.facts_per_s if delays and alive else None,
        "conditions": [_condition(one) for one in conditions],
    }


def _condition(condition: Condition) -> dict[str, object]:
    return {
        "code": condition.code,
        "message": condition.message,
        "since": utc_text(condition.since_ms),
        "partition": condition.partition,
        "stale": condition.reason is not None,
        "progress": condition.progress,
        "count": condition.count,
    }


def _held(owner: Owner, presence: Presence | None) -> dict[str, object]:
    known = owner.rules is not None and presence is not None
    return {
        "state": owner.state,
        "at": utc_text(owner.at_ms),
        "since": utc_text(owner.since_ms) if owner.since_ms else None,
        "generation": owner.generation,
        "rules": None if owner.rules is None else msgspec.structs.asdict(owner.rules),
        # Null: of a worker that says nothing of it.
        "rebuild_needed": presence is not None and owner.rules != presence.rules if known else None,
    }


async def workers(request: Request) -> Response:
    context = context_of(request)
    authenticate(request, context, "ops")
    parameters.only(request.query_params, ())
    return json_response(workers_document(context, await told(context)))


_WORKERS: Final = Operation(
    about="Who counts and who parses, and which partitions they hold", answer=Workers, scope="ops"
)


def routes() -> list[BaseRoute]:
    return [ApiRoute("GET", "/ops/workers", workers, _WORKERS)]
