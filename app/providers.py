"""Mailbox providers by the domain of an address. What isn't in the table is "other domains".

The domains are those that the providers give to their own users, collected from memory and not checked against each
provider's pages: a domain that is missing here is counted under "other domains", never under a wrong provider.
Companies whose own domain is hosted at one of them are other domains here: only their MX records would tell.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

OTHER: Final = "other domains"

_DOMAINS: Final = {
    "Gmail": ("gmail.com", "googlemail.com"),
    "Microsoft": ("outlook.com", "hotmail.com", "live.com", "msn.com", "passport.com", "windowslive.com"),
    "Yahoo": ("yahoo.com", "ymail.com", "rocketmail.com", "myyahoo.com"),
    "AOL": ("aol.com", "aim.com", "netscape.net"),
    "Apple": ("icloud.com", "me.com", "mac.com", "privaterelay.appleid.com"),
    "GMX": ("gmx.de", "gmx.net", "gmx.at", "gmx.ch", "gmx.com", "gmx.org"),
    "Web.de": ("web.de",),
    "mail.com": ("mail.com", "email.com"),
    "T-Online": ("t-online.de", "magenta.de"),
    "freenet": ("freenet.de",),
    "Proton": ("proton.me", "protonmail.com", "protonmail.ch", "pm.me"),
    "Zoho": ("zoho.com", "zohomail.com", "zohomail.eu"),
    "Mail.ru": ("mail.ru", "bk.ru", "inbox.ru", "list.ru", "internet.ru"),
    "Yandex": ("yandex.ru", "yandex.com", "ya.ru", "narod.ru"),
    "Comcast": ("comcast.net",),
    "AT&T": ("att.net", "sbcglobal.net", "bellsouth.net"),
    "Verizon": ("verizon.net",),
    "Orange": ("orange.fr", "wanadoo.fr"),
    "Free": ("free.fr",),
    "SFR": ("sfr.fr", "neuf.fr"),
    "La Poste": ("laposte.net",),
    "Libero": ("libero.it", "virgilio.it", "iol.it"),
    "BT": ("btinternet.com", "btopenworld.com"),
    "Sky": ("sky.com",),
    "NetEase": ("163.com", "126.com", "yeah.net"),
    "QQ": ("qq.com", "foxmail.com"),
    "Naver": ("naver.com",),
    "UOL": ("uol.com.br", "bol.com.br"),
}
_BY_DOMAIN: Final = {domain: provider for provider, domains in _DOMAINS.items() for domain in domains}

# Providers with a domain for each country: the name before the country → provider.
_COUNTRY_NAMES: Final = {
    "yahoo": "Yahoo",
    "hotmail": "Microsoft",
    "live": "Microsoft",
    "outlook": "Microsoft",
    "aol": "AOL",
    "yandex": "Yandex",
}
_SECOND_LEVELS: Final = frozenset({"co", "com"})


@lru_cache(maxsize=65_536)
def provider_of(domain: str) -> str:
    """`domain` in lower case, without the @ → the provider's name."""
    known = _BY_DOMAIN.get(domain)
    if known:
        return known
    labels = domain.split(".")
    # yahoo.de, hotmail.co.uk, live.com.au
    if len(labels) == 2 and len(labels[1]) == 2:
        return _COUNTRY_NAMES.get(labels[0], OTHER)
    if len(labels) == 3 and labels[1] in _SECOND_LEVELS and len(labels[2]) == 2:
        return _COUNTRY_NAMES.get(labels[0], OTHER)
    return OTHER
