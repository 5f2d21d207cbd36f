"""What the pages show instead of numbers, or beside old ones: empty, loading, failed, refused, offline, silent."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import httpx
import pytest

from tests.api.browser import Tab
from tests.support.dead import bury, webhook
from tests.support.stack import Stack
from tests.web.between import between
from tests.web.conftest import signed_in
from tests.web.sample import said
from tests.web.test_operations import ROWS, button
from tests.web.test_pages import (
    AB,
    COMPARE,
    EVENTS,
    READY,
    RECIPIENT,
    RECIPIENTS,
    REPORT,
    assert_accessible,
    show,
    tile,
)
from tests.web.test_shared import ENDED, share, unshare

SPRING_API: Final = "/api/v1/campaigns/spring"
LIVE: Final = f"{SPRING_API}/(live|summary)"
ASKS: Final = {
    "/": ("/api/v1/campaigns", "Loading the campaigns"),
    REPORT: (LIVE, "Loading the report"),
    RECIPIENTS: (f"{SPRING_API}/recipients", "Loading the recipients"),
    RECIPIENT: (f"{SPRING_API}/recipients/.*", "Loading the history"),
    EVENTS: (f"{SPRING_API}/events", "Loading the events"),
    AB: (f"{SPRING_API}/(live|summary|variants)", "Loading the variants"),
    COMPARE: ("/api/v1/compare", "Comparing"),
    "/connect": ("/api/v1/sources", "Loading the sources"),
    "/operations": ("/ops/(live|lag)", "Loading how it goes"),
}
"""Page → what it asks the API for, and what it says until the answer comes."""
ALERT: Final = "document.querySelector('main [role=alert]')"
AGAIN: Final = "[...document.querySelectorAll('main button')].find(one => one.textContent === 'Try again')"
LIGHT: Final = "document.querySelector('.light.{}')"
NOTICE: Final = "document.querySelector('main .notice')?.textContent"


async def there(tab: Tab, script: str) -> bool:
    return bool(await tab.run(f"Boolean({script})"))


async def fast_clock(tab: Tab, times: int, up_to_ms: float = 1e9) -> None:
    """What the page waits for for 20 s and more comes sooner by that factor, until `window.times = 1`."""
    await tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source=f"""(real => {{
          window.times = {times};
          const quick = ms => ms >= 20000 && ms <= {up_to_ms};
          window.setTimeout = (what, ms = 0, ...rest) => real(what, quick(ms) ? ms / window.times : ms, ...rest);
        }})(window.setTimeout)""",
    )


async def offline(tab: Tab, now: bool) -> None:
    await tab.call("Network.enable")
    await tab.call(
        "Network.emulateNetworkConditions",
        offline=now,
        latency=0,
        downloadThroughput=-1,
        uploadThroughput=-1,
    )


async def test_a_page_says_that_it_loads_and_that_it_failed_and_goes_on(stack: Stack, tab: Tab) -> None:
    async with between(stack.url) as line:
        for path, (asks, loading) in ASKS.items():
            line.hold(asks)
            await signed_in(tab, stack, path, line.address)
            spinner = "document.querySelector('main [role=status]:has(.spinner)')"
            await tab.until(f"{spinner}?.textContent.trim() === '{loading}…'")
            assert await tab.run("document.querySelectorAll('main h1').length") == 1
            await assert_accessible(tab)
            line.answer(500, asks)
            line.free()
            await tab.until(f"{ALERT}?.textContent.includes('The server answered 500.')")
            await assert_accessible(tab)
            line.pass_all()
            # Streams come back by themselves; what is asked for once in a while has a button.
            await tab.run(f"{AGAIN}?.click()")
            await tab.until(READY[path])
            assert not await there(tab, ALERT), path


async def test_nothing_is_there_yet(stack: Stack, tab: Tab) -> None:
    for path, words in (
        ("/", "No campaign yet"),
        ("/connect", "Waiting for an event"),
        ("/compare", "Choose campaigns to compare"),
        ("/operations", "No dead letters"),
    ):
        await signed_in(tab, stack, path, key="nothing")
        await tab.until(f"document.querySelector('main').innerText.includes('{words}')")
        assert not await there(tab, ALERT), path
        await assert_accessible(tab)


def record(stack: Stack) -> None:
    """A campaign that has a name and no event."""
    httpx.put(
        f"{stack.url}/api/v1/campaigns/blank",
        json={"name": "Blank", "subject": "Not sent yet"},
        headers={"authorization": f"Bearer {stack.key('other')}"},
        trust_env=False,
        verify=False,
    ).raise_for_status()


async def test_a_campaign_of_which_nothing_is_counted(stack: Stack, tab: Tab) -> None:
    record(stack)
    await signed_in(tab, stack, "/campaigns/blank", key="other")
    await tab.until(
        "document.querySelector('h1')?.textContent === 'Blank' && document.querySelector('.tile')", 20
    )
    assert await tab.run(tile("Sent")) == "0"
    seen = await tab.text()
    assert "No clicks yet" in seen and "NaN" not in seen and "Infinity" not in seen and "1970" not in seen
    await assert_accessible(tab)
    for tab_name, words in (
        ("recipients", "No recipients yet"),
        ("events", "No events yet"),
        ("ab", "This campaign has no variants"),
    ):
        await tab.run(f"document.querySelector('.tabs a[href$={tab_name}]').click()")
        await tab.until(f"document.querySelector('main').innerText.includes('{words}')")
        assert not await there(tab, ALERT)


async def test_there_is_no_such_campaign(stack: Stack, tab: Tab) -> None:
    told = "/no (campaign of this name|such recipient)/.test(document.querySelector('main').innerText)"
    for path in ("", "/recipients", "/events", "/ab", "/recipients/a%40b.example"):
        await signed_in(tab, stack, "/campaigns/none" + path)
        await tab.until(told)
        # That is an answer, and no broken connection.
        await tab.until(f"!({ALERT} || {LIGHT.format('reconnecting')} || {LIGHT.format('connecting')})")


async def test_a_key_that_may_not_read_is_told_so(stack: Stack, tab: Tab) -> None:
    for path in ("/", REPORT, COMPARE, "/connect", "/operations"):
        await signed_in(tab, stack, path, key="writer")
        await tab.until("document.body.innerText.includes('does not reach this page')")
        assert not await there(tab, ALERT)


async def test_a_scope_that_is_taken_away_ends_the_stream(stack: Stack, tab: Tab) -> None:
    async with between(stack.url) as line:
        await signed_in(tab, stack, "/operations", line.address)
        await tab.until(LIGHT.format("live"))
        line.answer(403, "/ops/(live|lag)")
        line.cut("/ops/live")
        await tab.until(f"{ALERT}?.textContent.includes('403')")


async def test_who_is_signed_in_is_asked_again(stack: Stack, tab: Tab) -> None:
    """An API that is in trouble signs nobody out, and a link's key is not lost."""
    async with between(stack.url) as line:
        line.answer(503, "/session")
        await tab.open(f"{line.address}{REPORT}#key={stack.key()}")
        await tab.until(f"{AGAIN} && {ALERT}.textContent.includes('503')")
        assert not await there(tab, "document.querySelector('#key')")
        await assert_accessible(tab)
        line.pass_all()
        await tab.run(f"{AGAIN}.click()")
        await tab.until(READY[REPORT])
        line.answer(503, "/session")
        await tab.run("document.querySelector('#sign-out').click()")
        await tab.until(f"{ALERT}?.textContent.startsWith('You are still signed in.')")
        await tab.run("location.reload()")
        await tab.until(AGAIN)
        line.pass_all()
        await tab.run(f"{AGAIN}.click()")
        await tab.until(READY[REPORT])


