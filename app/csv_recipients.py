"""Rows of CSV straight from recipients' states: what `app.csv_rows` makes of their items, fifteen times as fast.

Rules:
- The definition is `row(recipient_item(…))`: a property test says that the rows are the same.
- Recipients to whom the same things happened in the same order have the same row but for times and names. So a `Plan`
  is made for each order that is met often, by the definition itself, from facts that stand far apart, and compiled.
- What depends on more than the order goes the long way: facts beyond the bound, and what may be judged by the facts
  beside it (`verdicts.judge`: bursts, scanners, soon after a delivery).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, cast

from app import contribution as c
from app import facts as f
from app.csv_rows import END, text_cell, variant_text
from app.csv_times import HOUR_MS, LAST_MS, MILLISECONDS, SECONDS, Times
from app.facts import Fact, Identity
from app.items import Course, Texts, client_name, country_name, course, status_of, variant_fields
from app.state import RecipientState
from app.summary import Count
from app.verdicts import DEFAULT_RULES, HUMAN, SCANNER, Rules, own_verdict

KEPT: Final = 50_000
"""Entries of a table of names; one that is full begins anew."""
COMPILED: Final = 1_000
"""Plans that are kept: 4 KB each."""
WORTH: Final = 16
"""How often an order is met before it is compiled: that takes as long as thirty rows the long way."""
_LONGEST: Final = 16
"""Facts of a recipient; beyond that hardly two have the same order."""
_APART_MS: Final = 1_000_000_000_000
_JUDGED: Final = (f.OPENED, f.CLICKED)

Kept = Callable[[int, int, int], bool]
"""Pattern, number of the variant, number of the place that gives the country → whether the recipient is shown."""
Make = Callable[[RecipientState, list[Fact], str], str | None]
"""A state, its facts and the first cell → the row; None for a recipient who isn't shown."""


class Plan(NamedTuple):
    """The row of all to whom this happened in this order. Facts are named by their places."""

    pattern: int
    head: tuple[str, ...]
    """The cells between the address and the times."""
    times: tuple[int | None, ...]
    """Whose time stands in each cell."""
    gaps: tuple[tuple[int, int], ...]
    """(delivery, open or click behind it): too near to each other, and the verdict may be another."""
    strict: bool
    """Facts of the same time may change places, and that may change the row."""
    engaged: tuple[int, ...]
    """Which may give the client."""
    counted: tuple[int, ...]
    """Which may give the variant."""
    human: tuple[int, ...]
    """Which may give the country."""


class RecipientRows:
    """Not for use from several threads."""

    def __init__(
        self, texts: Texts, count: Count, rules: Rules = DEFAULT_RULES, kept: Kept | None = None
    ) -> None:
        """`kept`: which recipients are wanted; None: all."""
        self._texts = texts
        self._kept = kept
        self._count: Count = count
        self._rules = rules
        self._makers: dict[tuple[int, ...], Make] = {}
        self._seen: dict[tuple[int, ...], int] = {}
        self._names: dict[tuple[int, tuple[int, ...], int], str] = {}
        self._time = Times()

    def row(self, state: RecipientState, address: str) -> str | None:
        """`address`: the first cell. None for a recipient who isn't wanted, or of whom nothing counts: they aren't in
        the table."""
        facts = state.facts
        order = tuple([fact.type | fact.evidence << 4 for fact in facts])
        try:
            return self._makers[order](state, facts, address)
        except KeyError:  # an order that isn't compiled, or an hour that was never asked for
            self._learn(order)
            return self._long_way(state, facts, address)

    def _long_way(self, state: RecipientState, facts: list[Fact], address: str) -> str | None:
        found = course(state, self._count, self._rules)
        if found.last_event_at_ms < 0:
            return None
        if self._kept is not None and not self._kept(found.pattern, found.variant, found.place):
            return None
        time = self._time.text
        names = self._names.get((found.variant, found.agents, found.place))
        if names is None:
            names = self._learn_names(found.variant, found.agents, found.place)
        return ",".join(
            [
                address,
                *_head(found, self._count),
                *[time(at_ms) if at_ms >= 0 else "" for at_ms in found.times],
                names,
            ]
        )

    def _learn_names(self, variant: int, agents: tuple[int, ...], place: int) -> str:
        if len(self._names) >= KEPT:
            self._names.clear()
        fields = variant_fields(self._texts, variant)
        cells = (
            variant_text(fields) if fields else "",
            client_name(self._texts, tuple(agent for agent in agents if agent)) or "",
            country_name(self._texts, place) or "",
        )
        names = ",".join(map(text_cell, cells)) + END
        self._names[variant, agents, place] = names
        return names

    def _learn(self, order: tuple[int, ...]) -> None:
        if len(order) > _LONGEST or order in self._makers:
            return
        if len(self._seen) >= KEPT:
            self._seen.clear()
        seen = self._seen[order] = self._seen.get(order, 0) + 1
        if seen >= WORTH:
            if len(self._makers) >= COMPILED:
                self._makers.clear()
            plan = _plan(order, self._count, self._rules)
            self._makers[order] = self._long_way if plan is None else self._compiled(plan, len(order))

    def _compiled(self, plan: Plan, facts: int) -> Make:
        """A function of its own for a plan: a third faster than one that reads the plan."""
        names = {
            "long_way": self._long_way,
            "kept": self._kept,
            "pattern": plan.pattern,
            "soon_ms": self._rules.click_after_ms + self._rules.open_after_ms,
            "names_of": self._names.get,
            "learn_names": self._learn_names,
            "hours": self._time.hours,
            "seconds": SECONDS,
            "milliseconds": MILLISECONDS,
            "hour_ms": HOUR_MS,
            "last_ms": LAST_MS,
        }
        # Made of numbers and words of this module alone; nothing that came from outside stands in it.
        exec(_program(plan, facts, filtered=self._kept is not None), names)  # noqa: S102
        return cast(Make, names["make"])


