from __future__ import annotations

from collections.abc import Callable

import pytest

from app.document import Table
from app.errors import ConfigError

TABLE = Table(
    "orgs.acme",
    {
        "name": "Acme",
        "number": 5,
        "yes": True,
        "list": ["a", "b"],
        "mixed": ["a", 1],
        "empty": [""],
        "inner": {"one": {"x": 1}, "two": {}},
        "bad": {"a b": {}},
        "flat": {"one": 1},
    },
)


def test_values_and_defaults() -> None:
    assert (TABLE.text("name", "x"), TABLE.text("none", "x")) == ("Acme", "x")
    assert (TABLE.texts("list"), TABLE.texts("none"), TABLE.texts("none", ("c",))) == (("a", "b"), (), ("c",))
    assert (TABLE.flag("yes"), TABLE.flag("none")) == (True, False)
    assert (TABLE.whole("number", 1, 5), TABLE.whole("none", 1, 5)) == (5, 1)
    assert [(name, table.path) for name, table in TABLE.tables("inner")] == [
        ("one", "orgs.acme.inner.one"),
        ("two", "orgs.acme.inner.two"),
    ]
    assert list(TABLE.tables("none")) == []


@pytest.mark.parametrize(
    ("question", "setting"),
    [
        (lambda: TABLE.known("name"), "orgs.acme.number"),
        (lambda: TABLE.text("number", ""), "orgs.acme.number"),
        (lambda: TABLE.texts("name"), "orgs.acme.name"),
        (lambda: TABLE.texts("mixed"), "orgs.acme.mixed"),
        (lambda: TABLE.texts("empty"), "orgs.acme.empty"),
        (lambda: TABLE.flag("number"), "orgs.acme.number"),
        (lambda: TABLE.whole("yes", 0, 5), "orgs.acme.yes"),
        (lambda: TABLE.whole("number", 0, 4), "orgs.acme.number"),
        (lambda: list(TABLE.tables("name")), "orgs.acme.name"),
        (lambda: list(TABLE.tables("bad")), "orgs.acme.bad.a b"),
        (lambda: list(TABLE.tables("flat")), "orgs.acme.flat.one"),
        (lambda: Table("", {"a": 1}).known(), "a"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(question: Callable[[], object], setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        question()
    assert caught.value.setting == setting
    assert "\n" not in str(caught.value)
