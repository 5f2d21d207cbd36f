"""Recipients, one recipient's history and the event log, in a real Chromium against the whole stack."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx

from tests.api.browser import Tab
from tests.support.stack import Stack
from tests.web.conftest import SPRING, signed_in
from tests.web.cut import wire
from tests.web.sample import said
from tests.web.test_pages import (
    CLICKER,
    EVENTS,
    HOSTILE,
    HOSTILE_EVENTS,
    HOSTILE_RECIPIENTS,
    RECIPIENT,
    RECIPIENTS,
    show,
)

ROWS = "[...document.querySelectorAll('.list tbody tr td:first-child')].map(cell => cell.textContent)"
MATCHING = "document.querySelector('.matching')?.textContent.replace(/\\D/g, '')"
FIELD = (
    "[...document.querySelectorAll('.filter')].find(one => one.textContent.startsWith('{label}'))"
    "?.querySelector('select')"
)
STILL = "document.querySelector('.list[aria-busy=false]')"
# What a page saves is caught here instead of on a disk.
CATCH = (
    "window.saved = null; URL.createObjectURL = blob => {"
    " blob.text().then(text => { window.saved = text; }); return 'blob:x'; };"
    " HTMLAnchorElement.prototype.click = function () { window.savedAs = this.download; }"
)


async def choose(tab: Tab, label: str, value: str) -> None:
    field = FIELD.format(label=label)
    await tab.until(f"[...({field})?.options ?? []].some(option => option.value === '{value}')")
    change = "field.dispatchEvent(new Event('change', {bubbles: true}))"
    await tab.run(f"(field => {{ field.value = '{value}'; {change}; }})({field})")


async def write(tab: Tab, name: str, text: str) -> None:
    await tab.run(f"document.querySelector('input[name={name}]').focus()")
    await tab.call("Input.insertText", text=text)


def fetched(stack: Stack, address: str) -> httpx.Response:
    answer = httpx.get(
        address, headers={"authorization": f"Bearer {stack.key()}"}, trust_env=False, verify=False
    )
    return answer.raise_for_status()


def page_of(stack: Stack, rest: str) -> dict[str, Any]:
    found: dict[str, Any] = fetched(stack, f"{stack.url}/api/v1/campaigns/spring{rest}").json()
    return found


async def test_filters_are_in_the_address_and_say_how_many(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, RECIPIENTS)
    await choose(tab, "Status", "bounced")
    bounced = stack.summary("spring")["bounced"]
    await tab.until(f"{STILL} && {MATCHING} === '{bounced}'")
    assert len(await tab.run(ROWS)) == bounced
    assert await tab.run("location.search") == "?status=bounced"
    await choose(tab, "subject", "A")
    await tab.until(f"{STILL} && !({MATCHING}) && {ROWS}.length < {bounced}")
    await tab.run("history.back()")
    await tab.until(f"{STILL} && {MATCHING} === '{bounced}'")
    await write(tab, "search", "@gmail")
    await tab.until(f"{STILL} && {ROWS}.length && {ROWS}.every(who => who.endsWith('@gmail.com'))")
    assert await tab.run("new URLSearchParams(location.search).get('search')") == "@gmail"
    await write(tab, "search", "-nobody")
    await tab.until("document.body.innerText.includes('No recipients that match')")
    # Somebody who gets the address sees the same.
    address = str(await tab.run("location.href"))
    await tab.open(f"{stack.url}/campaigns")
    await tab.open(address)
    await tab.until("document.body.innerText.includes('No recipients that match')")
    await tab.run(
        "[...document.querySelectorAll('button')].find(one => one.textContent === 'Clear filters').click()"
    )
    await tab.until(f"{STILL} && {ROWS}.length === 50 && location.search === ''")


async def test_every_recipient_is_on_one_page_and_the_way_back_is_known(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, RECIPIENTS)
    first = await tab.run(ROWS)
    matching = int(str(await tab.run(MATCHING)))
    seen = [*first]
    while await tab.run("Boolean(document.querySelector('a[rel=next]'))"):
        before = await tab.run("location.search")
        await tab.run("document.querySelector('a[rel=next]').click()")
        await tab.until(f"location.search !== '{before}' && {STILL} && {ROWS}[0] !== '{seen[-50:][0]}'")
        seen += await tab.run(ROWS)
    assert matching >= SPRING
    assert sorted(set(seen)) == sorted(seen)
    assert len(seen) == int(str(await tab.run(MATCHING)))
    await tab.open(str(await tab.run("location.href")))  # a reload forgets nothing
    await tab.until(f"{ROWS}.length")
    for _ in range((len(seen) - 1) // 50):
        before = await tab.run("location.search")
        await tab.run("document.querySelector('a[rel=prev]').click()")
        await tab.until(f"location.search !== '{before}' && {STILL}")
    await tab.until(f"{STILL} && {ROWS}[0] === '{first[0]}' && location.search === ''")


async def test_a_cursor_of_another_list_begins_anew(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, RECIPIENTS)
    await tab.run("document.querySelector('a[rel=next]').click()")
    await tab.until(f"location.search.includes('cursor') && {STILL}")
    await tab.run("document.querySelector('input[value=people]').click()")
    await tab.until(f"location.search === '' && {STILL} && {ROWS}.length === 50")


async def test_newest_activity_comes_first_and_moves(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack, f"{RECIPIENTS}?sort=-last_event_at")
    await tab.until(f"{STILL} && document.querySelector('.light.live')")
    name = f"active{time.time_ns()}"
    stack.post_events([said("unsubscribed", name)])
    await tab.until(f"{ROWS}[0] === '{name}@example.com'")


async def test_a_history_tells_all_and_moves(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, RECIPIENT)
    history = page_of(stack, f"/recipients/{quote(CLICKER)}")
    events = history["events"]
    assert await tab.run("document.querySelectorAll('.events > li').length") == len(events)
    await tab.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    shown = await tab.run("document.querySelector('main').textContent")
    for event in events:
        for field in ("link", "user_agent", "esp"):
            assert str(event[field] or "") in shown
    stack.post_events(
        [{"type": "complained", "campaign": "spring", "recipient": CLICKER, "at": int(time.time() * 1000)}]
    )
    await tab.until("document.querySelector('.events > li:last-child').textContent.includes('Complained')")
    await tab.open(f"{stack.url}{RECIPIENTS}/nobody%40example.com")
    await tab.until("document.body.innerText.includes('no such recipient')")


async def test_the_log_follows_and_can_be_paused(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, EVENTS)
    await tab.until("document.querySelector('.light.live')")
    first = "document.querySelector('.events .who').textContent"
    name = f"tail{time.time_ns()}"
    stack.post_events([said("unsubscribed", f"{name}-a")])
    await tab.until(f"{first} === '{name}-a@example.com'")
    await tab.run("document.querySelector('#pause').click()")
    await tab.until("document.body.innerText.includes('Paused')")
    asked = "performance.getEntriesByType('resource').filter(one => one.name.includes('/events?')).length"
    before = int(str(await tab.run(asked)))
    stack.post_events([said("unsubscribed", f"{name}-b")])
    await tab.until("document.querySelector('.light.live')")
    await asyncio.sleep(1.5)
    assert await tab.run(first) == f"{name}-a@example.com"
    assert await tab.run(asked) == before
    await tab.run("document.querySelector('#pause').click()")
    await tab.until(f"{first} === '{name}-b@example.com'")
    # However fast events come, it asks once a second.
    before, began = int(str(await tab.run(asked))), time.monotonic()
    for number in range(8):
        stack.post_events([said("unsubscribed", f"{name}-c{number}")])
        await asyncio.sleep(0.15)
    await tab.until(f"{first} === '{name}-c7@example.com'")
    assert int(str(await tab.run(asked))) - before <= time.monotonic() - began + 1


async def test_the_log_is_filtered_by_type_verdict_person_and_time(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, EVENTS)
    await choose(tab, "Event", "bounced")
    matching = page_of(stack, "/events?type=bounced")["matching"]
    await tab.until(f"{STILL} && {MATCHING} === '{matching}'")
    await choose(tab, "Event", "clicked")
    await choose(tab, "Who opened", "scanner")
    wanted = page_of(stack, "/events?type=clicked&verdict=scanner")["items"]
    rows = "document.querySelectorAll('.events > li').length"
    await tab.until(f"!document.querySelector('.list[aria-busy=true]') && {rows} === {min(50, len(wanted))}")
    await signed_in(tab, stack, f"{EVENTS}?recipient={quote(CLICKER)}&order=asc")
    await tab.until(
        f"{STILL} && [...document.querySelectorAll('.who')].every(who => who.textContent === '{CLICKER}')"
    )
    assert await tab.run("document.querySelector('.events .kind').textContent") == "Sent"
    assert not await tab.run("document.querySelector('#pause')")
    # A time is the organisation's: Berlin's clock, an hour or two from UTC.
    clicked = next(
        e for e in page_of(stack, f"/recipients/{quote(CLICKER)}")["events"] if e["type"] == "clicked"
    )
    local = datetime.fromisoformat(clicked["at"]).astimezone(ZoneInfo("Europe/Berlin")) + timedelta(minutes=1)
    await tab.run(
        "(() => { const field = document.querySelector('input[name=to]'); "
        f"field.value = '{local:%Y-%m-%dT%H:%M}'; field.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
    )
    await tab.until("new URLSearchParams(location.search).get('to')")
    assert await tab.run("new URLSearchParams(location.search).get('to')") == (
        f"{local.astimezone(UTC):%Y-%m-%dT%H:%M}:00.000Z"
    )
    await tab.until(
        f"{STILL} && document.querySelector('.events > li:last-child .kind').textContent.startsWith('Clicked')"
    )
    assert await tab.run("document.querySelector('input[name=to]').value") == f"{local:%Y-%m-%dT%H:%M}"


async def test_an_export_is_what_the_page_shows(stack: Stack, tab: Tab) -> None:
    for path, matching, name in (
        (f"{RECIPIENTS}?status=delivered", stack.summary("spring")["delivered"], "recipients"),
        (f"{EVENTS}?type=bounced", page_of(stack, "/events?type=bounced")["matching"], "events"),
    ):
        await signed_in(tab, stack, path)
        await tab.until(f"{STILL} && {MATCHING} === '{matching}'")
        await tab.run(CATCH)
        await tab.run("document.querySelector('.export button').click()")
        await tab.until(
            "window.saved !== null && document.querySelector('.export').textContent.includes('Saved')"
        )
        rows = list(csv.reader(io.StringIO(str(await tab.run("window.saved")))))
        assert len(rows) - 1 == matching
        assert await tab.run("window.savedAs") == f"spring-{name}.csv"
        link = str(await tab.run("document.querySelector('.export a[download]').href"))
        packed = await asyncio.to_thread(fetched, stack, link)
        assert list(csv.reader(io.StringIO(gzip.decompress(packed.content).decode()))) == rows


async def test_an_export_is_cancelled_and_says_when_it_breaks_off(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, RECIPIENTS)
    await tab.run(CATCH)
    # An export that goes on until it is told otherwise; a real one of this size is over at once.
    await tab.run(
        "window.fetch = (path, {signal}) => Promise.resolve(new Response(new ReadableStream({start(way) {"
        " way.enqueue(new Uint8Array(2500000)); window.way = way;"
        " signal.addEventListener('abort', () => way.error(signal.reason)); }})))"
    )
    await tab.run("document.querySelector('.export button').click()")
    await tab.until(
        "document.querySelector('.export progress') && document.querySelector('.export').textContent.includes('2.5')"
    )
    await tab.run("document.querySelector('.export button').click()")
    await tab.until("document.querySelector('.export button').textContent === 'Export as CSV'")
    await tab.run("document.querySelector('.export button').click()")
    await tab.until("document.querySelector('.export progress')")
    await tab.run("window.way.error(new TypeError('network error'))")
    await tab.until("document.querySelector('.export').textContent.includes('broke off')")
    assert await tab.run("window.saved") is None


async def test_a_cut_connection_keeps_the_list_and_comes_back(stack: Stack, tab: Tab) -> None:
    async with wire(stack.url) as line:
        await signed_in(tab, stack, EVENTS, line.address)
        await tab.until(f"{STILL} && document.querySelector('.light.live')")
        line.cut()
        await tab.until("document.querySelector('.light.reconnecting')")
        assert await tab.run("document.querySelectorAll('.events > li').length") == 50
        await choose(tab, "Event", "complained")
        await tab.until("document.querySelector('.state.bad')?.textContent.includes('does not answer')")
        line.mend()
        await tab.run("document.querySelector('.state.bad button').click()")
        await tab.until(f"{STILL} && document.querySelector('.light.live')")
        name = f"back{time.time_ns()}"
        event = said("complained", name)
        stack.post_events([event])
        await tab.until(f"document.querySelector('.events .who').textContent === '{name}@example.com'")


async def test_hostile_rows_are_text(stack: Stack, tab: Tab) -> None:
    for path in (HOSTILE_RECIPIENTS, HOSTILE_EVENTS):
        await show(tab, stack, path)
        await tab.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        shown = await tab.run("document.querySelector('main').textContent")
        assert "<svg/onload=alert(1)>" in shown
        assert (
            await tab.run("document.querySelectorAll('main img, main svg[onload], main script').length") == 0
        )
        protocols = await tab.run("[...document.querySelectorAll('main a')].map(a => a.protocol)")
        assert set(protocols) <= {"http:", "https:"}
        await tab.look(360, 740)
        assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
        await tab.look()
    await show(tab, stack, HOSTILE_RECIPIENTS)
    who = (
        "[...document.querySelectorAll('.list tbody a')].find(link => link.textContent.includes('alert(1)'))"
    )
    name = await tab.run(f"{who}.textContent")
    await tab.run(f"{who}.click()")
    await tab.until("document.querySelectorAll('.events > li').length === 3")
    assert name in await tab.run("document.querySelector('main').textContent")
    assert HOSTILE in str(await tab.run("location.pathname"))
    assert [line for line in tab.complaints if "401" not in line] == []