async def test_offline_is_said_and_over_when_it_is_over(stack: Stack, tab: Tab) -> None:
    for path in ASKS:
        await show(tab, stack, path)
        light = await there(tab, "document.querySelector('.status .light')")
        if light:
            await tab.until(LIGHT.format("live"))
        await offline(tab, True)
        await tab.until(f"{NOTICE}?.includes('You are offline.')")
        if light:
            assert await there(tab, LIGHT.format("offline")), path
        assert await there(tab, READY[path]), path  # what was there stays
        await offline(tab, False)
        await tab.until(f"!({NOTICE})?.includes('offline')")
        if light:
            await tab.until(LIGHT.format("live"))


async def test_an_api_that_was_stopped_is_found_again(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    await tab.until(LIGHT.format("live"))
    before = int(str(await tab.run(tile("Unsubscribed"))))
    stack.stop("api")
    await tab.until(f"{LIGHT.format('reconnecting')} && {NOTICE}.includes('Connection lost')")
    assert await tab.run(tile("Unsubscribed")) == str(before)
    await tab.run("document.querySelector('nav a').click()")
    await tab.until(f"{ALERT}?.textContent.includes('does not answer')", 20)
    await tab.run("history.back()")
    await tab.until(f"{ALERT}?.textContent.includes('Trying again')")
    stack.start("api")
    stack.wait_ready()
    stack.post_events([said("unsubscribed")]).raise_for_status()
    await tab.until(f"{LIGHT.format('live')} && {tile('Unsubscribed')} === '{before + 1}'", 60)
    assert not await there(tab, ALERT)


@pytest.mark.parametrize("path", [REPORT, AB, "/operations"])
async def test_a_stream_that_could_not_begin_begins_when_asked_to(stack: Stack, tab: Tab, path: str) -> None:
    # A pause that has no end: nothing is tried again but by the button.
    await tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="(real => { window.setTimeout = (run, ms, ...more) =>"
        " ms > 200 ? 0 : real(run, ms, ...more); })(setTimeout)",
    )
    async with between(stack.url) as line:
        line.answer(503, ASKS[path][0])
        await signed_in(tab, stack, path, line.address)
        await tab.until(f"{ALERT}?.textContent.includes('Trying again') && {AGAIN}")
        line.pass_all()
        await tab.run(f"{AGAIN}.click()")
        await tab.until(f"{LIGHT.format('live')} && !{ALERT}")


