"""What can go wrong with a call.

ClientError
├── ApiError      the API refused or could not: its status, code and message
├── Unreachable   no answer: no connection, a timeout, a stream that broke off
└── Unreadable    an answer that is not what this client knows: another version, or something between us and the API
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.shapes import Error


class ClientError(Exception):
    """The root; never raised itself."""


class ApiError(ClientError):
    """`retry_after_s`: when to ask again; None where the API doesn't say, and asking again would not help."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: int | None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class Unreachable(ClientError):
    pass


class Unreadable(ClientError):
    pass


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    """The error that an answer tells. A proxy's, which has no code of ours, is `unknown`."""
    try:
        said = msgspec.json.decode(content, type=Error)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = {"error": "unknown", "message": "the answer is none of the API"}
    wait = headers.get("retry-after", "")
    return ApiError(status, said["error"], said["message"], int(wait) if wait.isdecimal() else None)
