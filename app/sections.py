"""Rows summed over the partitions → the sections links, places, clients and providers (shapes: `docs/api.md`).

Rules:
- Rows stand by events under the count that was asked for, ties by name; rows without any are left out.
- Shown are the first `LINKS` links and `ROWS` of anything else, and one row `other` that sums up the rest. So the
  events of all rows add up to the totals of the summary. Recipients in `other` are those of its rows added up: who
  stands in two of them counts twice there.
- Names that stand in place of one: `app.breakdown.SPECIAL_NAMES`, and `other`. A provider or client that is really
  called so stands in quotes (`breakdown.said`); links have ids by which to tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from app import breakdown as b
from app.breakdown import OTHER, SPECIAL_NAMES, said
from app.shapes import Clients, Engagement, LinkRow, Links, Places, ProviderRow, Providers, Summary
from app.summary import Count, group_summary
from app.tally import BITS, MASK, field_of
from app.times import utc_text

LINKS: Final = 1_000
ROWS: Final = 200

Key = tuple[int, int]
"""The two numbers of a row's key."""
Weight = Callable[[int], int]
"""A row's tally → by what rows stand in order; those with 0 are left out."""
Ends = tuple[int, int, int, int]
"""First and last click of a link in ms since 1970, then those of verdict human; -1 where there is none."""


class Rows(msgspec.Struct):
    """One section's rows. Where a partition's part was cut, rows may be short of what that partition left out."""

    tallies: dict[Key, int] = {}
    names: dict[Key, str] = {}
    ends: dict[int, Ends] = {}
    rest: int = 0
    """Tally of what the parts left out."""
    rest_rows: int = 0
    """How many rows the parts left out. A link counts once, and not at all where it stands in `tallies`; of other
    sections a row of two partitions counts twice."""
    people_rest_rows: int = 0
    """The same of links that people clicked; one that stands in `tallies` without a person's click counts."""
    cut: int = 0
    """How many parts left out something."""
    bound: int = 0
    """No row that is in no part has more events than this."""
    in_cut: dict[Key, int] = {}
    """How many of the cut parts a row stands in; those that are in all of them are exact."""

    def exact(self, shown: int, weight: Weight) -> bool:
        """Whether the `shown` rows that come first by their weight are certainly these, and their tallies complete."""
        if not self.cut:
            return True
        weights = {key: size for key, tally in self.tallies.items() if (size := weight(tally))}
        largest = sorted(weights, key=weights.__getitem__, reverse=True)[:shown]
        if any(self.in_cut.get(key, 0) < self.cut for key in largest):
            return False
        return len(largest) == shown and weights[largest[-1]] >= self.bound


NO_ROWS: Final = Rows()
Sections = Mapping[int, Rows]
"""Section (`app.breakdown`) → its rows; sections without rows are missing."""


_CLICKS: Final = BITS * b.E_CLICKS


def events(tally: int) -> int:
    """Opens and clicks of an engagement row."""
    return _opens(tally, "all") + _clicks(tally, "all")


def _opens(tally: int, count: Count) -> int:
    if count == "people":
        return tally & MASK
    return (tally & MASK) + (tally >> BITS & MASK) + (tally >> 2 * BITS & MASK)


def _clicks(tally: int, count: Count) -> int:
    return _opens(tally >> _CLICKS, count)


def weight_of(section: int, count: Count) -> Weight:
    if section in b.ENGAGEMENT_SECTIONS:
        return lambda tally: _opens(tally, count) + _clicks(tally, count)
    return lambda tally: field_of(tally, 0)


def clicks_of(tally: int) -> int:
    """All clicks of an engagement row, whoever made them."""
    return _clicks(tally, "all")


def _numbers(tally: int, count: Count) -> Engagement:
    people = count == "people"
    return {
        "opens": _opens(tally, count),
        "opened": field_of(tally, b.E_OPENED_PEOPLE if people else b.E_OPENED),
        "clicks": _clicks(tally, count),
        "clicked": field_of(tally, b.E_CLICKED_PEOPLE if people else b.E_CLICKED),
    }


def _ordered(
    rows: Rows, shown: int, weight: Weight, name: Callable[[Key], str]
) -> tuple[list[tuple[Key, int]], int, int]:
    """(rows to show, tally of the others, how many others but for those that the parts left out)."""
    found = [(-size, name(key), key, tally) for key, tally in rows.tallies.items() if (size := weight(tally))]
    found.sort()
    others = found[shown:]
    rest = rows.rest + sum(tally for _, _, _, tally in others)
    return [(key, tally) for _, _, key, tally in found[:shown]], rest, len(others)


def _name_in(rows: Rows, shown_as: Callable[[str], str] = said) -> Callable[[Key], str]:
    def name(key: Key) -> str:
        if key[0] in SPECIAL_NAMES:
            return SPECIAL_NAMES[key[0]]
        return shown_as(rows.names.get(key) or "") or SPECIAL_NAMES[b.UNKNOWN]

    return name


def _as_it_is(name: str) -> str:
    return name


def link_id(number: int) -> str:
    return f"{number:016x}"


def top_links(rows: Rows, count: Count, most: int) -> list[int]:
    """The links that stand first, as far as they have a name of their own."""
    found, _, _ = _ordered(rows, most, lambda tally: _clicks(tally, count), _name_in(rows, _as_it_is))
    return [key[0] for key, _ in found if key[0] not in SPECIAL_NAMES]