async def test_a_stream_that_fell_silent_is_made_anew(stack: Stack, tab: Tab) -> None:
    await fast_clock(tab, 20)
    async with between(stack.url) as line:
        line.silence(f"{SPRING_API}/live")
        await signed_in(tab, stack, REPORT, line.address)
        await tab.until(READY[REPORT])
        before = int(str(await tab.run(tile("Unsubscribed"))))
        stack.post_events([said("unsubscribed")]).raise_for_status()
        await tab.until(LIGHT.format("reconnecting"))
        line.pass_all()
        await tab.run("window.times = 1")
        await tab.until(f"{LIGHT.format('live')} && {tile('Unsubscribed')} === '{before + 1}'")
        again = [asked for asked in line.asked if asked.startswith(f"{SPRING_API}/live?")]
        assert "last_event_id" not in again[0] and all("last_event_id=" in one for one in again[1:])


async def test_what_is_noted_for_good_is_shown_three_of_it_at_once(stack: Stack, tab: Tab) -> None:
    notes = [
        {"code": "gap", "message": f"note {number}", "at": "2026-11-01T10:00:00Z", "partition": number}
        for number in range(5)
    ]
    await tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source=f"""(read => {{
          const noted = (name, value) => name === 'notices' ? {json.dumps(notes)} : value;
          JSON.parse = text => read(text, noted);
          Response.prototype.json = async function () {{ return JSON.parse(await this.text()); }};
        }})(JSON.parse)""",
    )
    await signed_in(tab, stack, REPORT)
    await tab.until("document.querySelector('main details summary')")
    first = await tab.run(
        "[...document.querySelectorAll('main .notice.info > ul li')].map(one => one.innerText)"
    )
    assert first == ["note 0.", "note 1.", "note 2."]
    assert await tab.run("document.querySelector('main details summary').innerText") == "2 more notes"
    await tab.run("document.querySelector('main details summary').click()")
    shown = await tab.run("[...document.querySelectorAll('main details li')].map(one => one.innerText)")
    assert shown == ["note 3.", "note 4."]


async def test_a_hidden_tab_leaves_its_stream_to_others(stack: Stack, tab: Tab) -> None:
    look = "document.dispatchEvent(new Event('visibilitychange'))"
    live = f"{SPRING_API}/live"
    await fast_clock(tab, 20, 30_000)  # not also the watchdog's 35 s: its reconnection is no tab that lets go
    async with between(stack.url) as line:
        await signed_in(tab, stack, REPORT, line.address)
        await tab.until(LIGHT.format("live"))
        before = int(str(await tab.run(tile("Unsubscribed"))))
        await tab.run(
            f"Object.defineProperty(document, 'hidden', {{value: true, configurable: true}}), {look}"
        )
        assert line.count_open(live) == 1
        await line.until_closed(live)
        asked = len(line.asked)
        stack.post_events([said("unsubscribed")]).raise_for_status()
        await tab.run("dispatchEvent(new Event('online')), fetch('/healthz').then(() => 1)")
        assert [one for one in line.asked[asked:] if "/live" in one] == []
        await tab.run(f"window.times = 1, delete document.hidden, {look}")
        await tab.until(f"{LIGHT.format('live')} && {tile('Unsubscribed')} === '{before + 1}'")
        assert line.count_open(live) == 1


