from __future__ import annotations

import pytest

from app import errors
from app.errors import ConfigError, PoisonEvent, RejectRequest, ReportsError, StateError, TryLater


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RejectRequest(401, "unauthorized", "no such key"), "no such key"),
        (PoisonEvent("not JSON"), "not JSON"),
        (TryLater(5, "the log is not accepting"), "the log is not accepting"),
        (ConfigError("REPORTS_HTTP", "must be host:port"), "REPORTS_HTTP: must be host:port"),
        (StateError("a gap in facts/3"), "a gap in facts/3"),
    ],
)
def test_each_is_a_reports_error_and_one_line(error: ReportsError, line: str) -> None:
    assert isinstance(error, ReportsError)
    assert str(error) == line


def test_what_they_carry() -> None:
    rejected = RejectRequest(413, "too_large", "too large")
    assert (rejected.status, rejected.code, rejected.message) == (413, "too_large", "too large")
    assert PoisonEvent("why").reason == "why"
    assert TryLater(7).retry_after_s == 7
    assert (ConfigError("a", "b").setting, ConfigError("a", "b").message) == ("a", "b")


def test_the_tree_in_the_docstring_is_whole() -> None:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, ReportsError):
            assert name in (errors.__doc__ or "")
