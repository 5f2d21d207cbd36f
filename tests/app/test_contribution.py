"""The definitions of docs/report.md, one by one, and that all numbers are sums."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import breakdown as b
from app import contribution as c
from app import facts as f
from app.breakdown import row_key
from app.facts import Entry
from app.summary import summary
from tests.support.facts import START_MS, book_of, entries, entry
from tests.support.folding import state_of

HOUR_MS = 3_600_000

Line = list[tuple[int, int, int]]
"""(type, hours after the start, evidence)"""


def contributed_by(line: list[Entry]) -> c.Contribution:
    return c.contribution(state_of(line), book_of(line))


def contributed(*line: tuple[int, float] | tuple[int, float, int]) -> c.Contribution:
    """Facts as (type, hours after the start[, evidence])."""
    made = [
        entry(kind, START_MS + int(hours * HOUR_MS), number=number, evidence=rest[0] if rest else 0)
        for number, (kind, hours, *rest) in enumerate(line)
    ]
    return c.contribution(state_of(made), book_of(made))


def hours(contribution: c.Contribution, metric: int) -> list[float]:
    """Hours after the start of a metric's cells, to the quarter."""
    start = START_MS // c.QUARTER_MS
    return [((cell & 0xFFFFFFFF) - start) / 4 for cell in contribution.cells if cell >> 32 == metric]


SENT_PLAIN = c.SENT | c.QUEUED


@pytest.mark.parametrize(
    ("line", "present", "absent"),
    [
        # sent
        ([(f.QUEUED, 0)], c.SENT, c.SENT_INFERRED | c.DELIVERED),
        ([(f.SENT, 0)], c.SENT | c.SENT_FACT, c.SENT_INFERRED),
        *[
            ([(kind, 0)], c.SENT | c.SENT_INFERRED, 0)
            for kind in (
                f.DELIVERED,
                f.DEFERRED,
                f.BOUNCED,
                f.OPENED,
                f.CLICKED,
                f.COMPLAINED,
                f.UNSUBSCRIBED,
                f.AUTORESPONDED,
            )
        ],
        ([(f.SUBSCRIBED, 0)], 0, c.SENT),
        ([(f.UNKNOWN, 0)], 0, c.SENT),
        ([(f.QUEUED, 0), (f.REJECTED, 1)], c.REJECTED, c.SENT),
        ([(f.QUEUED, 0), (f.REJECTED, 0)], c.REJECTED, c.SENT),  # at the same time: not sent
        ([(f.REJECTED, 0), (f.QUEUED, 1)], c.SENT, c.SENT_INFERRED),
        ([(f.QUEUED, 0), (f.FAILED, 1), (f.SENT, 2)], c.SENT | c.FAILED, 0),
        ([(f.QUEUED, 0), (f.REJECTED, 1), (f.OPENED, 2)], c.SENT, c.SENT_INFERRED),  # the open proves it
        # delivered
        ([(f.DELIVERED, 0)], c.DELIVERED, c.DELIVERED_INFERRED),
        *[
            ([(f.QUEUED, 0), (kind, 1)], c.DELIVERED | c.DELIVERED_INFERRED, 0)
            for kind in (f.OPENED, f.CLICKED, f.COMPLAINED, f.UNSUBSCRIBED)
        ],
        ([(f.QUEUED, 0), (f.AUTORESPONDED, 1)], c.SENT, c.DELIVERED),
        ([(f.BOUNCED, 0), (f.OPENED, 1)], c.BOUNCED, c.DELIVERED),  # hard: nothing is inferred
        ([(f.DELIVERED, 0), (f.BOUNCED, 1)], c.BOUNCED | c.DELIVERED, 0),
        # bounced
        ([(f.BOUNCED, 0)], c.BOUNCED, 0),
        ([(f.BOUNCED, 0), (f.DELIVERED, 1)], c.BOUNCED, 0),
        ([(f.BOUNCED, 0, f.SOFT_BOUNCE)], c.BOUNCED, 0),
        *[
            ([(f.BOUNCED, 0, f.SOFT_BOUNCE), (kind, 1)], 0, c.BOUNCED)
            for kind in (f.DELIVERED, f.OPENED, f.CLICKED)
        ],
        ([(f.BOUNCED, 1, f.SOFT_BOUNCE), (f.DELIVERED, 1)], c.BOUNCED, 0),  # not later
        ([(f.DELIVERED, 0), (f.BOUNCED, 1, f.SOFT_BOUNCE)], c.BOUNCED, 0),
        ([(f.BOUNCED, 0, f.SOFT_BOUNCE), (f.COMPLAINED, 1)], c.BOUNCED, 0),
        ([(f.DEFERRED, 0)], c.DEFERRED, c.BOUNCED),
        # opened and clicked, by everyone and by people
        ([(f.OPENED, 0)], c.OPENED | c.OPENED_PEOPLE, c.CLICKED),
        ([(f.OPENED, 0, f.MACHINE)], c.OPENED, c.OPENED_PEOPLE),
        ([(f.CLICKED, 0, f.AGENT_SCANNER)], c.CLICKED, c.CLICKED_PEOPLE | c.OPENED),
        ([(f.OPENED, 0, f.AGENT_PROXY), (f.OPENED, 1)], c.OPENED | c.OPENED_PEOPLE, 0),
        # complained and unsubscribed are not undone
        ([(f.UNSUBSCRIBED, 0), (f.SUBSCRIBED, 1)], c.UNSUBSCRIBED, c.UNSUBSCRIBED_SUSPECTED),
        ([(f.UNSUBSCRIBED, 0, f.AGENT_SCANNER)], c.UNSUBSCRIBED | c.UNSUBSCRIBED_SUSPECTED, 0),
    ],
)
def test_a_recipient_counts_where_the_definition_says_so(line: Line, present: int, absent: int) -> None:
    pattern = contributed(*line).pattern
    assert pattern & present == present
    assert not pattern & absent


