"""The one tree of errors.

    ReportsError
    ├── RejectRequest   the caller's fault: answer with `status` and `code`, store nothing
    ├── PoisonEvent     this event (or body) is invalid and always will be: dead-letter it with `reason`
    ├── TryLater        our fault for the moment: answer the code that makes the sender repeat
    ├── ConfigError     the operator's: refuse to start, one line that names the setting
    └── StateError      what is on disk or in the log is not what we left there: stop, and say the way out
        ├── LogGap      the log doesn't go on where a database ends; `reports accept-gap` is a way out
        └── UnfitDatabase   a partition's folder holds another database than is wanted, and may be removed if the log
                            has everything; whoever knows that says it (`tables.broken.removal`)

Everything else that is raised is a bug: a role lets it end the process and its parent starts it again.

Rules: `str()` of each is one line for a person. None of them carries a secret, an address or a body.
"""

from __future__ import annotations

import errno
from typing import Final

import msgspec

UNDECODABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what was wanted: bad UTF-8 within a text and nesting without end, too."""


class ReportsError(Exception):
    """The root; never raised itself."""


class RejectRequest(ReportsError):
    """An HTTP request is refused: `status` is the HTTP status, `code` the `error` of the JSON answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class PoisonEvent(ReportsError):
    """An event can never be counted; `reason` is short and stable, since dead letters are grouped by it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TryLater(ReportsError):
    """Nothing more can be taken now; the sender is to come back after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: int, message: str = "busy, try again") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.message = message


class ConfigError(ReportsError):
    """The configuration is wrong; `setting` is the environment's name or the path in reports.toml.

    `in_file`: which file has it, once that is known; empty: none.
    """

    def __init__(self, setting: str, message: str, *, in_file: str = "") -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting
        self.message = message
        self.in_file = in_file


class StateError(ReportsError):
    """Starting or going on would guess: a gap in the log, a topic made anew, another secret, a full disk."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class UnfitDatabase(StateError):
    """A partition's database is sound, and none that can be gone on with; the message names the better way out."""


def of_file(error: OSError) -> StateError:
    """What a file or folder that can't be read or written means, where nothing is said of it in particular."""
    said = f"{error.filename2 or error.filename} can't be used: {error.strerror or error}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return StateError(f"{said}. Give this user the right to it")
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return StateError(
            f"{said}. Something else stands in its place, or in that of a folder above: move it away"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StateError(f"{said}. Make room on that disk")
    return StateError(said)


class LogGap(StateError):
    """Records are missing between what a database has counted and what the log has.

    `topic_id`, `position` (the next offset to count) and `generation` are the database's when it was noticed, `to` is
    where the log goes on; None where whoever noticed it doesn't know. `counted`: another database has counted what is
    missing, up to `position`.
    """

    def __init__(
        self,
        message: str,
        *,
        topic_id: str | None = None,
        position: int | None = None,
        generation: int | None = None,
        to: int | None = None,
        counted: bool = False,
    ) -> None:
        super().__init__(message)
        self.counted = counted
        self.topic_id = topic_id
        self.position = position
        self.generation = generation
        self.to = to
