"""Items (`app.items`) as rows of CSV: RFC 4180, and nothing in them that a spreadsheet takes for a formula.

Rules:
- A row ends with CR LF. A cell with a comma, a quote or a line break stands in quotes, quotes in it doubled.
- A text that begins like a formula (`FORMULA`) gets an apostrophe before it. Texts come from anybody who can send mail
  or open one; numbers, times and ids are our own and stay as they are.
- null is an empty cell, true and false are words. A variant is `content=1; subject=A` in order of its fields, tags
  stand one after the other in the same way, metadata is JSON.
- A character that UTF-8 can't write (half of a surrogate pair) is a question mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

import msgspec

END: Final = "\r\n"
FORMULA: Final = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001  spreadsheets take the wide ones for the others
"""First characters of what spreadsheets compute."""
_QUOTED: Final = frozenset(',"\r\n')

_json = msgspec.json.Encoder().encode


def header(fields: Iterable[str]) -> str:
    return ",".join(fields) + END


def row(item: Mapping[str, object]) -> str:
    """An item's values in their order, with its line end."""
    return ",".join([cell(name, value) for name, value in item.items()]) + END


def encoded(rows: str) -> bytes:
    return rows.encode("utf-8", "replace")


def cell(name: str, value: object) -> str:
    """The cell of a field of `items.RECIPIENT_FIELDS` or `items.EVENT_FIELDS`."""
    if value is None:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if name == "variant":
        return text_cell(variant_text(cast(Mapping[str, str], value)))
    if name == "metadata":
        return text_cell(metadata_text(cast(Mapping[str, str], value)))
    if name == "tags":
        return text_cell(tags_text(cast(Iterable[str], value)))
    return text_cell(str(value))


def text_cell(text: str) -> str:
    if text and text[0] in FORMULA:
        text = "'" + text
    return quoted(text) if not _QUOTED.isdisjoint(text) else text


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def variant_text(variant: Mapping[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in sorted(variant.items()))


def tags_text(tags: Iterable[str]) -> str:
    return "; ".join(tags)


def metadata_text(metadata: Mapping[str, str]) -> str:
    return _json(metadata).decode()
