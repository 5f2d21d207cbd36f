"""The section `links`: clicks by link and by position, first and last click, who clicked most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from cli.verifier import engagement, erasures
from cli.verifier.compare import Comparison
from cli.verifier.engagement import NOT_PROVIDED, Name, Rows
from cli.verifier.erasures import ERASED
from cli.verifier.rules import Act, Counted
from cli.verifier.shown import Json, utc

MOST: Final = 1_000
CLICKERS: Final = 10
NAMED: Final = 2_000
"""So many left out ones are counted exactly."""
NEAR: Final = 0.1

Ends = tuple[int, int, int, int]
"""First and last click in ms, then those of people; -1 where there is none."""


class Links(msgspec.Struct):
    rows: Rows
    """Name: the link."""
    positions: Rows
    """Name: link and position."""
    ends: dict[str, Ends]
    clickers: dict[str, dict[str, Counter[str]]]
    """Link → count (`all`, `people`) → address as compared → clicks."""


def of_recipients(recipients: Iterable[Counted]) -> Links:
    recipients = list(recipients)
    links = Links(engagement.rows_of(recipients, _link), engagement.rows_of(recipients, _position), {}, {})
    times: dict[str, dict[str, list[int]]] = {}
    for recipient in recipients:
        for fact, verdict in recipient.acts:
            if fact.type != "clicked" or not fact.link:
                continue
            clickers = links.clickers.setdefault(fact.link, {"all": Counter(), "people": Counter()})
            found = times.setdefault(fact.link, {"all": [], "people": []})
            for count in ("all", "people") if verdict == "human" else ("all",):
                clickers[count][fact.recipient.strip().lower()] += 1
                found[count].append(fact.at)
    for link, found in times.items():
        everyone, people = found["all"], found["people"]
        links.ends[link] = (
            min(everyone), max(everyone), min(people, default=-1), max(people, default=-1),
        )  # fmt: skip
    return links


def _link(act: Act) -> Name | None:
    return (act.fact.link or NOT_PROVIDED,) if act.fact.type == "clicked" else None


def _position(act: Act) -> Name | None:
    link = _link(act)
    return (*link, str(act.fact.position)) if link and act.fact.position else None


def compare(result: Comparison, place: str, what: str, wanted: Links, section: object, count: str) -> None:
    shown = msgspec.convert(section, Json)
    found = msgspec.convert(shown["rows"], list[Json])
    first, others = engagement.listed(wanted.rows, count, lambda row: row["clicks"], MOST)
    names = [name[0] for name in first]
    result.same(place, "links", f"{what}, order", names, [_name(row) for row in found])
    clicks = {name[0]: engagement.numbers(wanted.rows[name], count) for name in (*first, *others)}
    total = sum(row["clicks"] for row in clicks.values())
    rest = sum(clicks[name[0]]["clicks"] for name in others)
    other = msgspec.convert(shown["other"], dict[str, int])
    result.same(place, "links", f"{what}, other clicks", rest, other["total_clicks"])
    number = other["links"]
    # Where very many are left out, their number is from a sample.
    near = len(others) > NAMED and abs(number - len(others)) <= NEAR * len(others)
    result.same(place, "links", f"{what}, other links", len(others), len(others) if near else number)
    by_link = {_name(row): row for row in found}
    for name in names:
        if name not in by_link:
            continue  # the order says so already
        row = by_link[name]
        begin = 2 if count == "people" else 0
        ends = wanted.ends.get(name, (-1, -1, -1, -1))[begin : begin + 2]
        expected: Json = {
            "id": id_of(name),
            "total_clicks": clicks[name]["clicks"],
            "unique_clicks": clicks[name]["clicked"],
            "share": 100 * clicks[name]["clicks"] / total,
            "first_at": utc(ends[0]),
            "last_at": utc(ends[1]),
            "positions": _positions(wanted.positions, name, count),
        }
        result.mappings(place, "links", f"{what} {name}", expected, {key: row[key] for key in expected})
        top = row.get("top_clickers")
        if top is not None:
            _compare_clickers(result, place, f"{what} {name}", wanted.clickers[name][count], top)


def id_of(name: str) -> str:
    """By which a link is asked for."""
    if name == NOT_PROVIDED:
        return "0" * 16
    hidden, _, number = name.partition(" ")
    return number if hidden == ERASED and number else erasures.id_of(name)


def _name(row: Json) -> str:
    """What `erasures.named` calls the link of a row."""
    return f"{ERASED} {row['id']}" if row["link"] == ERASED else str(row["link"])


def _positions(positions: Rows, link: str, count: str) -> list[Json]:
    found = {
        int(name[1]): engagement.numbers(row, count)["clicks"]
        for name, row in positions.items()
        if name[0] == link
    }
    return [{"position": place, "total_clicks": n} for place, n in sorted(found.items()) if n]


def _compare_clickers(result: Comparison, place: str, what: str, wanted: Counter[str], shown: object) -> None:
    """Among equals any order is right."""
    rows = msgspec.convert(shown, list[Json])
    found = {
        str(row["recipient"]).strip().lower(): row["clicks"] for row in rows if row["recipient"] is not None
    }
    most = [clicks for _, clicks in wanted.most_common(CLICKERS)]
    result.same(place, "links", f"{what}, top clicks", most, [row["clicks"] for row in rows])
    result.same(place, "links", f"{what}, top clickers", {who: wanted[who] for who in found}, found)
    erased = Counter(clicks for who, clicks in wanted.items() if who.startswith(f"{ERASED} "))
    nameless = Counter(row["clicks"] for row in rows if row["recipient"] is None)
    others = {clicks: n for clicks, n in nameless.items() if n > erased.get(msgspec.convert(clicks, int), 0)}
    result.same(place, "links", f"{what}, top clickers without a name", {}, others)
