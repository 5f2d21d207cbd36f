"""Which campaigns a search finds: those that have all of its words in their id, name or subject.

Rules:
- Words are what stands between spaces; their order and case do not matter, and a word may be a part of one there.
- Letters are compared case-folded and composed (Unicode NFC), so that "É" in one and "e" with its accent in two find
  each other.
- A text is searched as `folded` gives it: its parts stand in lines of their own, which no word crosses.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence


def words_of(search: str) -> tuple[str, ...]:
    """The words that are looked for, each once, in an order of their own: the same words are the same search."""
    return tuple(sorted(set(_fold(search).split())))


def folded(campaign: str, name: str | None, subject: str | None) -> str:
    """What of a campaign is searched."""
    return _fold("\n".join((campaign, name or "", subject or "")))


def found(texts: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """Campaign → its text as `folded` gives it; those that have all the words."""
    names = list(texts)
    for word in words:
        names = [name for name in names if word in texts[name]]
    return names


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
