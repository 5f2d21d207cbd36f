"""Campaigns to look at: every section has something to show, and one campaign is hostile in every field."""

from __future__ import annotations

import random
import time

HOUR_MS = 3_600_000
EVIL = '"><svg onload=document.title=/owned/.source><img src=x onerror=document.title=1>'
EVIL_LINKS = (
    "javascript:document.title='owned'",
    f"https://evil.example/{EVIL}",
    "data:text/html,<b>x",
    "\u202ehttps://x",
)
LONG = "long-" + "x" * 10_000

PLACES = (
    ("DE", "Berlin", 40),
    ("DE", "Hamburg", 14),
    ("FR", "Paris", 20),
    ("US", "New York", 18),
    ("GB", "London", 12),
    ("JP", "Tokyo", 6),
    ("BR", "São Paulo", 7),
    ("IN", "Mumbai", 5),
    ("ZA", "Cape Town", 3),
    ("AU", "Sydney", 4),
)
AGENTS = (
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36", 40),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 "
     "(KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1", 35),
    ("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)", 25),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:131.0) Gecko/20100101 Thunderbird/128.0", 15),
    ("Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17928; Pro)", 20),
)  # fmt: skip
DOMAINS = (
    ("gmail.com", 45),
    ("outlook.com", 20),
    ("yahoo.com", 10),
    ("icloud.com", 9),
    ("firma.example", 16),
)
LINKS = (
    ("https://shop.example/spring", 40),
    ("https://shop.example/shoes?colour=red", 22),
    ("https://shop.example/sale", 15),
    ("https://shop.example/blog/how-to-choose-a-tent-for-a-family-of-four-and-a-dog", 9),
    ("https://shop.example/imprint", 3),
)
REASONS = ("mailbox full", "no such user", "blocked by policy")


def _one(chance: random.Random, table: tuple[tuple[object, ...], ...]) -> tuple[object, ...]:
    return chance.choices(table, [int(str(row[-1])) for row in table])[0]


def campaign(name: str, recipients: int, *, hours: int = 72, seed: int = 1) -> list[dict[str, object]]:
    """The events of a mailing that went out `hours` ago."""
    chance = random.Random(seed)
    begin = int(time.time() * 1000) - hours * HOUR_MS
    events: list[dict[str, object]] = []
    for number in range(recipients):
        who = f"person{number}@{_one(chance, DOMAINS)[0]}"
        variant = {"subject": "AB"[number % 2], "content": "XYZ"[number % 3]}
        at = begin + chance.randrange(HOUR_MS)

        def add(kind: str, at_ms: float, who: str = who, variant: object = variant, **more: object) -> None:
            events.append(
                {
                    "type": kind,
                    "campaign": name,
                    "recipient": who,
                    "at": int(at_ms),
                    "variant": variant,
                    **more,
                }
            )

        add("sent", at)
        if chance.random() < 0.04:
            add("bounced", at + 5_000, bounce="hard", reason=chance.choice(REASONS))
            continue
        add("delivered", at + 4_000)
        if chance.random() > (0.5 if variant["subject"] == "A" else 0.4):
            continue
        country, city, _ = _one(chance, PLACES)
        agent = _one(chance, AGENTS)[0]
        opened = at + chance.expovariate(1 / (hours * HOUR_MS / 6))
        for again in range(chance.choice((1, 1, 1, 2, 3))):
            add("opened", opened + again * HOUR_MS, country=country, city=city, user_agent=agent)
        if chance.random() < 0.35:
            link = _one(chance, LINKS)[0]
            add(
                "clicked",
                opened + 20_000,
                link=link,
                position=chance.randrange(1, 4),
                country=country,
                city=city,
                user_agent=agent,
            )
        if chance.random() < 0.02:
            add("unsubscribed", opened + 60_000)
        if chance.random() < 0.005:
            add("complained", opened + 60_000)
    limit = int(time.time() * 1000)
    return [event for event in events if int(str(event["at"])) <= limit]


def hostile() -> list[dict[str, object]]:
    at = int(time.time() * 1000) - HOUR_MS
    same: dict[str, object] = {
        "campaign": EVIL,
        "variant": {EVIL: EVIL},
        "user_agent": EVIL,
        "city": EVIL,
        "country": "DE",
    }
    events: list[dict[str, object]] = []
    for number, link in enumerate((*EVIL_LINKS, "https://long.example/" + LONG)):
        who = f"<svg/onload=alert({number})>@\u202eevil.example"
        events += [
            {"type": "sent", "recipient": who, "at": at, **same},
            {"type": "opened", "recipient": who, "at": at + 1_000, **same},
            {"type": "clicked", "recipient": who, "at": at + 9_000, "link": link, **same},
        ]
    events.append(
        {"type": "bounced", "recipient": "b@evil.example", "at": at, "bounce": "hard", "reason": EVIL, **same}
    )
    return events


def said(kind: str, name: str = "", at_ms: int | None = None) -> dict[str, object]:
    """Something that a recipient of the campaign `spring` did, now if no time is given; without a name a new one."""
    now_ms = int(time.time() * 1000)
    recipient = f"{name or f'new{now_ms}'}@example.com"
    return {"type": kind, "campaign": "spring", "recipient": recipient, "at": at_ms or now_ms}
