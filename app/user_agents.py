"""User agents: which client, device, system and browser, and whether the agent itself says that no person used it.

Rules:
- The table of proxies and scanners comes first: what they pretend to be behind their name is not believed.
- What is not recognised is None, never a guess, and has a `text_id` all the same; an agent that nobody sent has none.
- ua-parser with its core in Rust does the reading (17 µs each, 1.4 ms without it), results are cached.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec
import ua_parser
from ua_parser import Domain
from ua_parser.loaders import load_lazy_builtins
from ua_parser.regex import Resolver

from app.facts import AGENT_PROXY, AGENT_SCANNER
from app.keys import text_id

MAX_LENGTH: Final = 1_024
"""Characters that are looked at; browsers send less than 300."""
CACHE: Final = 32_768


class Agent(msgspec.Struct, frozen=True):
    client: str | None = None
    device: str | None = None
    """`desktop`, `mobile` or `tablet`."""
    system: str | None = None
    browser: str | None = None
    evidence: int = 0
    """AGENT_PROXY, AGENT_SCANNER or 0."""
    text_id: int = 0
    """`Fact.agent`; 0 only where there is no agent."""


# Part of the agent in lower case → (bit, client).
# Sources: [M] mailgun.com/blog/product/bot-detection (Gmail and Apple), [B] bird.com "Gmail prefetching images",
# [Y] the address in the agent itself (Yahoo's help page SLN28749), [S] suped.com "How can I identify bot user agents
# in my email click data" (2026-05-28), [L] live-direct-marketing.online "Bot clicks from security scanners"; all read
# 2026-11-24.
_PARTS: Final[tuple[tuple[str, int, str | None], ...]] = (
    ("googleimageproxy", AGENT_PROXY, "Gmail"),  # [M]
    ("chrome/42.0.2311.135 safari/537.36 edge/12.246 mozilla/5.0", AGENT_PROXY, "Gmail"),  # prefetch [B]
    ("yahoomailproxy", AGENT_PROXY, "Yahoo Mail"),  # [Y]
    ("yahoocachesystem", AGENT_PROXY, "Yahoo Mail"),  # the name of the same before 2014, from memory
    ("barracuda", AGENT_SCANNER, None),  # [L]
    ("proofpoint", AGENT_SCANNER, None),  # [L]
    ("mimecast", AGENT_SCANNER, None),  # from memory; most of its requests look like browsers
    ("ciscosecureemail", AGENT_SCANNER, None),  # [L]
    ("ironport", AGENT_SCANNER, None),  # from memory
    ("fortinet", AGENT_SCANNER, None),  # [L]
    ("sophos", AGENT_SCANNER, None),  # [L]
    ("trendmicro", AGENT_SCANNER, None),  # from memory
    ("symantec", AGENT_SCANNER, None),  # from memory
    ("zscaler", AGENT_SCANNER, None),  # from memory
    ("headlesschrome", AGENT_SCANNER, None),
    ("phantomjs", AGENT_SCANNER, None),
    ("python-requests", AGENT_SCANNER, None),  # [S]
    ("python-urllib", AGENT_SCANNER, None),
    ("python-httpx", AGENT_SCANNER, None),
    ("aiohttp", AGENT_SCANNER, None),  # [S]
    ("wget", AGENT_SCANNER, None),  # [S]
    ("curl/", AGENT_SCANNER, None),  # [S]
    ("java/", AGENT_SCANNER, None),  # [S]
    ("jetty", AGENT_SCANNER, None),  # [S]
    ("apache-httpclient", AGENT_SCANNER, None),  # [S]
    ("lua-resty-http", AGENT_SCANNER, None),  # [S]
    ("go-http-client", AGENT_SCANNER, None),
    ("libwww-perl", AGENT_SCANNER, None),
    ("node-fetch", AGENT_SCANNER, None),
    ("slackbot", AGENT_SCANNER, None),  # [S]
    ("facebookexternal", AGENT_SCANNER, None),  # [S]
    ("snap url preview service", AGENT_SCANNER, None),  # [S]
    ("skypeuripreview", AGENT_SCANNER, None),
)

# The whole agent. Apple's privacy proxy sends nothing but this [M].
_WHOLE: Final = {"mozilla/5.0": (AGENT_PROXY, "Apple Mail")}

# ua-parser's family → mail client. All other families are browsers.
_MAIL_CLIENTS: Final = {
    "Outlook": "Outlook",
    "Windows Live Mail": "Windows Live Mail",
    "Apple Mail": "Apple Mail",
    # Mail on iOS shows messages in a web view that names neither Safari nor a version.
    "Mobile Safari UI/WKWebView": "Apple Mail",
    "Thunderbird": "Thunderbird",
    "Lotus Notes": "Lotus Notes",
    "Postbox": "Postbox",
    "Airmail": "Airmail",
    "Spark": "Spark",
    "Foxmail": "Foxmail",
    "The Bat!": "The Bat!",
    "Sparrow": "Sparrow",
    "Evolution": "Evolution",
}

# Apps that don't look like a browser: start of the agent in lower case → (client, device, system).
_APPS: Final = (
    ("outlook-ios", "Outlook", "mobile", "iOS"),
    ("outlook-android", "Outlook", "mobile", "Android"),
    ("microsoft office", "Outlook", "desktop", None),
    ("thunderbird", "Thunderbird", "desktop", None),
)

_SYSTEMS: Final = {"Mac OS X": "macOS", "Mac OS": "macOS"}
_DESKTOPS: Final = frozenset(
    {
        "Windows",
        "Mac OS X",
        "Mac OS",
        "Linux",
        "Ubuntu",
        "Debian",
        "Fedora",
        "Chrome OS",
        "FreeBSD",
        "OpenBSD",
    }
)
_PHONES: Final = frozenset({"iOS", "Android", "Windows Phone", "BlackBerry OS", "KaiOS", "HarmonyOS"})

_parse = ua_parser.Parser(Resolver(load_lazy_builtins()))


def read_agent(user_agent: str) -> Agent:
    """One agent, without a cache."""
    text = user_agent.strip()[:MAX_LENGTH]
    if not text:
        return Agent()
    lower = text.lower()
    whole = _WHOLE.get(lower)
    if whole:
        return _agent(evidence=whole[0], client=whole[1])
    for part, bit, client in _PARTS:
        if part in lower:
            return _agent(evidence=bit, client=client)
    for start, client, device, system in _APPS:
        if lower.startswith(start):
            return _agent(client=client, device=device, system=system)
    found = _parse(text, Domain.ALL)
    if found.device and found.device.family == "Spider":
        return _agent(evidence=AGENT_SCANNER)
    family = found.user_agent.family if found.user_agent else None
    system = found.os.family if found.os else None
    mail_client = _MAIL_CLIENTS.get(family) if family else None
    return _agent(
        client=mail_client,
        device=_device(lower, system, found.device.family if found.device else None),
        system=_SYSTEMS.get(system, system) if system else None,
        browser=None if mail_client else family,
    )


def _device(lower: str, system: str | None, family: str | None) -> str | None:
    if family == "iPad" or "tablet" in lower or (family or "").startswith("Kindle"):
        return "tablet"
    if system == "Android" and "mobile" not in lower:
        return "tablet"  # Google's rule for Android: phones say Mobile, tablets don't
    if system in _PHONES:
        return "mobile"
    return "desktop" if system in _DESKTOPS else None


def _agent(
    *,
    client: str | None = None,
    device: str | None = None,
    system: str | None = None,
    browser: str | None = None,
    evidence: int = 0,
) -> Agent:
    return Agent(client, device, system, browser, evidence, agent_id(client, device, system, browser))


def agent_id(client: str | None, device: str | None, system: str | None, browser: str | None) -> int:
    return text_id(f"{client or ''}\0{device or ''}\0{system or ''}\0{browser or ''}")


look_up_agent = lru_cache(maxsize=CACHE)(read_agent)
