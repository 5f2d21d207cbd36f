"""The pages in the reader's locale, colours, text size and motion."""

from __future__ import annotations

from typing import Final

import httpx
import pytest

from tests.api.browser import Tab
from tests.support.stack import Stack
from tests.web.conftest import signed_in
from tests.web.test_keyboard import WALKED
from tests.web.test_pages import RECIPIENTS, REPORT, assert_accessible, show

RIGHT_TO_LEFT: Final = "عروض الربيع"
SIDEWAYS: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# What is wider than its place although it isn't told to scroll or to be cut: text that somebody would miss.
CUT_OFF: Final = """[...document.querySelectorAll('main *')].filter(one => {
  if (one.matches('.hidden, .list, select, input, textarea')) return false;
  const style = getComputedStyle(one);
  return one.checkVisibility() && one.clientWidth > 1 && one.scrollWidth > one.clientWidth + 1
    && style.textOverflow !== 'ellipsis' && style.overflowX !== 'auto' && !one.closest('.scroll');
}).map(one => `${one.clientWidth} of ${one.scrollWidth}: ${one.outerHTML.slice(0, 120)}`)"""


async def locale(tab: Tab, name: str) -> None:
    await tab.call("Emulation.setLocaleOverride", locale=name)


async def media(tab: Tab, **features: str) -> None:
    await tab.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": name.replace("_", "-"), "value": value} for name, value in features.items()],
    )


@pytest.mark.parametrize("name", ["de-DE", "ar-EG", "hi-IN"])
async def test_numbers_and_dates_are_the_reader_s(stack: Stack, tab: Tab, name: str) -> None:
    await locale(tab, name)
    for path in WALKED:
        await show(tab, stack, path)
        assert await tab.run(SIDEWAYS) <= 0, path
        seen = await tab.text()
        assert "NaN" not in seen and "Invalid" not in seen, path
    assert [line for line in tab.complaints if "401" not in line] == []
    await show(tab, stack, REPORT)
    numbers = "new Intl.NumberFormat().format"
    sent = "document.querySelector('.tile .value').textContent.replace(/[\\u2068\\u2069]/g, '')"
    await tab.until(f"{sent} === {numbers}({stack.summary('spring')['sent']})")
    newest = "document.querySelector('.status time')"
    year = "new Intl.DateTimeFormat(undefined, {year: 'numeric', timeZone: 'Europe/Berlin'})"
    assert await tab.run(f"{newest}.textContent.includes({year}.format(new Date({newest}.dateTime)))")


async def test_arabic_numbers_stay_where_they_stand(stack: Stack, tab: Tab) -> None:
    """A number and the date after it don't change places, though both are written from right to left."""
    await locale(tab, "ar-EG")
    await show(tab, stack, RECIPIENTS)
    row = "[...document.querySelectorAll('.list tbody tr')].find(one => one.cells[2].querySelector('time'))?.cells[2]"
    await tab.until(row)
    at = await tab.run(
        f"(cell => {{ const range = document.createRange(); range.selectNodeContents(cell.firstChild);"
        " return [range.getBoundingClientRect().left, cell.querySelector('time span').getBoundingClientRect().left]; })"
        f"({row})"
    )
    assert at[0] < at[1]


def record(stack: Stack, campaign: str, name: str) -> None:
    httpx.put(
        f"{stack.url}/api/v1/campaigns/{campaign}",
        json={"name": name, "subject": name},
        headers={"authorization": f"Bearer {stack.key('other')}"},
        trust_env=False,
        verify=False,
    ).raise_for_status()


async def test_names_from_right_to_left_turn_nothing_round(stack: Stack, tab: Tab) -> None:
    record(stack, "plain", "Plain")
    record(stack, "turned", RIGHT_TO_LEFT)
    boxes = (
        "[...document.querySelectorAll('.title, .tabs a, .tile dt')]"
        ".map(one => Math.round(one.getBoundingClientRect().left))"
    )
    begins = (
        "[...document.querySelectorAll('{}')].map(one => {{ const range = document.createRange();"
        " range.selectNodeContents(one); return Math.round(range.getBoundingClientRect().left); }})"
    )
    found = []
    for campaign, name in (("plain", "Plain"), ("turned", RIGHT_TO_LEFT)):
        await signed_in(tab, stack, f"/campaigns/{campaign}", key="other")
        await tab.until(
            f"document.querySelector('.tile') && document.querySelector('h1').textContent === '{name}'"
        )
        found.append([await tab.run(boxes), await tab.run(begins.format(".names bdi"))])
    assert found[0] == found[1]
    await signed_in(tab, stack, "/", key="other")
    await tab.until("document.querySelectorAll('.campaign').length >= 2")
    assert len(set(await tab.run(begins.format(".campaign bdi")))) == 1


@pytest.mark.parametrize("width", [320, 640])
async def test_everything_flows_anew_when_it_is_enlarged(stack: Stack, tab: Tab, width: int) -> None:
    """1280 px at 400 and 200 %: nothing is lost, and nothing scrolls sideways but tables in their frames."""
    await tab.look(width, 512)
    for path in WALKED:
        await show(tab, stack, path)
        assert await tab.run(SIDEWAYS) <= 0, path
        assert await tab.run(CUT_OFF) == [], path


async def test_text_of_twice_the_size(stack: Stack, tab: Tab) -> None:
    """As a reader chooses it in the browser."""
    size = "parseFloat(getComputedStyle(document.body).fontSize)"
    await tab.look()
    await show(tab, stack, REPORT)
    before = float(str(await tab.run(size)))
    await tab.call("Page.setFontSizes", fontSizes={"standard": 32, "fixed": 26})
    for path in WALKED:
        await show(tab, stack, path)
        assert await tab.run(size) == 2 * before, path
        assert await tab.run(SIDEWAYS) <= 0, path
        assert await tab.run(CUT_OFF) == [], path


async def test_a_reader_s_own_colours(stack: Stack, tab: Tab) -> None:
    """Forced colours: what is chosen, what has the focus and what is drawn is still told apart."""
    await media(tab, forced_colors="active", prefers_color_scheme="dark")
    await show(tab, stack, REPORT)
    assert await tab.run("matchMedia('(forced-colors: active)').matches")
    drawn = (
        "(one => [getComputedStyle(one).outlineStyle, getComputedStyle(one).backgroundColor])"
        "(document.querySelector('{}'))"
    )
    chosen = await tab.run(drawn.format(".switch input:checked + span"))
    other = await tab.run(drawn.format(".switch input:not(:checked) + span"))
    assert chosen[0] == "solid" and other[0] == "none"
    assert (await tab.run(drawn.format(".tabs a[aria-current]")))[0] == "solid"
    page = await tab.run("getComputedStyle(document.body).backgroundColor")
    for mark in (".bar > i", ".split i", ".light .dot"):
        assert (await tab.run(drawn.format(mark)))[1] != page, mark
    await tab.press("Tab")
    assert await tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    await assert_accessible(tab)


async def test_nothing_moves_for_who_wants_it_still(stack: Stack, tab: Tab) -> None:
    await media(tab, prefers_reduced_motion="reduce")
    await tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="addEventListener('animationstart', () => { window.moved = true; }, true);"
        "addEventListener('transitionstart', () => { window.moved = true; }, true)",
    )
    for path in WALKED:
        await show(tab, stack, path)
        assert not await tab.run("window.moved || document.getAnimations().length > 0"), path
