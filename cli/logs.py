"""Logging of every role: one JSON object a line on standard error.

Events have a name or a sentence and ids; no addresses, bodies, headers or secrets. Control characters can't break a
line, since JSON escapes them.
"""

from __future__ import annotations

import json
import logging
import time

# Chatty below warning, whatever the level: their lines are about themselves.
_QUIET = ("faust", "mode", "aiokafka", "asyncio", "kafka", "uvicorn.access", "httpx", "httpcore")


REPEATS_S = 10.0


class Repeats(logging.Filter):
    """Of a library's complaint that comes again and again (Kafka away: some ten a second), one line in ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_QUIET):
            return True
        key = (record.name, str(record.msg))
        at, left_out = self._seen.get(key, (0.0, 0))
        if record.created - at < REPEATS_S:
            self._seen[key] = (at, left_out + 1)
            return False
        if len(self._seen) > 1_000:
            self._seen.clear()
        self._seen[key] = (record.created, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} times before)", None
        return True


class JsonFormatter(logging.Formatter):
    """`at` (UTC), `level`, `logger`, `event`, and `error` with the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.gmtime(record.created)
        line: dict[str, object] = {
            "at": f"{time.strftime('%Y-%m-%dT%H:%M:%S', seconds)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # ASCII only: no terminal's escape, no other alphabet's line break can be in it.
        return json.dumps(line)


def set_up_logging(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