def links(
    sections: Sections,
    count: Count,
    top_clickers: Mapping[int, Iterable[tuple[str, int]]] | None = None,
    shown: int = LINKS,
) -> Links:
    """`top_clickers`: link → (address, clicks), the most clicks first, no address of who was erased; None where nobody
    was asked for them."""
    rows = sections.get(b.LINK, NO_ROWS)
    name = _name_in(rows, _as_it_is)
    found, rest, others = _ordered(rows, shown, lambda tally: _clicks(tally, count), name)
    total = sum(_clicks(tally, count) for _, tally in found) + _clicks(rest, count)
    positions: dict[int, list[tuple[int, int]]] = {}
    for (link, position), tally in sections.get(b.POSITION, NO_ROWS).tallies.items():
        if clicks := _clicks(tally, count):
            positions.setdefault(link, []).append((position, clicks))
    people = count == "people"
    result: list[LinkRow] = []
    for key, tally in found:
        link = key[0]
        clicks = _clicks(tally, count)
        first, last = rows.ends.get(link, (-1, -1, -1, -1))[2 * people : 2 * people + 2]
        row: LinkRow = {
            "id": link_id(link),
            "link": name(key),
            "total_clicks": clicks,
            "unique_clicks": field_of(tally, b.E_CLICKED_PEOPLE if people else b.E_CLICKED),
            "share": 100 * clicks / total,
            "first_at": utc_text(first),
            "last_at": utc_text(last),
            "positions": [{"position": p, "total_clicks": n} for p, n in sorted(positions.get(link, ()))],
            "top_clickers": None,
        }
        if top_clickers is not None and link in top_clickers:
            row["top_clickers"] = [{"recipient": who or None, "clicks": n} for who, n in top_clickers[link]]
        result.append(row)
    others += rows.people_rest_rows if people else rows.rest_rows
    return {"rows": result, "other": {"links": others, "total_clicks": _clicks(rest, count)}}


def _engagement(
    rows: Rows,
    count: Count,
    words: Callable[[str], dict[str, str]],
    shown_as: Callable[[str], str] = said,
    shown: int = ROWS,
) -> list[Any]:
    """`words`: a row's name → the fields that say it."""
    name = _name_in(rows, shown_as)
    weight = weight_of(b.CITY, count)  # as of all of these
    found, rest, _ = _ordered(rows, shown, weight, name)
    result = [{**words(name(key)), **_numbers(tally, count)} for key, tally in found]
    if weight(rest):
        result.append({**words(OTHER), **_numbers(rest, count)})
    return result


def _said_city(text: str) -> str:
    return "\0".join(map(said, text.split("\0", 1)))


def _city(text: str) -> dict[str, str]:
    country, separator, city = text.partition("\0")
    return {"country": country, "city": city or (SPECIAL_NAMES[b.UNKNOWN] if separator else country)}


def places(sections: Sections, count: Count) -> Places:
    return {
        "countries": _engagement(sections.get(b.COUNTRY, NO_ROWS), count, lambda name: {"country": name}),
        "cities": _engagement(sections.get(b.CITY, NO_ROWS), count, _city, _said_city),
    }


def clients(sections: Sections, count: Count) -> Clients:
    def rows(section: int, field: str) -> list[Any]:
        return _engagement(sections.get(section, NO_ROWS), count, lambda name: {field: name})

    return {
        "clients": rows(b.CLIENT, "client"),
        "devices": rows(b.DEVICE, "device"),
        "systems": rows(b.SYSTEM, "system"),
        "browsers": rows(b.BROWSER, "browser"),
    }


def _provider(name: str, summary: Summary, reasons: dict[str, int]) -> ProviderRow:
    return {
        "provider": name,
        "sent": summary["sent"],
        "delivered": summary["delivered"],
        "bounced": summary["bounced"],
        "deferred": summary["deferred"],
        "complained": summary["complained"],
        "reasons": reasons,
    }


def providers(sections: Sections, count: Count) -> Providers:
    """Bounce reasons add up to `bounced`; beyond the `ROWS` most frequent ones they are `other`."""
    rows = sections.get(b.PROVIDER, NO_ROWS)
    name = _name_in(rows)
    weight = weight_of(b.PROVIDER, count)
    found, rest, _ = _ordered(rows, ROWS, weight, name)
    reasons = sections.get(b.REASON, NO_ROWS)

    def reason_name(key: Key) -> str:
        return SPECIAL_NAMES.get(key[1]) or said(reasons.names.get(key) or "") or SPECIAL_NAMES[b.UNKNOWN]

    frequent, _, _ = _ordered(reasons, ROWS, lambda tally: tally, reason_name)
    by_provider: dict[int, dict[str, int]] = {}
    for key, tally in frequent:
        named = by_provider.setdefault(key[0], {})
        named[reason_name(key)] = named.get(reason_name(key), 0) + tally
    result = []
    for key, tally in found:
        _, summary = group_summary(tally, count)
        why = by_provider.get(key[0], {})
        beyond = summary["bounced"] - sum(why.values())
        if beyond:
            why[OTHER] = why.get(OTHER, 0) + beyond
        result.append(_provider(name(key), summary, why))
    if weight(rest):
        _, summary = group_summary(rest, count)
        beyond = summary["bounced"]
        result.append(_provider(OTHER, summary, {OTHER: beyond} if beyond else {}))
    return {"rows": result}


def variant_groups(sections: Sections) -> tuple[list[tuple[dict[str, str] | None, int]], int]:
    """((fields or None for recipients without a variant, tally), most recipients first; tally of those left out)."""
    rows = sections.get(b.VARIANT, NO_ROWS)
    found, rest, _ = _ordered(
        rows, ROWS, lambda tally: field_of(tally, 0), lambda key: rows.names.get(key, "")
    )
    decoded: list[tuple[dict[str, str] | None, int]] = []
    for key, tally in found:
        text = rows.names.get(key)
        decoded.append((msgspec.json.decode(text, type=dict[str, str]) if key[0] and text else None, tally))
    return decoded, rest
