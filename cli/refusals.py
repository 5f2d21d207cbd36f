"""A role that is refused says so where people look, as far as it can: the condition `role_refused`.

Rules:
- It is told by the refused process itself, before it ends, and holds until the role runs or is tried no more
  (`tables.presence`): so it comes from a role without a parent too.
- It goes to the installation that this host's Kafka names, and only where that one is in this host's Redis: another
  one's Redis stays as it is. It is an entry of its own, one for each role and machine, and nothing that a report goes
  by: who was refused is let in nowhere by it.
- Whatever stands in its way, the process ends within `TELL_S`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from typing import Final

import msgspec

from app.errors import UNDECODABLE, ConfigError, ReportsError
from app.settings import Settings, settings_from
from cli.addresses import wait_for_addresses
from cli.config import load_settings
from cli.identity import known_identity
from cli.role_configuration import RoleConfiguration
from tables.conditions import Condition
from tables.presence import WORKERS, decode_presence, presence, refused_name
from tables.redis_clock import time_ms
from tables.redis_names import sync_client
from tables.telling import AWAY

CODE: Final = "role_refused"
TELL_S: Final = 3.0
REDIS_S: Final = 1.0
MOST_CHARACTERS: Final = 2_000


def tell_refused(role: str, line: str, environ: Mapping[str, str] | None = None) -> None:
    """`line`: why. Blocks for `TELL_S` at most."""
    environ = os.environ if environ is None else environ
    # What it asks may take longer than anybody should wait for the end.
    teller = threading.Thread(target=_tell, args=(role, line, environ), name="refusal", daemon=True)
    teller.start()
    teller.join(TELL_S)


def _tell(role: str, line: str, environ: Mapping[str, str]) -> None:
    with contextlib.suppress(ReportsError, *AWAY):
        settings = wait_for_addresses(_settings(environ), 0.0)
        installation = known_identity(settings).id
        with sync_client(settings.redis, installation, timeout_s=REDIS_S) as redis:
            if not redis.exists(WORKERS):
                return
            name, now_ms = refused_name(role), time_ms(redis.time())
            since_ms = now_ms
            if before := redis.hget(WORKERS, name):
                with contextlib.suppress(*UNDECODABLE):
                    said = decode_presence(before)
                    since_ms = said.since_ms if said.holds(now_ms) else now_ms
            condition = Condition(
                code=CODE,
                message=f"role {role} is refused at its start (data folder {settings.data}): {line}"[
                    :MOST_CHARACTERS
                ],
                since_ms=since_ms,
            )
            said = presence(
                settings.rules, since_ms, now_ms, role=role, conditions=(condition,), refused=True
            )
            redis.hset(WORKERS, name, msgspec.json.encode(said))


def _settings(environ: Mapping[str, str]) -> Settings:
    """Where reports.toml is wrong, those of the last one that was accepted here, or else of the environment alone.
    Raises ConfigError."""
    with contextlib.suppress(ConfigError):
        return load_settings(environ)
    with contextlib.suppress(ConfigError):
        return RoleConfiguration(environ, only_settings=True, keep=False).settings
    settings = settings_from(environ, {})
    return msgspec.structs.replace(settings, data=settings.data.absolute())
