"""A number of the report leads to the rows behind it, in a real Chromium against the whole stack."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from tests.api.browser import Tab
from tests.support.stack import Stack
from tests.web.conftest import signed_in
from tests.web.test_lists import MATCHING, ROWS, STILL
from tests.web.test_pages import READY, REPORT, tile

TILES = ("Sent", "Delivered", "Opened", "Clicked", "Bounced", "Complained", "Unsubscribed")
LINKS = "[...document.querySelectorAll('.links > li')]"
PAGE_ROWS = 50


async def on_report(tab: Tab, stack: Stack, count: str) -> None:
    await signed_in(tab, stack, REPORT)
    await tab.until(READY[REPORT])
    await tab.run(f"document.querySelector('input[value={count}]').click()")


@pytest.mark.parametrize("count", ["all", "people"])
async def test_a_tile_leads_to_whom_it_counts(stack: Stack, tab: Tab, count: str) -> None:
    await on_report(tab, stack, count)
    for label in TILES:
        await tab.until(READY[REPORT])
        summary = stack.summary("spring", count=count)
        value = int(str(summary[label.lower()]))
        await tab.until(f"{tile(label)} === '{value}'")
        await tab.run(
            "[...document.querySelectorAll('.tile')].find(one => one.querySelector('dt').textContent === "
            f"'{label}').querySelector('a').click()"
        )
        await tab.until(f"location.search === '?status={label.lower()}'")
        await tab.until(f"{MATCHING} === '{value}'")
        await tab.until(f"{STILL} && {ROWS}.length === {min(value, PAGE_ROWS)}")
        await tab.run("history.back()")


@pytest.mark.parametrize("count", ["all", "people"])
async def test_a_link_leads_to_its_clicks_and_clickers(stack: Stack, tab: Tab, count: str) -> None:
    await on_report(tab, stack, count)
    rows = stack.get("/api/v1/campaigns/spring/links", key=stack.key(), count=count).json()["links"]["rows"]
    first = rows[0]
    assert 0 < first["unique_clicks"] <= PAGE_ROWS
    figures = f"{LINKS}[0].querySelectorAll('.figure')"
    await tab.until(f"{figures}[1]?.textContent === '{first['unique_clicks']}people'")
    await tab.run(f"{figures}[1].querySelector('a').click()")
    await tab.until(f"{MATCHING} === '{first['unique_clicks']}'")
    await tab.until(f"{STILL} && {ROWS}.length === {first['unique_clicks']}")
    await tab.run("history.back()")
    await tab.until(READY[REPORT])
    await tab.until(f"{figures}[0]?.textContent === '{first['total_clicks']}clicks'")
    await tab.run(f"{figures}[0].querySelector('a').click()")
    await tab.until(f"document.querySelectorAll('.events > li').length === {first['total_clicks']}")


async def test_a_clicker_a_country_and_a_variant_lead_to_their_lists(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack, REPORT)
    await tab.until(READY[REPORT])
    await tab.run("document.querySelector('.links details summary').click()")
    await tab.until("document.querySelector('.links .pairs a')")
    who = str(await tab.run("document.querySelector('.links .pairs a').textContent"))
    await tab.run("document.querySelector('.links .pairs a').click()")
    await tab.until(f"document.querySelector('[aria-label=Recipient] h2')?.textContent === '{who}'")
    await tab.run("history.back()")
    await tab.until("document.querySelector('[aria-label=Places] .bars a')")
    await tab.run("document.querySelector('[aria-label=Places] .bars a').click()")
    await tab.until(f"/^.country=[A-Z]{{2}}$/.test(location.search) && {STILL} && {ROWS}.length > 0")
    await tab.run("history.back()")
    variant = "document.querySelector('section[aria-label=\"A/B test\"] tbody a')"
    await tab.until(variant)
    recipients = str(await tab.run(f"{variant}.textContent"))
    await tab.run(f"{variant}.click()")
    await tab.until(f"location.search.includes('variant.subject=') && {STILL} && {ROWS}.length > 0")
    filters = dict(parse_qsl(str(await tab.run("location.search")).removeprefix("?")))
    listed = stack.get("/api/v1/campaigns/spring/recipients", key=stack.key(), limit="500", **filters)
    assert str(len(listed.json()["items"])) == recipients
