"""What hosts have to agree on: which changes are told, and that no hash gives a secret away."""

from __future__ import annotations

import msgspec
import pytest

from app.configuration import PARTS, differences, fingerprints
from app.organisations import ApiKey, Organisation, Organisations, Source
from app.settings import Settings

SETTINGS = Settings(secret=b"an installation's secret", max_body=1_000_000)
SOURCE = Source(org="acme", name="news", esp="mailgun", secrets=(b"signing key",), strip_query=("utm_*",))
KEY = ApiKey(name="k", org="acme", secret=b"api key", scopes=frozenset({"read", "write", "ops"}))
ACME = Organisation(id="acme", name="Acme", timezone="UTC", keys=(KEY,), sources={"news": SOURCE})
replace = msgspec.structs.replace


def said(settings: Settings = SETTINGS, *organisations: Organisation) -> dict[str, str]:
    return dict(fingerprints(settings, Organisations({one.id: one for one in organisations or (ACME,)})))


def source(**changes: object) -> Organisation:
    return replace(ACME, sources={"news": replace(SOURCE, **changes)})


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (said(replace(SETTINGS, partitions=4)), "partitions"),
        (said(replace(SETTINGS, burst_ms=1)), "rules"),
        (said(replace(SETTINGS, max_body=1)), "max_body"),
        (said(SETTINGS, replace(ACME, timezone="Asia/Kathmandu")), "organisations"),
        (said(SETTINGS, replace(ACME, exclude=("seed-*",))), "organisations"),
        (said(SETTINGS, source(campaign=("{tag}",))), "organisations"),
        (said(SETTINGS, source(strip_query=())), "organisations"),
        (said(SETTINGS, replace(ACME, keys=(replace(KEY, scopes=frozenset({"read"})),))), "organisations"),
        (said(SETTINGS, replace(ACME, keys=(replace(KEY, secret=b"another"),))), "secrets"),
        (said(SETTINGS, source(secrets=(b"another",))), "secrets"),
        (said(SETTINGS, source(basic=(b"a:b",))), "secrets"),
    ],
)
def test_a_change_is_told_as_what_it_is(other: dict[str, str], part: str) -> None:
    assert {name for name in PARTS if said()[name] != other[name]} == {part}
    message = differences([("api on a", said()), ("normalize on a", said()), ("normalize on b", other)])
    assert message is not None
    assert message.startswith(f"{PARTS[part]} between [normalize on b] and [api on a, normalize on a]. ")
    assert "SIGHUP" in message


def test_what_may_differ_is_in_no_hash() -> None:
    elsewhere = replace(SETTINGS, http="0.0.0.0:80", log_level="debug", redis="redis://r/1", geoip="/x")
    assert said() == said(elsewhere)
    other = replace(ACME, id="other")
    assert said(SETTINGS, ACME, other) == said(SETTINGS, other, ACME)


def test_who_does_not_go_by_organisations_does_not_differ_in_them() -> None:
    assert differences([("api on a", said()), ("query on b", fingerprints(SETTINGS, None))]) is None
    assert differences([("older on b", {}), ("api on a", said())]) is None


@pytest.mark.parametrize(
    "lacking",
    [
        replace(ACME, keys=(replace(KEY, secret=b"", absent=True),)),
        source(secrets=(), absent=("secrets",)),
    ],
)
def test_a_secret_that_is_not_on_a_host_is_no_difference_between_files(lacking: Organisation) -> None:
    assert differences([("api on a", said()), ("api on b", said(SETTINGS, lacking))]) is None
    other = replace(lacking, timezone="Asia/Kathmandu")
    assert differences([("api on a", said()), ("api on b", said(SETTINGS, other))]) is not None
    assert differences([]) is None


def test_hashes_are_keyed() -> None:
    other = said(replace(SETTINGS, secret=b"another installation's"))
    assert all(other[part] != said()[part] for part in PARTS)
