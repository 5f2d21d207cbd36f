"""The page of operations: lag, workers, dead letters, in a real Chromium against the whole stack."""

from __future__ import annotations

import json
import time

from tests.api.browser import Tab
from tests.support.dead import bury, webhook
from tests.support.stack import Stack
from tests.web.conftest import signed_in
from tests.web.cut import wire
from tests.web.sample import EVIL
from tests.web.test_pages import assert_accessible

PAGE = "/operations"
ROWS = "[...document.querySelectorAll('[aria-label=\"Dead letters\"].card tbody tr')]"
CAME = "[...document.querySelectorAll('[aria-label=Partitions].card td:nth-child(5)')].map(td => td.textContent).join()"


def event(kind: object) -> bytes:
    now_ms = int(time.time() * 1000)
    one = {"type": kind, "campaign": "spring", "recipient": f"dead{now_ms}@example.com", "at": now_ms}
    return json.dumps({"events": [one]}).encode()


async def button(tab: Tab, words: str) -> None:
    """Clicks the button once it is there."""
    found = f"[...document.querySelectorAll('button')].find(b => b.textContent.trim().startsWith('{words}'))"
    await tab.until(found)
    await tab.run(f"{found}.click()")


async def test_lag_and_workers_move(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack, PAGE)
    await tab.until("document.querySelector('.light.live')")
    await tab.until("document.querySelectorAll('[aria-label=Partitions].card tbody tr').length >= 3")
    await tab.until("document.querySelectorAll('[aria-label=Workers].card .light.live').length === 4")
    seen = await tab.text()
    assert "counts" in seen and "parses" in seen and "not known" not in seen.partition("Workers")[0]
    moved = "document.querySelector('.status time').dateTime"
    before = await tab.run(moved)
    await tab.until(f"{moved} > '{before}'")
    before = await tab.run(CAME)
    stack.post_events([json.loads(event("opened"))["events"][0]]).raise_for_status()
    await tab.until(f"{CAME} !== '{before}'")


async def test_a_refused_worker_is_not_called_silent(stack: Stack, tab: Tab) -> None:
    with stack.beside("stranger", SECRET="another-secret-than-the-installation-has") as stranger:
        stranger.start("normalize")
        stranger.wait_for(lambda: not stranger.is_alive("normalize"), 30, "it is refused")
        await signed_in(tab, stack, PAGE)
        await tab.until(
            "document.querySelector('[aria-label=Workers].card .light.offline')?.textContent === 'Refused'"
        )
        seen = await tab.text()
        assert "role normalize is refused" in seen and "last tried" in seen and "Silent" not in seen
        await assert_accessible(tab)


async def test_a_dead_letter_is_shown_as_text_mended_and_replayed(stack: Stack, tab: Tab) -> None:
    complained = int(str(stack.summary("spring")["complained"]))
    bury(
        stack.kafka,
        (webhook(event(EVIL), source="app", esp="generic"), f"type: {EVIL}"),
        (webhook(event("none"), source="app", esp="generic"), "another reason"),
        (webhook(b"\xff\x00", source="app", esp="generic"), "not UTF-8"),
    )
    await signed_in(tab, stack, PAGE)
    await tab.until(f"{ROWS}.length === 3")
    await tab.run(
        f"{ROWS}.find(r => r.textContent.includes('svg')).querySelector('td:nth-child(3) button').click()"
    )
    await tab.until(f"{ROWS}.length === 1 && location.search.includes('reason=')")
    await tab.run(f"{ROWS}[0].querySelector('a').click()")
    await tab.until("document.querySelector('textarea')")
    assert EVIL in str(await tab.run("JSON.parse(document.querySelector('textarea').value).events[0].type"))
    assert await tab.run("document.querySelectorAll('main img, main svg[onload], main script').length") == 0
    for width, dark in ((360, False), (1280, True)):
        await tab.look(width, 740, dark=dark)
        assert await tab.run("document.documentElement.scrollWidth") <= width
        await assert_accessible(tab)
    mended = event("complained").decode()
    await tab.run("document.querySelector('textarea').select()")
    await tab.call("Input.insertText", text=mended)
    await button(tab, "Replay with this body")
    await tab.until("document.querySelector('.notice.info')?.textContent.includes('mended')")
    stack.wait_for(lambda: stack.summary("spring")["complained"] == complained + 1, 10, "counted")
    await button(tab, "← All dead letters")
    await tab.until(f"{ROWS}[0]?.textContent.includes('yes')")
    await tab.run("history.back()")
    await tab.until("document.querySelector('textarea')")
    assert [line for line in tab.complaints if "401" not in line] == []


async def test_a_letter_that_is_not_there_and_one_that_is_no_text(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack, f"{PAGE}?letter=99999")
    await tab.until("document.querySelector('[role=alert]')?.textContent.includes('no such dead letter')")
    bury(stack.kafka, (webhook(b"\xff\x00", source="app", esp="generic"), "not UTF-8 at all"))
    await signed_in(tab, stack, f"{PAGE}?reason=not+UTF-8+at+all")
    await tab.until(f"{ROWS}.length === 1")
    await tab.run(f"{ROWS}[0].querySelector('a').click()")
    await tab.until("document.querySelector('textarea')?.readOnly")


async def test_a_key_without_the_scope_is_told_so(stack: Stack, tab: Tab) -> None:
    key = (stack.data / "keys/reader").read_text().strip()
    await tab.open(f"{stack.url}{PAGE}#key={key}")
    await tab.until("document.body.innerText.includes('does not reach this page')")
    assert not await tab.run("document.querySelector('nav a[href=\"/operations\"]')")


async def test_a_cut_connection_is_told(stack: Stack, tab: Tab) -> None:
    async with wire(stack.url) as line:
        await signed_in(tab, stack, PAGE, line.address)
        await tab.until("document.querySelector('.light.live')")
        line.cut()
        await tab.until("document.querySelector('.light.reconnecting')")
        assert "Connection lost" in await tab.text()
        line.mend()
        await tab.until("document.querySelector('.light.live')")
