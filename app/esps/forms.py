"""Reading a body that is a form: `application/x-www-form-urlencoded` or `multipart/form-data`.

Rules:
- Which of the two it is, is told by the body itself (a multipart one begins with its delimiter), so that whoever has
  the body alone reads the same fields as who has its headers.
- Uploaded files are passed over; a field that is not UTF-8 is dropped. A percent sign that escapes nothing stands for
  itself in a short field; a long one that has such is dropped.
- The order is kept, and a name that comes twice is there twice: what that means, only the ESP's module knows.
"""

from __future__ import annotations

import re
from binascii import a2b_qp
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

MAX_FIELDS: Final = 1_000
"""More than any ESP sends; Mailgun's largest form has about 30 fields and the sender's own variables."""
MAX_DELIMITER_BYTES: Final = 256
"""RFC 2046 allows 70 and the two dashes."""
MAX_CREDENTIAL_BYTES: Final = 1_024
"""Of a field that is read before anybody vouched for the body: decoding must cost no more than the request did."""

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAME: Final = re.compile(rb'[;\s]name="([^"\r\n]{0,1000})"', re.IGNORECASE)
_FILE: Final = re.compile(rb"[;\s]filename\*?=", re.IGNORECASE)


def read(body: bytes, only: Collection[str] | None = None) -> list[tuple[str, str]] | None:
    """Name and value of each field (of those named in `only`); None where it is no form, or one with too many fields.

    Any bytes that aren't multipart are an urlencoded form: who expects one has to look for the names.
    """
    found = _read(body, len(body))
    return found if found is None or only is None else [field for field in found if field[0] in only]


def read_credentials(body: bytes) -> list[tuple[str, str]]:
    """As `read`, without the fields that are too long for a name, a token or a signature."""
    return _read(body, MAX_CREDENTIAL_BYTES) or []


def _read(body: bytes, longest: int) -> list[tuple[str, str]] | None:
    is_multipart = body.startswith(b"--")
    raw = _multipart(body) if is_multipart else _urlencoded(body)
    if raw is None:
        return None
    result = []
    for name, value in raw:
        if len(name) + len(value) > longest:
            continue
        try:
            if is_multipart:
                result.append((name.decode(), value.decode()))
            else:
                result.append((_decoded(name), _decoded(value)))
        except UnicodeDecodeError:
            continue
    return result


def _decoded(text: bytes) -> str:
    """Raises UnicodeDecodeError.

    A form is decoded before anybody vouched for it: a million escapes cost the library half a second, but as
    quoted-printable (the same with `=` in the place of `%`) they are decoded in C, in a twelfth of that.
    """
    if b"%" in text:
        bad = _BAD_ESCAPE.search(text)
        if bad is None:
            text = a2b_qp(text.replace(b"=", b"=3D").replace(b"%", b"="))
        elif len(text) <= MAX_CREDENTIAL_BYTES:
            text = unquote_to_bytes(text)
        else:
            raise UnicodeDecodeError("percent", text, *bad.span(), "no escape")
    return text.decode()


def _urlencoded(body: bytes) -> Iterator[tuple[bytes, bytes]] | None:
    if body.count(b"&") >= MAX_FIELDS:
        return None
    fields = (part.partition(b"=") for part in body.replace(b"+", b" ").split(b"&"))
    return ((name, value) for name, _, value in fields if name)


def _multipart(body: bytes) -> Iterator[tuple[bytes, bytes]] | None:
    line, _, _ = body[: MAX_DELIMITER_BYTES + 2].partition(b"\n")
    delimiter = line.rstrip(b"\r \t")
    if not 2 < len(delimiter) <= MAX_DELIMITER_BYTES:
        return None
    newline = b"\r\n" if line.endswith(b"\r") else b"\n"
    # The first delimiter has no line end before it, all others have.
    parts = (newline + body).split(newline + delimiter, MAX_FIELDS + 2)
    if len(parts) > MAX_FIELDS + 2:
        return None
    return _fields_of(parts[1:], newline)


def _fields_of(parts: list[bytes], newline: bytes) -> Iterator[tuple[bytes, bytes]]:
    for part in parts:
        head, found, value = part.partition(newline * 2)
        # Behind the last delimiter stand two more dashes and no head.
        if not found or not part[:1].isspace() or _FILE.search(head):
            continue
        name = _NAME.search(head)
        if name:
            yield name[1], value
