"""What the traffic is made of: user agents, networks, links, reasons. All of it made up or taken from public strings.

Rules:
- Addresses of people are synthetic (`r000123@…`) at reserved domains; a mailbox provider shows by its subdomain.
- Addresses of machines are of the documentation ranges, and some of private ones, so that "unknown place" occurs.
- Each agent says which verdict an open or click with it gets by that alone, and what a report must read in it; a test
  holds the parser to it. Which further signs there are (bursts, a second too soon) is for who counts to find out.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Agent(NamedTuple):
    """A user agent, and what a report must read in it; None where it says nothing."""

    user_agent: str
    client: str | None
    device: str | None
    system: str | None
    browser: str | None
    verdict: str


NOBODY: Final = Agent("", None, None, None, None, "human")

PEOPLE: Final = (
    Agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Safari/537.36",
        None,
        "desktop",
        "Windows",
        "Chrome",
        "human",
    ),
    Agent(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.5 Safari/605.1.15",
        None,
        "desktop",
        "macOS",
        "Safari",
        "human",
    ),
    Agent(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Mobile/15E148",
        "Apple Mail",
        "mobile",
        "iOS",
        None,
        "human",
    ),
    Agent(
        "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
        "Apple Mail",
        "tablet",
        "iOS",
        None,
        "human",
    ),
    Agent(
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Mobile Safari/537.36",
        None,
        "mobile",
        "Android",
        "Chrome Mobile",
        "human",
    ),
    Agent(
        "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Win64; x64; Trident/7.0; .NET4.0C; .NET4.0E; "
        "Microsoft Outlook 16.0.17328; ms-office; MSOffice 16)",
        "Outlook",
        "desktop",
        "Windows",
        None,
        "human",
    ),
    Agent(
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.3.0",
        "Thunderbird",
        "desktop",
        "Linux",
        None,
        "human",
    ),
    Agent(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
        None,
        "desktop",
        "Windows",
        "Firefox",
        "human",
    ),
    Agent("AcmeReader/1.0", None, None, None, None, "human"),
)

APPLE_PRIVACY: Final = Agent("Mozilla/5.0", "Apple Mail", None, None, None, "proxy")
GMAIL_PROXY: Final = Agent(
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Gmail",
    None,
    None,
    None,
    "proxy",
)
YAHOO_PROXY: Final = Agent(
    "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
    "Yahoo Mail",
    None,
    None,
    None,
    "proxy",
)
PROXIES: Final = (APPLE_PRIVACY, GMAIL_PROXY, YAHOO_PROXY)

SCANNERS: Final = tuple(
    Agent(user_agent, None, None, None, None, "scanner")
    for user_agent in (
        "python-requests/2.32.5",
        "curl/8.5.0",
        "Mozilla/5.0 (compatible; Barracuda Sentinel (EE))",
    )
)

# Provider (empty: none that an ESP would name), part of all recipients, domain.
PROVIDERS: Final = (
    ("Gmail", 0.38, "gmail.example.com"),
    ("Apple", 0.20, "icloud.example.com"),
    ("Microsoft", 0.18, "outlook.example.net"),
    ("Yahoo", 0.09, "yahoo.example.net"),
    ("", 0.15, "corp.example.org"),
)
OTHER_DOMAINS: Final = "other domains"
"""What a report calls the provider of all of these domains, where the ESP doesn't name one."""

# Country, city, first three bytes of the network.
PLACES: Final = (
    ("DE", "Berlin", "192.0.2."),
    ("US", "Portland", "198.51.100."),
    ("IN", "Pune", "203.0.113."),
    ("NP", "Kathmandu", "10.20.30."),
    ("AU", "Sydney", "172.20.9."),
)
MACHINE_NETWORK: Final = "198.51.100."
HIDING_NETWORK: Final = "172.31.7."
"""Of scanners that look like people; nobody else is there."""

LINKS: Final = tuple(
    f"https://shop.example.com/{path}"
    for path in (
        "sale",
        "new",
        "sale?colour=red",
        "men",
        "women",
        "blog/spring",
        "impressum",
        "app",
        "unsubscribe",
    )
)

PLACED_LINKS: Final = (*LINKS, LINKS[0])
"""Link by position, counted from 1: the first one stands at the end of the mail once more."""
HIDDEN_LINK: Final = "https://shop.example.com/trap"
"""What no person can see, where a source's `hidden_links` says so."""

HARD_REASONS: Final = (
    "550 5.1.1 The email account that you tried to reach does not exist",
    "550 5.4.1 Recipient address rejected: Access denied",
    "550 5.1.10 RESOLVER.ADR.RecipientNotFound",
)
SOFT_REASONS: Final = ("452 4.2.2 The mailbox is full", "421 4.7.0 Temporary System Problem. Try again later")
REJECT_REASONS: Final = ("Bounced Address", "Unsubscribed Address", "Invalid")
