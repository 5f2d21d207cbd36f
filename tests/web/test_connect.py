"""Connecting a mail service, in a real Chromium against the whole stack."""

from __future__ import annotations

import time

from app.esps import ESPS
from tests.api.browser import Tab
from tests.support.processes import ROOT
from tests.support.stack import Stack
from tests.web.conftest import signed_in

LIGHT = "document.querySelector('[aria-label=\"Source {}\"] .light')"


async def test_the_first_run_from_no_campaign_to_a_green_light(stack: Stack, tab: Tab) -> None:
    """Of another organisation, from which nothing has come yet."""
    await tab.open(f"{stack.url}/#key={stack.key('globex')}")
    await tab.until(LIGHT.format("own"))
    assert "No campaign yet" in await tab.text()
    mail = "document.querySelector('[aria-label=\"Source mail\"] input').value"
    assert await tab.run(mail) == f"{stack.url}/webhooks/globex/mail"
    assert "Waiting" in str(await tab.run(f"{LIGHT.format('own')}.textContent"))
    await tab.open(f"{stack.url}/connect")
    await tab.until(LIGHT.format("own"))
    await tab.run("window.here = true")
    event: dict[str, object] = {
        "type": "sent",
        "campaign": "first",
        "recipient": "ada@example.com",
        "at": int(time.time() * 1000),
    }
    stack.post_events([event], "globex").raise_for_status()
    await tab.until(f"{LIGHT.format('own')}.classList.contains('live')")
    assert await tab.run("window.here") is True
    assert "Waiting" in str(await tab.run(f"{LIGHT.format('mail')}.textContent"))
    await tab.run("document.querySelector('nav a').click()")
    await tab.until("document.querySelectorAll('.campaign').length === 1")


async def test_what_was_refused_is_told_and_the_address_is_copied(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack, "/connect")
    await tab.until(f"{LIGHT.format('app')}?.classList.contains('live')")
    news = "document.querySelector('[aria-label=\"Source news\"]')"
    status = await tab.run(
        f"fetch({news}.querySelector('input').value, {{method: 'POST', body: '[]'}}).then(a => a.status)"
    )
    assert status == 401
    await tab.until(f"{news}.textContent.includes('1 refused: with a signature')")
    assert not await tab.run(f"{LIGHT.format('news')}.classList.contains('live')")
    await tab.run(
        "navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }"
    )
    await tab.run(f"{news}.querySelector('button').click()")
    await tab.until(f"{news}.querySelector('button').textContent === 'Copied'")
    assert await tab.run("window.copied") == f"{stack.url}/webhooks/acme/news"
    await tab.run("navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'))")
    await tab.run(f"{news}.querySelector('button').click()")
    await tab.until("document.activeElement.selectionEnd === document.activeElement.value?.length")


def test_every_esp_has_its_words() -> None:
    text = (ROOT / "web/src/pages/connect/esps.ts").read_text("utf-8")
    assert [name for name in ESPS if f"\n  {name}: {{ name:" not in text] == []