def _program(plan: Plan, facts: int, *, filtered: bool) -> str:
    """The text of `make(state, facts, address)`."""
    places = range(facts)

    def first(field: str, of: tuple[int, ...]) -> str:
        return " or ".join(f"f{n}.{field}" for n in of) or "0"

    ways_off = ["state.overflow", f"f{facts - 1}.at_ms > last_ms"]
    ways_off += [f"f{behind}.at_ms - f{before}.at_ms <= soon_ms" for before, behind in plan.gaps]
    if plan.strict:
        ways_off += [f"f{n}.at_ms == f{n + 1}.at_ms" for n in places[:-1]]
    lines = [
        f"{', '.join(f'f{n}' for n in places)}, = facts",
        f"if {' or '.join(ways_off)}: return long_way(state, facts, address)",
        f"variant = {first('variant', plan.counted)}",
        f"place = {first('place', plan.human)}",
        *(["if not kept(pattern, variant, place): return None"] if filtered else []),
        f"key = (variant, ({''.join(f'f{n}.agent, ' for n in plan.engaged)}), place)",
        "names = names_of(key)",
        "if names is None: names = learn_names(*key)",
    ]
    for n in sorted({n for n in plan.times if n is not None}):
        lines += [
            f"h = f{n}.at_ms // hour_ms",
            f"r = f{n}.at_ms - h * hour_ms",
            f"t{n} = hours[h] + seconds[r // 1000] + milliseconds[r % 1000]",
        ]
    cells = ["{address}", *plan.head, *("" if n is None else f"{{t{n}}}" for n in plan.times), "{names}"]
    lines.append(f"return f'{','.join(cells)}'")
    return "def make(state, facts, address):\n" + "".join(f"    {line}\n" for line in lines)


def _plan(order: tuple[int, ...], count: Count, rules: Rules) -> Plan | None:
    """None where the order alone doesn't tell the row."""
    facts = [
        Fact(Identity(b""), (number + 1) * _APART_MS, one & 15, one >> 4, 0)
        for number, one in enumerate(order)
    ]
    clicks = sum(fact.type == f.CLICKED for fact in facts)
    if rules.burst_links and clicks > 1 and clicks >= rules.burst_links:
        return None
    verdicts = [own_verdict(fact) if fact.type in _JUDGED else HUMAN for fact in facts]
    if SCANNER in verdicts:
        return None
    found = course(RecipientState(1, "", facts), count, rules)
    if found.last_event_at_ms < 0:
        return None
    counted = [n for n, fact in enumerate(facts) if not fact.evidence & f.EXCLUDED]
    gaps = []
    delivered: int | None = None
    for number, fact in enumerate(facts):
        if fact.type == f.DELIVERED:
            delivered = number
        elif fact.type in _JUDGED and delivered is not None:
            gaps.append((delivered, number))
            delivered = None
    return Plan(
        pattern=found.pattern,
        head=_head(found, count),
        times=tuple(at_ms // _APART_MS - 1 if at_ms >= 0 else None for at_ms in found.times),
        gaps=tuple(gaps),
        strict=any(
            fact.type in (f.REJECTED, f.FAILED) or (fact.type == f.BOUNCED and fact.evidence & f.SOFT_BOUNCE)
            for fact in facts
        ),
        engaged=tuple(n for n in counted if facts[n].type in _JUDGED),
        counted=tuple(counted),
        human=tuple(n for n in counted if verdicts[n] == HUMAN),
    )


def _head(found: Course, count: Count) -> tuple[str, ...]:
    """The cells between the address and the times."""
    people = count == "people"
    return (
        status_of(found.pattern) or "",
        "true" if found.pattern & (c.OPENED_PEOPLE if people else c.OPENED) else "false",
        "true" if found.pattern & (c.CLICKED_PEOPLE if people else c.CLICKED) else "false",
        str(found.opens),
        str(found.clicks),
    )
