from __future__ import annotations

import copy
from typing import Any

import pytest

from app.errors import ConfigError
from app.esps import ESPS
from app.organisations import (
    DEFAULT_CAMPAIGN_TEMPLATES,
    Organisations,
    Unusable,
    parse_organisations,
    same_secrets,
    without_secrets,
)
from tests.support import locks

SECRETS = {
    "env:KEY": b"key-secret",
    "env:OTHER": b"other-secret",
    "env:PUBLIC": locks.SENDGRID.public,
    "env:BASIC": b"user:password",
    "env:EMPTY": b"",
}

DOCUMENT: dict[str, Any] = {
    "settings": {"partitions": 4},
    "orgs": {
        "acme": {
            "name": "Acme",
            "timezone": "Europe/Berlin",
            "exclude": ["*@acme.example"],
            "proxy_networks": ["203.0.113.7"],
            "scanner_networks": ["198.51.100.0/24", "2001:db8::/32"],
            "keys": {
                "dashboard": {"secret": "env:KEY", "scopes": ["read"]},
                "loader": {"secret": "env:OTHER", "scopes": ["read", "write", "ops"]},
            },
            "sources": {
                "news": {
                    "esp": "sendgrid",
                    "secrets": ["env:PUBLIC"],
                    "campaign": ["{metadata.campaign_id}-{metadata.run}", "{tag}"],
                    "strip_query": ["utm_*"],
                    "hidden_links": ["https://example.com/trap*"],
                },
                "app": {"esp": "generic"},
            },
        }
    },
}


def resolve(reference: str, unusable: Unusable) -> bytes:
    secret = SECRETS.get(reference)
    problem = f"no {reference}" if secret is None else unusable(secret)
    if secret is None or problem:
        raise LookupError(problem)
    return secret


def parse(document: dict[str, Any] = DOCUMENT) -> Organisations:
    return parse_organisations(document, resolve, ESPS)


def with_changed(path: str, value: object) -> dict[str, Any]:
    """The document with one thing put somewhere; None takes it away."""
    document = copy.deepcopy(DOCUMENT)
    *above, last = path.split("/")
    table = document
    for name in above:
        table = table.setdefault(name, {})
    if value is None:
        del table[last]
    else:
        table[last] = value
    return document


def test_a_whole_document() -> None:
    organisations = parse()
    acme = organisations.by_id["acme"]
    assert (acme.id, acme.name, acme.timezone, acme.exclude) == (
        "acme",
        "Acme",
        "Europe/Berlin",
        ("*@acme.example",),
    )
    assert acme.proxy_networks == ("203.0.113.7",)
    assert acme.scanner_networks == ("198.51.100.0/24", "2001:db8::/32")
    assert acme.sources["news"].hidden_links == ("https://example.com/trap*",)
    assert [(key.name, key.org, key.secret, key.scopes) for key in acme.keys] == [
        ("dashboard", "acme", b"key-secret", frozenset({"read"})),
        ("loader", "acme", b"other-secret", frozenset({"read", "write", "ops"})),
    ]
    news = acme.sources["news"]
    assert (news.org, news.name, news.esp, news.secrets) == (
        "acme",
        "news",
        "sendgrid",
        (locks.SENDGRID.public,),
    )
    assert news.campaign == ("{metadata.campaign_id}-{metadata.run}", "{tag}")
    assert (news.default_campaign, news.variant_prefix, news.strip_query) == ("unassigned", "ab_", ("utm_*",))
    assert acme.sources["app"].campaign == DEFAULT_CAMPAIGN_TEMPLATES
    assert acme.generic_source() is acme.sources["app"]


def test_finding() -> None:
    organisations = parse()
    found = organisations.find_key(b"other-secret")
    assert found is not None
    assert found.name == "loader"
    assert organisations.find_key(b"") is None
    assert organisations.find_key("schlüssel".encode()) is None
    assert organisations.find_source("acme", "news") is not None
    assert organisations.find_source("acme", "none") is None
    assert organisations.find_source("none", "news") is None


