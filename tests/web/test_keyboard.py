"""The pages without a mouse: every control is reached by Tab and then seen, and the focus is never lost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import pytest

from tests.api.browser import Tab
from tests.support.dead import bury, webhook
from tests.support.stack import Stack
from tests.web.conftest import signed_in
from tests.web.test_pages import AB, COMPARE, EVENTS, RECIPIENT, RECIPIENTS, REPORT, show

WALKED: Final = ("/", REPORT, RECIPIENTS, RECIPIENT, EVENTS, AB, COMPARE, "/connect", "/operations")
AT_MOST: Final = 250
"""Stops of a page."""

# Of what has the focus: is it seen at five points of it, or does something lie above? Radio buttons are invisible above
# the words that are drawn. Nothing where the walk has come to its end, or to its begin again.
STOP = """(() => {
  const one = document.activeElement, before = walked.at(-1);
  if (!one || one === document.body || (one !== before && walked.includes(one))) return null;
  if (one === before) return 'a field in several parts';
  walked.push(one);
  const box = one.getBoundingClientRect();
  const drawn = getComputedStyle(one.matches('.switch input') ? one.nextElementSibling : one);
  const [top, bottom] = [Math.max(0, box.top), Math.min(innerHeight, box.bottom)];
  const points = [[.5, .5], [.05, .5], [.95, .5], [.5, .1], [.5, .9]].map(([x, y]) =>
    document.elementFromPoint(box.x + x * box.width, top + y * (bottom - top)));
  return {
    name: one.tagName + ' ' + (one.ariaLabel || one.textContent || one.value || '').trim().slice(0, 40),
    next: !before?.isConnected || Boolean(before.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING),
    seen: points.some(point => point && (one.contains(point) || point.closest('label')?.control === one)),
    ring: drawn.outlineStyle === 'none' ? 0 : parseFloat(drawn.outlineWidth),
    top: box.y + scrollY, bottom: box.bottom + scrollY, left: box.x, width: box.width, height: box.height,
  };
})()"""
# What can be used and is drawn; of a group of radio buttons one is enough, and links in a sentence are words of it.
CONTROLS = """[...document.querySelectorAll('a[href], button, input, select, textarea, summary, .scroll')]
  .filter(one => !one.disabled && one.checkVisibility() && !(one.type === 'radio' && !one.checked))
  .map(one => one.tagName + ' ' + (one.ariaLabel || one.textContent || one.value || '').trim().slice(0, 40))"""
FOCUS: Final = "document.activeElement"
ON_HEADING: Final = f"{FOCUS}.tagName === 'H1' && {FOCUS}.textContent.includes('{{}}')"
SMALLEST_PX: Final = 24


async def walk(tab: Tab) -> list[dict[str, Any]]:
    """Where the focus stops, from the begin of the page to its end."""
    await tab.run("document.body.tabIndex = -1, document.body.focus(), scrollTo(0, 0), window.walked = []")
    stops: list[dict[str, Any]] = []
    while len(stops) < AT_MOST:
        await tab.press("Tab")
        stop = await tab.run(STOP)
        if stop is None:
            return stops
        if isinstance(stop, dict):
            stops.append(stop)
    raise AssertionError("the walk has no end")


def reads_on(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Below, or beside it to the right, or at the top of the next column."""
    return bool(after["bottom"] > before["top"] or after["left"] > before["left"])


async def assert_walkable(tab: Tab, where: str) -> None:
    # What is drawn when it comes into sight would move the rest during the walk.
    map_of = "[...document.querySelectorAll('[aria-label=Places]')]"
    await tab.run(f"{map_of}.forEach(card => card.scrollIntoView())")
    await tab.until(f"{map_of}.every(card => card.querySelector('canvas'))")
    stops = await walk(tab)
    names = [stop["name"] for stop in stops]
    missed = [one for one in await tab.run(CONTROLS) if one not in names]
    assert missed == [], where
    for stop in stops:
        assert stop["ring"] >= 2, (where, stop)
        assert stop["seen"], (where, stop)
        assert min(stop["width"], stop["height"]) >= SMALLEST_PX, (where, stop)
    for before, after in pairwise(stops):
        assert after["next"] and reads_on(before, after), (where, before, after)


