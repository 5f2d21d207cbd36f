from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import user_agents
from app.facts import AGENT_PROXY, AGENT_SCANNER
from app.user_agents import Agent, agent_id, look_up_agent, read_agent

SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
GMAIL_PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 "
    "Safari/537.36 Edge/12.246 Mozilla/5.0"
)
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
OUTLOOK = (
    "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; .NET4.0C; Microsoft Outlook 16.0.4266; "
    "ms-office; MSOffice 16)"
)
IOS_MAIL = (
    "Mozilla/5.0 (iPad; CPU OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
)
MAC_MAIL = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
GALAXY_TAB = (
    "Mozilla/5.0 (Linux; Android 13; SM-X906C) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/110.0.0.0 Safari/537.36"
)


@pytest.mark.parametrize(
    ("text", "client", "device", "system", "browser"),
    [
        (SAFARI, None, "mobile", "iOS", "Mobile Safari"),
        (OUTLOOK, "Outlook", "desktop", "Windows", None),
        (IOS_MAIL, "Apple Mail", "tablet", "iOS", None),
        (MAC_MAIL, "Apple Mail", "desktop", "macOS", None),
        (FIREFOX, None, "desktop", "Linux", "Firefox"),
        (GALAXY_TAB, None, "tablet", "Android", "Chrome"),
        ("Outlook-iOS/2.0", "Outlook", "mobile", "iOS", None),
        ("something of its own", None, None, None, None),
    ],
)
def test_what_an_agent_says(
    text: str, client: str | None, device: str | None, system: str | None, browser: str | None
) -> None:
    expected = Agent(client, device, system, browser, 0, agent_id(client, device, system, browser))
    assert read_agent(text) == expected


@pytest.mark.parametrize(
    ("text", "evidence", "client"),
    [
        (GMAIL, AGENT_PROXY, "Gmail"),
        (GMAIL_PREFETCH, AGENT_PROXY, "Gmail"),
        (YAHOO, AGENT_PROXY, "Yahoo Mail"),
        ("Mozilla/5.0", AGENT_PROXY, "Apple Mail"),
        (" Mozilla/5.0 ", AGENT_PROXY, "Apple Mail"),
        ("python-requests/2.32", AGENT_SCANNER, None),
        ("curl/8.5.0", AGENT_SCANNER, None),
        ("Barracuda Sentinel (EE)", AGENT_SCANNER, None),
        ("Mozilla/5.0 (compatible; Proofpoint/1.0)", AGENT_SCANNER, None),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", AGENT_SCANNER, None),
        (FIREFOX.replace("Firefox", "HeadlessChrome"), AGENT_SCANNER, None),
    ],
)
def test_proxies_and_scanners_are_known_and_what_they_pretend_is_not_believed(
    text: str, evidence: int, client: str | None
) -> None:
    agent = read_agent(text)
    assert (agent.evidence, agent.client) == (evidence, client)
    assert (agent.device, agent.system, agent.browser) == (None, None, None)


@pytest.mark.parametrize("text", [SAFARI, OUTLOOK, IOS_MAIL, MAC_MAIL, FIREFOX, GALAXY_TAB])
def test_people_s_agents_are_no_evidence(text: str) -> None:
    assert read_agent(text).evidence == 0


def test_an_agent_that_says_nothing_is_told_from_none() -> None:
    assert read_agent("x") == Agent(text_id=agent_id(None, None, None, None))
    assert read_agent("x").text_id != 0
    assert read_agent("") == read_agent(" \t") == Agent()


def test_the_core_in_rust_does_the_reading() -> None:
    assert type(user_agents._parse.resolver).__module__ == "ua_parser.regex"


def test_the_cache_is_bounded() -> None:
    assert look_up_agent.cache_info().maxsize == user_agents.CACHE


@given(st.text(max_size=2_000))
def test_any_text_gives_an_agent(text: str) -> None:
    assert isinstance(read_agent(text), Agent)
