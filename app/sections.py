"""Rows summed over the partitions → the sections links, places, clients and providers (shapes: `docs/api.md`).

Rules:
- What is shown is exact. Rows that some partition may have left out in part are summed up in `other` with those that
  come after the shown ones (`api.tops` asks for them before).
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
    short: set[Key] = set()
    """Rows of which a part may have left out some. They are never shown."""
    people_short: set[Key] = set()
    """Those of them that may lack events of people."""

    def unsure(self, count: Count) -> set[Key]:
        """Rows whose numbers under this count may be too small."""
        return self.people_short if count == "people" else self.short


NO_ROWS: Final = Rows()
Sections = Mapping[int, Rows]
"""Section (`app.breakdown`) → its rows; sections without rows are missing."""


_CLICKS: Final = BITS * b.E_CLICKS


def events(tally: int) -> int:
    """Opens and clicks of an engagement row."""
    return (
        (tally & MASK)
        + (tally >> BITS & MASK)
        + (tally >> 2 * BITS & MASK)
        + (tally >> 3 * BITS & MASK)
        + (tally >> 4 * BITS & MASK)
        + (tally >> 5 * BITS & MASK)
    )


def people_events(tally: int) -> int:
    """Those of them that people made."""
    return (tally & MASK) + (tally >> _CLICKS & MASK)


def _first_field(tally: int) -> int:
    return tally & MASK


def _opens(tally: int, count: Count) -> int:
    if count == "people":
        return tally & MASK
    return (tally & MASK) + (tally >> BITS & MASK) + (tally >> 2 * BITS & MASK)


def _clicks(tally: int, count: Count) -> int:
    return _opens(tally >> _CLICKS, count)


def weight_of(section: int, count: Count) -> Weight:
    if section in b.ENGAGEMENT_SECTIONS:
        return people_events if count == "people" else events
    return _first_field


def orders_of(section: int) -> tuple[Weight, ...]:
    """By what a section is put in order: all events and those of people, or one number."""
    if section in b.ENGAGEMENT_SECTIONS:
        return (events, people_events)
    return (_first_field,)


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
    rows: Rows, shown: int, count: Count, weight: Weight, name: Callable[[Key], str]
) -> tuple[list[tuple[Key, int]], int, int]:
    """(rows to show, tally of the others, how many others but for those that the parts left out)."""
    unsure = rows.unsure(count)
    found = [
        (key in unsure, -size, name(key), key, tally)
        for key, tally in rows.tallies.items()
        if (size := weight(tally))
    ]
    found.sort()
    exact = min(shown, len(found) - sum(row[0] for row in found))
    rest = rows.rest + sum(row[4] for row in found[exact:])
    return [(row[3], row[4]) for row in found[:exact]], rest, len(found) - exact


def name_in(rows: Rows, shown_as: Callable[[str], str] = said) -> Callable[[Key], str]:
    """A row's key → its name as it is shown."""

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
    found, _, _ = _ordered(rows, most, count, lambda tally: _clicks(tally, count), name_in(rows, _as_it_is))
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
    name = name_in(rows, _as_it_is)
    found, rest, others = _ordered(rows, shown, count, lambda tally: _clicks(tally, count), name)
    total = sum(_clicks(tally, count) for _, tally in found) + _clicks(rest, count)
    positions = _positions(sections, {key[0]: _clicks(tally, count) for key, tally in found}, count)
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


def _positions(
    sections: Sections, clicks: Mapping[int, int], count: Count
) -> dict[int, list[tuple[int, int]]]:
    """Link → (position, clicks) as far as they are exact. `clicks`: of each link in all.

    All positions of a link are exact where they add up to its clicks: none of them can be more."""
    rows = sections.get(b.POSITION, NO_ROWS)
    unsure = rows.unsure(count)
    known: dict[int, list[tuple[int, int]]] = {}
    sums: dict[int, int] = {}
    for (link, position), tally in rows.tallies.items():
        if link in clicks and (some := _clicks(tally, count)):
            known.setdefault(link, []).append((position, some))
            sums[link] = sums.get(link, 0) + some
    for link, found in known.items():
        if sums[link] != clicks[link]:
            found[:] = [(position, some) for position, some in found if (link, position) not in unsure]
    return known


def _engagement(
    rows: Rows,
    count: Count,
    words: Callable[[str], dict[str, str]],
    shown_as: Callable[[str], str] = said,
    shown: int = ROWS,
) -> list[Any]:
    """`words`: a row's name → the fields that say it."""
    name = name_in(rows, shown_as)
    weight = weight_of(b.CITY, count)  # as of all of these
    found, rest, _ = _ordered(rows, shown, count, weight, name)
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
    name = name_in(rows)
    weight = weight_of(b.PROVIDER, count)
    found, rest, _ = _ordered(rows, ROWS, count, weight, name)
    reasons = sections.get(b.REASON, NO_ROWS)

    def reason_name(key: Key) -> str:
        return SPECIAL_NAMES.get(key[1]) or said(reasons.names.get(key) or "") or SPECIAL_NAMES[b.UNKNOWN]

    frequent, _, _ = _ordered(reasons, ROWS, count, lambda tally: tally, reason_name)
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
        rows, ROWS, "all", lambda tally: field_of(tally, 0), lambda key: rows.names.get(key, "")
    )
    decoded: list[tuple[dict[str, str] | None, int]] = []
    for key, tally in found:
        text = rows.names.get(key)
        decoded.append((msgspec.json.decode(text, type=dict[str, str]) if key[0] and text else None, tally))
    return decoded, rest
