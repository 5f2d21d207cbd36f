"""All that is wrong with a configuration, for people: a loader stops at the first thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from app.errors import ConfigError
from app.settings import settings_from
from cli.config import ConfigFile, judge_organisations, load_settings, parse_toml


def complaints(
    environ: Mapping[str, str], file: ConfigFile | ConfigError, *, with_secrets: bool = True
) -> Iterator[str]:
    """Every wrong part of the configuration: a loader stops at the first, so each part is loaded by itself.

    A line may come several times. `with_secrets`: whether those that are not on this host are wrong.
    """
    for variable in environ:
        yield from complaint(partial(settings_from, {variable: environ[variable]}, {}))
    if isinstance(file, ConfigError):
        yield str(file)
        return
    try:
        document = parse_toml(file)
        table = document.get("settings", {})
        if isinstance(table, dict):
            for name in table:
                yield from complaint(partial(settings_from, {}, {name: table[name]}))
        settings = load_settings(environ, file=file)
    except ConfigError as error:
        yield str(error)
        return
    for part in _parts(document):
        yield from complaint(partial(judge_organisations, part, environ, settings, with_secrets=with_secrets))


def _parts(document: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The document without organisations; each of them alone; each of their keys and sources alone; all together."""
    yield {name: value for name, value in document.items() if name != "orgs"}
    organisations = document.get("orgs")
    if isinstance(organisations, dict):
        for org, table in organisations.items():
            if not isinstance(table, dict):
                yield {"orgs": {org: table}}
                continue
            yield {
                "orgs": {
                    org: {name: value for name, value in table.items() if name not in ("keys", "sources")}
                }
            }
            for group in ("keys", "sources"):
                members = table.get(group, {})
                if isinstance(members, dict):
                    yield from ({"orgs": {org: {group: {name: members[name]}}}} for name in members)
    yield dict(document)


def complaint(load: Callable[[], object]) -> Iterator[str]:
    try:
        load()
    except ConfigError as error:
        yield str(error)
