"""Words of messages that depend on a number."""

from __future__ import annotations


def number_of(count: int, noun: str, plural: str = "") -> str:
    """`1 record`, `2 records`. `plural`: where it isn't the noun with an s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
