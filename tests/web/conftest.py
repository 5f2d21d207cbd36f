"""One running stack with campaigns to look at, and a browser that looks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.api.browser import Tab, browser, tab_of
from tests.support.stack import TWO_ORGS, Stack
from tests.web.sample import campaign, hostile

SPRING = 400
"""Recipients of the campaign `spring`."""

READER = """
[orgs.acme.keys.reader]
secret = "file:{data}/keys/reader"
scopes = ["read"]
[orgs.acme.keys.writer]
secret = "file:{data}/keys/writer"
scopes = ["write"]

[orgs.nothing]
name = "Nothing"
timezone = "UTC"
[orgs.nothing.keys.loader]
secret = "file:{data}/keys/nothing"
scopes = ["read", "write", "ops"]

[orgs.other]
name = "Other"
timezone = "UTC"
[orgs.other.keys.loader]
secret = "file:{data}/keys/other"
scopes = ["read", "write", "ops"]
"""
"""More keys, an organisation that has nothing, and one for tests that make campaigns."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("pages")
    with Stack(folder, config=TWO_ORGS + READER, PARTITIONS="2", LOG_LEVEL="WARNING") as running:
        running.start_all()
        for events in (campaign("spring", SPRING), hostile()):
            assert running.post_events(events).json()["refused"] == []
        running.wait_for(lambda: running.summary("spring").get("sent") == SPRING, 60, "everything counted")
        yield running


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with browser(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
async def tab(chromium: str) -> AsyncIterator[Tab]:
    async with tab_of(chromium) as tab:
        yield tab


async def signed_in(tab: Tab, stack: Stack, path: str = "/", address: str = "", key: str = "acme") -> None:
    """`key`: the name of its file."""
    await tab.open(f"{address or stack.url}{path}#key={stack.key(key)}")
    await tab.until("document.querySelector('main h1') && !document.querySelector('#key')")