def test_hours_are_those_of_first_events() -> None:
    found = contributed(
        (f.OPENED, 3, f.MACHINE), (f.OPENED, 5), (f.OPENED, 7), (f.CLICKED, 6), (f.QUEUED, 1), (f.SENT, 2)
    )
    assert hours(found, c.FIRST_SENT) == [1]
    assert hours(found, c.FIRST_OPENED) == [3]
    assert hours(found, c.FIRST_OPENED_PEOPLE) == [5]
    assert hours(found, c.FIRST_CLICKED) == hours(found, c.FIRST_CLICKED_PEOPLE) == [6]
    assert hours(found, c.OPENS) == [5, 7]
    assert hours(found, c.OPENS + 1) == [3]
    assert found.last_at_ms == START_MS + 7 * HOUR_MS


def test_without_a_sent_fact_the_first_proof_gives_the_hour() -> None:
    assert hours(contributed((f.OPENED, 4), (f.DELIVERED, 2)), c.FIRST_SENT) == [2]


def test_excluded_addresses_count_nowhere() -> None:
    found = contributed((f.QUEUED, 0, f.EXCLUDED), (f.OPENED, 1, f.EXCLUDED))
    # The event log shows them, so their types are counted for it.
    types = {row_key(b.TYPE, f.QUEUED): 1, row_key(b.TYPE, f.OPENED): 1}
    assert found == c.NOTHING._replace(rows=types)


@given(st.lists(entries(), max_size=12))
def test_hours_add_up_to_the_summary(line: list[tuple[str, Entry]]) -> None:
    found = contributed_by([one for _, one in line])
    firsts = {
        c.FIRST_SENT: c.SENT,
        c.FIRST_OPENED: c.OPENED,
        c.FIRST_OPENED_PEOPLE: c.OPENED_PEOPLE,
        c.FIRST_CLICKED: c.CLICKED,
        c.FIRST_CLICKED_PEOPLE: c.CLICKED_PEOPLE,
    }
    for metric, bit in firsts.items():
        assert len(hours(found, metric)) == bool(found.pattern & bit)


def test_the_summary_of_the_documentation() -> None:
    """The example of the interface: 1,000 sent, 990 delivered, 410 opened, 95 clicked, 3 of them without an open."""
    patterns = {
        SENT_PLAIN | c.DELIVERED: 577,
        SENT_PLAIN | c.DELIVERED | c.OPENED: 318,
        SENT_PLAIN | c.DELIVERED | c.OPENED | c.CLICKED: 92,
        SENT_PLAIN | c.DELIVERED | c.CLICKED: 3,
        SENT_PLAIN | c.BOUNCED: 10,
    }
    totals = [0] * c.METRICS
    totals[c.OPENS : c.OPENS + 3] = [300, 380, 22]
    totals[c.CLICKS : c.CLICKS + 3] = [100, 0, 31]
    found = summary(patterns, totals, "all")
    assert {name: found[name] for name in ("sent", "delivered", "opened", "clicked", "bounced")} == {
        "sent": 1000, "delivered": 990, "opened": 410, "clicked": 95, "bounced": 10,
    }  # fmt: skip
    assert (found["total_opens"], found["total_clicks"], found["clicked_without_open"]) == (702, 131, 3)
    assert found["open_rate"] == 41.0
    assert found["click_to_open_rate"] == 23.170731707317074
    assert found["openers_who_clicked_rate"] == 22.439024390243902
    assert found["opens_by_verdict"] == {"human": 300, "proxy": 380, "scanner": 22}
    people = summary(patterns, totals, "people")
    assert (people["opened"], people["total_opens"], people["total_clicks"]) == (0, 300, 100)
    assert people["click_to_open_rate"] is None
