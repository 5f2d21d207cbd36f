"""A source that is not known is told of once, counted, and over when the configuration knows it."""

from __future__ import annotations

import logging

import pytest

from agents.unknown_sources import CODE, UnknownSources
from app.organisations import Organisation, Organisations, Source
from tables.conditions import Conditions


def known(*names: str) -> Organisations:
    sources = {name: Source(org="acme", name=name, esp="mailgun") for name in names}
    return Organisations({"acme": Organisation(id="acme", name="Acme", timezone="UTC", sources=sources)})


def test_it_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    conditions = Conditions()
    unknown = UnknownSources(conditions)
    unknown.reloaded(known("news"))
    assert conditions.current() == ()
    with caplog.at_level(logging.INFO, "reports.conditions"):
        for _ in range(50):
            unknown.note("acme", "offers")
        assert len(caplog.records) == 1
        unknown.note("acme", "receipts")
    (one,) = conditions.current()
    assert (one.code, one.count, one.reason) == (CODE, 51, None)
    assert "acme/offers, acme/receipts: " in one.message
    assert "reports dead replay --reason 'unknown source'" in one.message
    unknown.reloaded(known("news", "offers"))
    (one,) = conditions.current()
    assert "offers" not in one.message
    unknown.reloaded(known("news", "offers", "receipts"))
    assert conditions.current() == ()
    unknown.note("acme", "more")
    assert conditions.current()[0].count == 1


def test_many_are_named_in_part() -> None:
    conditions = Conditions()
    unknown = UnknownSources(conditions)
    for number in range(3_000):
        unknown.note("acme", f"s{number}")
    (one,) = conditions.current()
    assert one.count == 3_000
    assert "acme/s4 and 995 more: " in one.message