@pytest.mark.parametrize("width", [1280, 700])
async def test_every_control_is_reached_in_order_and_seen(stack: Stack, tab: Tab, width: int) -> None:
    """In a low window, so that most of a page has to be scrolled to; at 700 px the bar at the top has two lines."""
    await tab.look(width, 500)
    await tab.open(stack.url)
    await tab.until(f"{FOCUS}.id === 'key'")
    await assert_walkable(tab, "sign in")
    for path in WALKED:
        await show(tab, stack, path)
        await assert_walkable(tab, path)


async def focus(tab: Tab, element: str) -> None:
    await tab.until(element)
    await tab.run(f"{element}.focus()")


def words(tag: str, text: str) -> str:
    """The element that begins with the text, as a script."""
    return f"[...document.querySelectorAll('{tag}')].find(one => one.textContent.trim().startsWith('{text}'))"


async def test_another_page_takes_the_focus_to_its_heading_and_has_a_title(stack: Stack, tab: Tab) -> None:
    """Also where its code has to be loaded first, and on the way back."""
    await show(tab, stack, "/")
    for link, heading, title in (
        ("Compare", "Compare", "Compare"),
        ("Sources", "Sources", "Sources"),
        ("Operations", "Operations", "Operations"),
        ("Campaigns", "Campaigns", "Campaigns"),
        ("spring", "spring", "spring"),
        ("Recipients", "spring", "Recipients of spring"),
        ("Event log", "spring", "Events of spring"),
        ("A/B test", "spring", "A/B test, spring"),
    ):
        await focus(tab, words("nav a, a.campaign", link))
        await tab.press("Enter")
        await tab.until(ON_HEADING.format(heading))
        await tab.until(f"document.title.replace(/[\u2068\u2069]/g, '') === '{title} · Campaign Reports'")
    await tab.run("history.back()")
    await tab.until(f"location.pathname === '{EVENTS}' && {ON_HEADING.format('spring')}")
    # A filter is no other page: whoever sets one stays where they are.
    await focus(tab, "document.querySelector('.filter select')")
    await tab.press("ArrowDown")
    await tab.until("location.search === '?type=queued'")
    assert await tab.run(f"{FOCUS}.matches('.filter select')")


async def test_who_has_gone_on_is_not_called_back(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, "/")
    await tab.run(f"{words('nav a', 'Compare')}.click(), document.querySelector('#theme').focus()")
    await tab.until("document.querySelector('h1')?.textContent === 'Compare'")
    assert await tab.run(f"new Promise(done => setTimeout(() => done({FOCUS}.id), 100))") == "theme"


