"""The list of an organisation with many campaigns, in a real Chromium against the whole stack."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.api.browser import Tab
from tests.support.stack import Stack
from tests.web.conftest import signed_in
from tests.web.cut import wire
from tests.web.test_pages import assert_accessible, press

MANY = 120
PAGE = 50
NAMES = "[...document.querySelectorAll('.campaign strong')].map(one => one.textContent)"
STILL = "document.querySelector('.campaigns[aria-busy=false]')"
MATCHING = "document.querySelector('.matching')?.textContent"
FIRST = "document.querySelector('.campaign strong')?.textContent"
OPTIONS = "[...document.querySelectorAll('.picker [role=option] > bdi')].map(one => one.textContent)"
CHIPS = "[...document.querySelectorAll('.chip')].map(one => one.querySelector('bdi').textContent)"


def events(stack: Stack, *numbers: int, at_ms: int) -> None:
    """Something happened in these campaigns, the higher number last."""
    stack.post_events(
        [
            {
                "type": "opened",
                "campaign": f"c-{number}",
                "recipient": f"{number}-{at_ms}@example.com",
                "at": at_ms + number,
            }
            for number in numbers
        ]
    ).raise_for_status()


def name(stack: Stack, number: int, title: str, subject: str) -> None:
    httpx.put(
        f"{stack.url}/api/v1/campaigns/c-{number}",
        json={"name": title, "subject": subject},
        headers={"authorization": f"Bearer {stack.key()}"},
        trust_env=False,
        verify=False,
    ).raise_for_status()


def matching(stack: Stack, search: str) -> int:
    found: int = stack.get("/api/v1/campaigns", key=stack.key(), search=search).json()["matching"]
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("many"), PARTITIONS="1", LOG_LEVEL="WARNING") as running:
        running.start_all()
        events(running, *range(MANY), at_ms=int(time.time() * 1000) - 60_000)
        for number in range(0, MANY, 10):
            name(running, number, f"Newsletter {number}", "Straßenfest im März")
        running.wait_for(lambda: matching(running, "newsletter MÄRZ") == MANY // 10, 60, "everything named")
        running.wait_for(lambda: matching(running, "c-") == MANY, 60, "everything counted")
        yield running


async def write(tab: Tab, text: str) -> None:
    await tab.run("document.querySelector('.search').focus()")
    await tab.call("Input.insertText", text=text)


async def test_pages_go_forth_and_back(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack)
    await tab.until(f"{MATCHING} === '{MANY} campaigns' && {NAMES}.length === {PAGE}")
    names = await tab.run(NAMES)
    for rows in (PAGE, MANY - 2 * PAGE):
        before = await tab.run("location.search")
        await tab.run("document.querySelector('.pages [rel=next]').click()")
        await tab.until(f"location.search !== '{before}' && {STILL} && {NAMES}.length === {rows}")
        names += await tab.run(NAMES)
    assert len(set(names)) == len(names) == MANY
    await tab.until("!document.querySelector('.pages [rel=next]')")
    await tab.run("history.back()")
    await tab.until(f"{NAMES}[0] === '{names[PAGE]}'")
    await tab.run("document.querySelector('.pages [rel=prev]').click()")
    await tab.until(f"{NAMES}[0] === '{names[0]}' && {STILL}")


async def test_search_by_all_that_it_is_called_and_back(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack)
    await tab.until(f"{NAMES}.length === {PAGE}")
    await write(tab, "STRASSENFEST new")
    await tab.until(f"{MATCHING} === '{MANY // 10} found' && {STILL} && {NAMES}.length === {MANY // 10}")
    assert await tab.run("location.search") == "?search=STRASSENFEST+new"
    assert await tab.run(f"{NAMES}.every(name => name.startsWith('Newsletter'))")
    await write(tab, " 110")
    await tab.until(f"{NAMES}.join() === 'Newsletter 110'")
    await tab.run("document.querySelector('.campaign').click()")
    await tab.until("document.querySelector('.tile')")
    await tab.run("history.back()")
    await tab.until(f"{NAMES}.join() === 'Newsletter 110'")
    assert await tab.run("document.querySelector('.search').value") == "STRASSENFEST new 110"
    await write(tab, "x")
    await tab.until(
        "document.querySelector('.state-title')?.textContent.startsWith('No campaign has all these words')"
    )
    await assert_accessible(tab)
    await tab.run("document.querySelector('.state button').click()")
    await tab.until(f"{MATCHING} === '{MANY} campaigns' && {NAMES}.length === {PAGE}")
    await tab.run("history.back()")
    await tab.until(f"{MATCHING} === '0 found'")
    # A search that was written in one go is one step back.
    await tab.run("history.back()")
    await tab.until(f"{NAMES}.join() === 'Newsletter 110'")
    await tab.run("history.back()")
    await tab.until(f"document.querySelector('.search').value === '' && {NAMES}.length === {PAGE}")


async def test_from_a_report_back_to_the_search(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack, "/?search=newsletter+110")
    await tab.until(f"{NAMES}.join() === 'Newsletter 110'")
    await tab.run("document.querySelector('.campaign').click()")
    await tab.until("document.querySelector('[aria-label=Back] a')")
    await tab.run("document.querySelector('[aria-label=Back] a').click()")
    await tab.until(f"location.search === '?search=newsletter+110' && {NAMES}.join() === 'Newsletter 110'")


async def test_what_is_seen_moves_and_no_more_than_that_is_asked_for(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack)
    await tab.until(f"{NAMES}.length === {PAGE}")
    await tab.run("window.rows = [...document.querySelectorAll('.campaigns li')]")
    await tab.run(
        "window.asked = []; const ask = window.fetch;"
        " window.fetch = (...what) => { window.asked.push(String(what[0])); return ask(...what); }"
    )
    events(stack, 3, at_ms=int(time.time() * 1000))
    await tab.until(f"{FIRST} === 'c-3'")
    name(stack, 3, "Called anew", "x")
    await tab.until(f"{FIRST} === 'Called anew'")
    assert await tab.run("document.querySelectorAll('.campaigns li').length") == PAGE
    # The rows of before are the same elements: nothing is drawn anew, nothing flickers.
    assert await tab.run("window.rows.filter(row => row.isConnected).length") >= PAGE - 1
    # The next page begins elsewhere now; the way to where it began before is not kept.
    await tab.until("Object.keys(sessionStorage).filter(name => name.startsWith('page ')).length === 1")
    lists = await tab.run("window.asked.filter(one => one.startsWith('/api/v1/campaigns?'))")
    assert lists and all(one.endswith(f"limit={PAGE}") and "cursor" not in one for one in lists)


async def test_a_cut_connection_keeps_the_list(stack: Stack, tab: Tab) -> None:
    async with wire(stack.url) as line:
        await signed_in(tab, stack, "/?search=newsletter", line.address)
        await tab.until(f"{NAMES}.length === {MANY // 10}")
        line.cut()
        await tab.until("document.querySelector('.notice')?.textContent.includes('trying again')", 40)
        assert await tab.run(f"{NAMES}.length") == MANY // 10
        line.mend()
        await tab.until("!document.querySelector('.notice')", 40)


async def test_a_cursor_of_another_list_begins_anew(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack, "/?cursor=AAAA")
    await tab.until(f"{NAMES}.length === {PAGE} && location.search === ''")


async def test_campaigns_to_compare_are_found_with_the_keyboard(stack: Stack, tab: Tab) -> None:
    await tab.call("Emulation.setFocusEmulationEnabled", enabled=True)
    await signed_in(tab, stack, "/compare")
    await tab.until("document.querySelector('.picker input')")
    await tab.run("document.querySelector('.picker input').focus()")
    await tab.until(f"{OPTIONS}.length === 10")
    await tab.until("document.querySelector('.picker').textContent.includes('There are more')")
    await assert_accessible(tab)
    await tab.call("Input.insertText", text="märz 10")
    await tab.until(f"{OPTIONS}.join() === 'Newsletter 110,Newsletter 100,Newsletter 10'")
    await press(tab, "ArrowDown", 40)
    await press(tab, "ArrowDown", 40)
    await press(tab, "Enter", 13)
    await tab.until(f"{CHIPS}.join() === 'Newsletter 10' && location.search === '?campaign=c-10'")
    await tab.call("Input.insertText", text="märz 10")
    await tab.until(f"{OPTIONS}.join() === 'Newsletter 110,Newsletter 100'")
    await tab.run("document.querySelectorAll('.picker [role=option]')[1].click()")
    await tab.until(f"{CHIPS}.join() === 'Newsletter 10,Newsletter 100'")
    await tab.until("document.querySelectorAll('tbody tr').length === 2")
    await tab.call("Input.insertText", text="nowhere")
    await tab.until(
        "document.querySelector('.picker').textContent.includes('No other campaign has these words')"
    )
    await press(tab, "Escape", 27)
    await tab.until("document.querySelector('.picker-pop').hidden")
    # What a link of somebody else names is called by its name, too.
    await tab.open(f"{stack.url}/compare?campaign=c-20")
    await tab.until(f"{CHIPS}.join() === 'Newsletter 20'")
