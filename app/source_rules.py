"""What a source and its organisation say about its events, made ready once: campaign, variant, links, exclusion."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from app.facts import Event
from app.organisations import Source

LINK_CACHE: Final = 16_384
_FIELD: Final = re.compile(r"\{(tag|metadata\.[^{}]+)\}")


class SourceRules:
    def __init__(self, source: Source, exclude: tuple[str, ...]) -> None:
        self._templates = [_template(template) for template in source.campaign]
        self._default = source.default_campaign
        self._prefix = source.variant_prefix
        self._strip = _any_of(source.strip_query)
        # Addresses are compared in lower case, so their patterns are too.
        self._exclude = _any_of(pattern.lower() for pattern in exclude)
        self._hidden = _any_of(source.hidden_links)
        self.link = lru_cache(maxsize=LINK_CACHE)(self._link) if self._strip else _as_it_is
        """A link as reported → without the query parameters that differ per recipient."""

    def campaign(self, event: Event) -> str:
        for template in self._templates:
            name = _filled(template, event)
            if name is not None:
                return name
        return self._default

    def variant(self, event: Event) -> dict[str, str] | None:
        """Field → value, in order of the fields; None where there is none."""
        found = event.variant
        prefix = self._prefix
        if not found and prefix and event.metadata:
            found = {
                name[len(prefix) :]: value
                for name, value in event.metadata.items()
                if name.startswith(prefix) and len(name) > len(prefix) and value
            }
        if not found:
            return None
        return dict(sorted(found.items())) if len(found) > 1 else found

    def excluded(self, address: str) -> bool:
        """`address` normalised."""
        return self._exclude is not None and self._exclude.match(address) is not None

    def is_hidden(self, link: str) -> bool:
        """`link` as `self.link` gives it."""
        return self._hidden is not None and self._hidden.match(link) is not None

    def _link(self, link: str) -> str:
        """The other parameters stay as they are, byte for byte and in their order."""
        assert self._strip is not None
        head, hash_mark, fragment = link.partition("#")
        base, question_mark, query = head.partition("?")
        if not question_mark:
            return link
        matches = self._strip.match
        kept = [part for part in query.split("&") if not matches(unquote(part.partition("=")[0]))]
        return base + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment


@lru_cache(maxsize=256)
def rules_of(source: Source, exclude: tuple[str, ...]) -> SourceRules:
    return SourceRules(source, exclude)


def _as_it_is(link: str) -> str:
    return link


def _any_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern that matches what any of these globs matches as a whole."""
    parts = [f"(?:{translate(pattern)})" for pattern in patterns]
    return re.compile("|".join(parts)) if parts else None


def _template(template: str) -> list[tuple[bool, str]]:
    """`"{metadata.id}-x"` → [(True, "metadata.id"), (False, "-x")]."""
    # `split` puts what the group caught at the odd places.
    parts = _FIELD.split(template)
    return [(place % 2 == 1, part) for place, part in enumerate(parts) if part]


def _filled(template: list[tuple[bool, str]], event: Event) -> str | None:
    name = ""
    for is_field, part in template:
        if not is_field:
            name += part
            continue
        value = (event.tags[0] if event.tags else "") if part == "tag" else event.metadata.get(part[9:], "")
        if not value:
            return None
        name += value
    return name