def test_no_organisation_is_allowed() -> None:
    assert parse({}) == Organisations({})


ORG = "orgs/acme"
NEWS = f"{ORG}/sources/news"
DASHBOARD = f"{ORG}/keys/dashboard"


@pytest.mark.parametrize(
    ("path", "value", "setting"),
    [
        ("organisations", {}, "organisations"),
        ("orgs", [], "orgs"),
        ("orgs/a b", {}, "orgs.a b"),
        ("orgs/..", {}, "orgs..."),
        (f"orgs/{'a' * 65}", {}, f"orgs.{'a' * 65}"),
        ("orgs/ümlaut", {}, "orgs.ümlaut"),
        ("orgs/beta", "x", "orgs.beta"),
        (f"{ORG}/timezone", "Europe/Berlyn", "orgs.acme.timezone"),
        (f"{ORG}/timezone", "../../etc/passwd", "orgs.acme.timezone"),
        (f"{ORG}/timezone", "Europe", "orgs.acme.timezone"),
        (f"{ORG}/timezone", "", "orgs.acme.timezone"),
        (f"{ORG}/timezone", 1, "orgs.acme.timezone"),
        (f"{ORG}/name", 5, "orgs.acme.name"),
        (f"{ORG}/exclude", "x", "orgs.acme.exclude"),
        (f"{ORG}/exclude", [""], "orgs.acme.exclude"),
        (f"{ORG}/proxy_networks", "203.0.113.0/24", "orgs.acme.proxy_networks"),
        (f"{ORG}/proxy_networks", ["203.0.113.0/24", "example.com"], "orgs.acme.proxy_networks[1]"),
        (f"{ORG}/scanner_networks", ["203.0.113.7/24"], "orgs.acme.scanner_networks[0]"),
        (f"{ORG}/scanner_networks", ["203.0.113.0/33"], "orgs.acme.scanner_networks[0]"),
        (f"{ORG}/scanner_networks", ["0.0.0.0/0"], "orgs.acme.scanner_networks[0]"),
        (f"{ORG}/scanner_networks", ["198.51.100.0/24", "203.0.113.7"], "orgs.acme.scanner_networks[1]"),
        (f"{ORG}/scanner_networks", [4], "orgs.acme.scanner_networks"),
        (f"{ORG}/color", "red", "orgs.acme.color"),
        (f"{ORG}/keys", [], "orgs.acme.keys"),
        (f"{DASHBOARD}/scopes", ["admin"], "orgs.acme.keys.dashboard.scopes"),
        (f"{DASHBOARD}/scopes", [], "orgs.acme.keys.dashboard.scopes"),
        (f"{DASHBOARD}/scopes", None, "orgs.acme.keys.dashboard.scopes"),
        (f"{DASHBOARD}/secret", None, "orgs.acme.keys.dashboard.secret"),
        (f"{DASHBOARD}/secret", "plain-text-secret", "orgs.acme.keys.dashboard.secret"),
        (f"{DASHBOARD}/secret", "env:MISSING", "orgs.acme.keys.dashboard.secret"),
        (f"{DASHBOARD}/secret", "env:EMPTY", "orgs.acme.keys.dashboard.secret"),
        (f"{DASHBOARD}/scope", ["read"], "orgs.acme.keys.dashboard.scope"),
        (f"{NEWS}/esp", None, "orgs.acme.sources.news.esp"),
        (f"{NEWS}/esp", "sendgird", "orgs.acme.sources.news.esp"),
        (f"{NEWS}/esp", "generic", "orgs.acme.sources.app.esp"),
        (f"{NEWS}/secrets", None, "orgs.acme.sources.news.secrets"),
        (f"{NEWS}/secrets", ["env:PUBLIC", "MFkwEwYHKoZI"], "orgs.acme.sources.news.secrets[1]"),
        (f"{NEWS}/secret", "env:PUBLIC", "orgs.acme.sources.news.secret"),
        (f"{NEWS}/basic", ["env:KEY"], "orgs.acme.sources.news.basic[0]"),
        (f"{NEWS}/insecure", True, "orgs.acme.sources.news.insecure"),
        (f"{NEWS}/insecure", "yes", "orgs.acme.sources.news.insecure"),
        (f"{NEWS}/campaign", ["{metadata.id"], "orgs.acme.sources.news.campaign[0]"),
        (f"{NEWS}/campaign", ["{tag}", "{subject}"], "orgs.acme.sources.news.campaign[1]"),
        (f"{NEWS}/hidden_links", "https://example.com/trap", "orgs.acme.sources.news.hidden_links"),
        (f"{NEWS}/hidden_links", ["example.com/trap"], "orgs.acme.sources.news.hidden_links[0]"),
        (f"{NEWS}/hidden_links", ["https://a.example/b", "*"], "orgs.acme.sources.news.hidden_links[1]"),
        (f"{NEWS}/hidden_links", ["https://*/*"], "orgs.acme.sources.news.hidden_links[0]"),
        (f"{ORG}/sources/app/hidden_link", ["*/trap"], "orgs.acme.sources.app.hidden_link"),
        (f"{NEWS}/default_campaign", "", "orgs.acme.sources.news.default_campaign"),
        (f"{NEWS}/org", "other", "orgs.acme.sources.news.org"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(path: str, value: object, setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(with_changed(path, value))
    assert caught.value.setting == setting
    assert "\n" not in str(caught.value)
    assert "plain-text-secret" not in str(caught.value)


@pytest.mark.parametrize("limit", [-1, 1.5, "5", True, 10**9])
def test_a_limit_is_a_whole_number(limit: object) -> None:
    assert parse().by_id["acme"].sources["news"].rate_limit == 0
    assert parse(with_changed(f"{NEWS}/rate_limit", 50)).by_id["acme"].sources["news"].rate_limit == 50
    with pytest.raises(ConfigError, match=r"^orgs\.acme\.sources\.news\.rate_limit: must be"):
        parse(with_changed(f"{NEWS}/rate_limit", limit))


def test_insecure_without_secrets_is_taken() -> None:
    document = with_changed(f"{NEWS}/secrets", None)
    document["orgs"]["acme"]["sources"]["news"]["insecure"] = True
    assert parse(document).by_id["acme"].sources["news"].insecure


def test_basic_alone_verifies() -> None:
    document = with_changed(f"{NEWS}/secrets", None)
    document["orgs"]["acme"]["sources"]["news"]["basic"] = ["env:BASIC"]
    assert parse(document).by_id["acme"].sources["news"].basic == (b"user:password",)


def test_no_repr_shows_a_secret() -> None:
    shown = repr(parse())
    assert "acme" in shown
    for secret in SECRETS.values():
        assert not secret or secret.decode() not in shown


def test_two_api_keys_with_one_secret_are_nobody_s() -> None:
    """Whichever was overwritten with the other: it must not let one's owner in as the other."""
    document = with_changed("orgs/acme/keys/again", {"secret": "env:A", "scopes": ["read"]})
    document["orgs"]["globex"] = {"keys": {"k": {"secret": "env:B", "scopes": ["read"]}}}
    keys = {"env:A": b"key-secret", "env:B": b"another"}
    found = parse_organisations(
        document, lambda reference, unusable: keys.get(reference) or resolve(reference, unusable), ESPS
    )
    ((second, first),) = same_secrets(found)
    assert (second.name, first.name) == ("again", "dashboard")
    without = without_secrets(found, [first, second])
    assert without.find_key(b"key-secret") is None and without.find_key(b"") is None
    key = without.find_key(b"another")
    assert key is not None and key.org == "globex"
    assert without.waiting() == ["orgs.acme.keys.dashboard", "orgs.acme.keys.again"]
