from __future__ import annotations

import pytest

from app.providers import OTHER, provider_of


@pytest.mark.parametrize(
    ("domain", "provider"),
    [
        ("gmail.com", "Gmail"),
        ("googlemail.com", "Gmail"),
        ("hotmail.co.uk", "Microsoft"),
        ("live.com.au", "Microsoft"),
        ("outlook.de", "Microsoft"),
        ("yahoo.co.jp", "Yahoo"),
        ("icloud.com", "Apple"),
        ("gmx.net", "GMX"),
        ("example.com", OTHER),
        ("yahoo.example", OTHER),
        ("mail.gmail.com", OTHER),
        ("notgmail.com", OTHER),
        ("live.org.au", OTHER),
        ("", OTHER),
    ],
)
def test_the_provider_of_a_domain(domain: str, provider: str) -> None:
    assert provider_of(domain) == provider