async def test_the_skip_link_leads_past_the_bar(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    await focus(tab, "document.querySelector('.skip')")
    await tab.press("Enter")
    await tab.until(f"{FOCUS}.id === 'main'")
    await tab.press("Tab")
    assert await tab.run(f"{FOCUS}.textContent") == "← Campaigns"


async def test_signing_in_and_out_by_keyboard(stack: Stack, tab: Tab) -> None:
    await tab.open(stack.url)
    await tab.until(f"{FOCUS}.id === 'key'")
    await tab.call("Input.insertText", text="wrong")
    await tab.press("Enter")
    await tab.until("document.querySelector('[role=alert]')")
    await tab.until(f"{FOCUS}.id === 'key'")
    await tab.run("document.querySelector('#key').select()")
    await tab.call("Input.insertText", text=stack.key())
    await tab.press("Enter")
    await tab.until(ON_HEADING.format("Campaigns"))
    await focus(tab, "document.querySelector('#sign-out')")
    await tab.press("Enter")
    await tab.until(f"{FOCUS}.id === 'key'")


async def test_the_dialog_keeps_the_focus_and_gives_it_back(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    await focus(tab, "document.querySelector('#share')")
    await tab.press("Enter")
    await tab.until("document.querySelector('dialog form button[aria-disabled=false]')")
    for shift in (False, True):
        inside = set()
        for _ in range(12):
            await tab.press("Tab", shift=shift)
            # Between its last and its first stop lies the browser itself.
            assert await tab.run(f"{FOCUS} === document.body || Boolean({FOCUS}.closest('dialog'))")
            inside.add(await tab.run(f"{FOCUS}.tagName"))
        assert {"BUTTON", "SELECT"} <= inside
    await focus(tab, words("dialog button", "Make a link"))
    await tab.press("Enter")
    await focus(tab, words("dialog .shares button", "Revoke"))
    assert await tab.run("document.querySelectorAll('dialog .shares li').length") == 1
    await tab.press("Enter")
    await tab.until(f"{FOCUS}.matches('dialog .actions')")
    await tab.press("Tab")
    assert await tab.run(f"{FOCUS}.textContent") == "Revoke now"
    await tab.press("Enter")
    await tab.until(f"{FOCUS}.matches('dialog .shares')")
    await tab.press("Escape")
    await tab.until(f"!document.querySelector('dialog').open && {FOCUS}.id === 'share'")


async def test_a_switch_is_turned_by_arrows(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    await focus(tab, "document.querySelector('input[value=opens]:checked')")
    await tab.press("ArrowRight")
    await tab.until(f"location.search === '?series=clicks' && {FOCUS}.value === 'clicks'")


async def test_what_the_timeline_draws_is_a_table_too(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    await focus(tab, words("summary", "As a table"))
    await tab.press("Enter")
    rows = "[...document.querySelectorAll('.scroll[aria-label=Timeline] tbody tr')]"
    await tab.until(f"{rows}.length === 48")
    await focus(tab, words("[aria-label=Timeline] button", "Show all"))
    await tab.press(" ")
    opened = f"{rows}.reduce((sum, row) => sum + Number(row.cells[2].textContent), 0)"
    await tab.until(f"{opened} === {stack.summary('spring')['opened']}")


async def test_the_log_is_paused_and_an_address_copied(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, EVENTS)
    await focus(tab, "document.querySelector('#pause')")
    await tab.press(" ")
    await tab.until(
        "[...document.querySelectorAll('[role=status]')].some(one => one.textContent.includes('Paused'))"
    )
    assert await tab.run(f"{FOCUS}.textContent") == "Go on"
    await show(tab, stack, "/connect")
    await focus(tab, "document.querySelector('.copy button')")
    await tab.press("Enter")
    await tab.until(
        "[...document.querySelectorAll('[role=status]')].some(one => /Copied|Ctrl/.test(one.textContent))"
    )


async def test_a_time_is_typed(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, EVENTS)
    before = await tab.run("history.length")
    await focus(tab, "document.querySelector('input[name=from]')")
    for key in "01022026\t0304PM":
        await tab.press("Tab" if key == "\t" else key)
    await tab.until("document.querySelector('input[name=from]').value === '2026-01-02T15:04'")
    await tab.until("new URLSearchParams(location.search).get('from') === '2026-01-02T14:04:00.000Z'")
    assert await tab.run("history.length") <= before + 1
    await tab.run("history.back()")
    await tab.until("location.search === '' && document.querySelector('input[name=from]').value === ''")


async def test_what_is_taken_away_leaves_the_focus_nearby(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, COMPARE)
    await focus(tab, "document.querySelector('.chip button')")
    await tab.press("Enter")
    await tab.until(f"document.querySelectorAll('.chip').length === 1 && {FOCUS}.matches('.chips')")
    await signed_in(tab, stack, f"{RECIPIENTS}?status=opened")
    await tab.until("document.querySelector('a[rel=next]')")
    while await tab.run("Boolean(document.querySelector('a[rel=next]'))"):
        await focus(tab, "document.querySelector('a[rel=next]')")
        before = await tab.run("location.search")
        await tab.press("Enter")
        await tab.until(f"location.search !== '{before}' && document.querySelector('.list[aria-busy=false]')")
    await tab.until(f"{FOCUS}.matches('.list')")


async def test_a_dead_letter_is_opened_replayed_and_left(stack: Stack, tab: Tab) -> None:
    bury(stack.kafka, (webhook(b"{}", org="globex", source="own", esp="generic"), "for the keyboard"))
    await signed_in(tab, stack, "/operations?reason=for+the+keyboard", key="globex")
    await focus(tab, words("td a", "Show"))
    await tab.press("Enter")
    await tab.until(f"document.querySelector('textarea') && {FOCUS}.textContent === 'Dead letters'")
    await assert_walkable(tab, "a dead letter")
    await focus(tab, words("button", "Replay"))
    await tab.press("Enter")
    await tab.until("document.querySelector('.notice.info')")
    assert await tab.run(f"{FOCUS}.textContent") == "Replay"
    await focus(tab, words("button", "← All"))
    await tab.press("Enter")
    await tab.until(f"{words('td a', 'Show')} && {FOCUS}.textContent === 'Dead letters'")
    await focus(tab, words("button", "Reason"))
    await tab.press("Enter")
    await tab.until(f"location.search === '' && {FOCUS}.textContent === 'Dead letters'")