async def test_a_link_that_expires_while_it_is_read_says_so(stack: Stack, tab: Tab) -> None:
    await tab.open(share(stack, "spring", for_s=5)["url"])
    await tab.until("document.querySelector('.tile')")
    await tab.run(
        f"new MutationObserver(() => {{ if ({ENDED}) window.titled ??= document.title }})"
        ".observe(document.body, {childList: true, subtree: true})"
    )
    await tab.until(ENDED, 20)
    assert await tab.run("document.querySelectorAll('.tile').length") == 0
    assert await there(tab, "document.querySelector('[role=alert] h1')")
    assert "This link has ended" in str(await tab.run("window.titled")), "the tab's name comes with the page"


async def test_a_shared_report_loads_fails_and_goes_on(stack: Stack, tab: Tab) -> None:
    link = share(stack, "spring")
    async with between(stack.url) as line:
        line.hold("/api/v1/shared")
        await tab.open(link["url"].replace(stack.url, line.address))
        await tab.until(
            "document.querySelector('main [role=status]')?.textContent.includes('Opening the report')"
        )
        line.answer(500, "/api/v1/shared")
        line.free()
        await tab.until(f"{ALERT} && {AGAIN}")
        line.pass_all()
        await tab.run(f"{AGAIN}.click()")
        await tab.until(READY[REPORT])
    unshare(stack, "spring", link["id"])


async def test_silent_sources_and_partitions_that_nobody_counts_are_said(stack: Stack, tab: Tab) -> None:
    def silent(piece: bytes) -> bytes:
        document: dict[str, Any] = json.loads(piece)
        for source in document["sources"]:
            source |= {
                "silent": True, "silent_for_ms": 7_200_000, "allowed_silence_ms": 900_000,
                "last_event_at": "2026-11-23T09:00:00.000Z",
            }  # fmt: skip
        return json.dumps(document).encode()

    async with between(stack.url) as line:
        line.change("/api/v1/sources", silent)
        await signed_in(tab, stack, "/connect", line.address)
        await tab.until(f"{NOTICE}?.includes('Nothing has come for 2 h; usually at most 15 min pass')")
        await tab.until("document.querySelector('.source .light').textContent === 'Silent'")
        await assert_accessible(tab)
        line.change("/ops/live", lambda piece: piece.replace(b'"away":[]', b'"away":[1]'))
        await signed_in(tab, stack, "/operations", line.address)
        await tab.until(f"{NOTICE}?.includes('Nobody counts partition 1 of the facts')")


async def test_a_huge_dead_letter_is_shown_in_part_and_kept_whole(stack: Stack, tab: Tab) -> None:
    """One line of a megabyte; laying it out takes browsers seconds."""
    reason = f"huge {time.time_ns()}"
    body = b'{"events": "' + b"0123456789" * 104_857 + b'"}'
    bury(stack.kafka, (webhook(body, org="globex", source="own", esp="generic"), reason))
    await signed_in(tab, stack, f"/operations?reason={reason.replace(' ', '+')}", key="globex")
    await tab.until(f"{ROWS}.length === 1")
    await tab.run(
        "window.longest = 0; new PerformanceObserver(list => list.getEntries().forEach(one => {"
        " window.longest = Math.max(window.longest, one.duration); })).observe({type: 'longtask'});"
        f"{ROWS}[0].querySelector('a').click()"
    )
    await tab.until("document.querySelector('textarea')?.readOnly")
    assert await tab.run("document.querySelector('textarea').value.length") == 20_000
    assert "of 1,048,584 characters" in await tab.text()
    await tab.run(
        "window.saved = null; URL.createObjectURL = blob => { window.saved = blob.size; return ''; };"
        " HTMLAnchorElement.prototype.click = () => {}"
    )
    await button(tab, "Download the body")
    await tab.until(f"window.saved === {len(body)}")
    await button(tab, "Replay")
    await tab.until("document.querySelector('.notice.info')")
    assert int(str(await tab.run("Math.round(window.longest)"))) < 1_000
