"""Sharing a report and reading a shared one, in a real Chromium against the whole stack."""

from __future__ import annotations

import time
from urllib.parse import quote

import httpx
import pytest

from tests.api.browser import Tab
from tests.support.stack import Stack
from tests.web.between import between
from tests.web.conftest import signed_in
from tests.web.sample import EVIL, said
from tests.web.test_operations import button
from tests.web.test_pages import HOSTILE, READY, REPORT, assert_accessible, tile

LINK = "document.querySelector('dialog .copy input')?.value"
ENDED = "document.querySelector('h1')?.textContent === 'This link has ended'"


def share(stack: Stack, campaign: str, for_s: float = 3_600) -> dict[str, str]:
    answer = httpx.post(
        f"{stack.url}/api/v1/campaigns/{quote(campaign, safe='')}/shares",
        json={"expires": int((time.time() + for_s) * 1000)},
        headers={"authorization": f"Bearer {stack.key()}"},
        trust_env=False,
        verify=False,
    )
    found: dict[str, str] = answer.raise_for_status().json()
    return found


def unshare(stack: Stack, campaign: str, share_id: str) -> None:
    httpx.delete(
        f"{stack.url}/api/v1/campaigns/{quote(campaign, safe='')}/shares/{share_id}",
        headers={"authorization": f"Bearer {stack.key()}"},
        trust_env=False,
        verify=False,
    ).raise_for_status()


async def test_a_report_is_shared_read_and_taken_back(stack: Stack, tab: Tab) -> None:
    await signed_in(tab, stack, REPORT)
    await tab.until(READY[REPORT])
    await tab.run("document.querySelector('#share').click()")
    await tab.until("document.querySelector('dialog').innerText.includes('No link works')")
    await button(tab, "Make a link")
    await tab.until(LINK)
    await assert_accessible(tab)
    link = str(await tab.run(LINK))
    assert link.startswith(f"{stack.url}/shared#")
    await tab.run("fetch('/session', {method: 'DELETE'})")

    await tab.open(link)
    await tab.until(READY[REPORT])
    assert (
        await tab.run("[...document.querySelectorAll('a')].filter(a => a.origin === location.origin).length")
        == 0
    )
    await tab.run("document.querySelector('.links details summary').click()")
    await tab.until("document.querySelector('.links details[open] h3')")
    seen = await tab.text()
    assert "Top clickers" not in seen and "Sign out" not in seen and "Share" not in seen.split()
    assert "Shared until" in seen
    await tab.until("document.querySelector('.light.live')")
    before = int(str(await tab.run(tile("Unsubscribed"))))
    stack.post_events([said("unsubscribed")]).raise_for_status()
    await tab.until(f"{tile('Unsubscribed')} === '{before + 1}'")
    # A filter leaves the token where it is, so the page can be loaded anew.
    await tab.run("document.querySelector('input[value=clicks]').click()")
    assert await tab.run("location.href") == link.replace("#", "?series=clicks#")
    await tab.run("location.reload()")
    await tab.until(f"document.readyState === 'complete' && {READY[REPORT]}")
    assert await tab.run("fetch('/session').then(answer => answer.status)") == 401

    async with httpx.AsyncClient(
        trust_env=False, headers={"authorization": f"Bearer {stack.key()}"}, verify=False
    ) as client:
        shares = f"{stack.url}/api/v1/campaigns/spring/shares"
        made = next(one for one in (await client.get(shares)).json()["items"] if one["url"] == link)
        assert (await client.delete(f"{shares}/{made['id']}")).status_code == 204
    await tab.until(ENDED)
    assert await tab.run("document.querySelectorAll('.tile').length") == 0


async def test_a_link_is_revoked_in_the_dialog(stack: Stack, tab: Tab) -> None:
    link = share(stack, EVIL)["url"]
    await signed_in(tab, stack, HOSTILE)
    await tab.until(READY[HOSTILE])
    await tab.run("document.querySelector('#share').focus(), document.querySelector('#share').click()")
    await tab.until(f"{LINK} === '{link}'")
    await tab.look(360, 740, dark=True)
    assert await tab.run("document.documentElement.scrollWidth") <= 360
    await assert_accessible(tab)
    await button(tab, "Revoke")
    await button(tab, "Revoke now")
    await tab.until("document.querySelector('dialog').innerText.includes('1 that ended')")
    await tab.call(
        "Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape", windowsVirtualKeyCode=27
    )
    await tab.until("!document.querySelector('dialog').open && document.activeElement.id === 'share'")
    await tab.open(link)
    await tab.until(ENDED)


async def test_who_may_only_read_shares_nothing(stack: Stack, tab: Tab) -> None:
    await tab.open(f"{stack.url}{REPORT}#key={(stack.data / 'keys/reader').read_text().strip()}")
    await tab.until(READY[REPORT])
    assert not await tab.run("document.querySelector('#share')")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_a_shared_report_on_a_phone_with_hostile_texts(stack: Stack, tab: Tab, dark: bool) -> None:
    await tab.look(360, 740, dark=dark)
    await tab.open(f"{stack.url}/shared#nothing")
    await tab.until(ENDED)
    await assert_accessible(tab)
    await tab.open(f"{stack.url}/shared?2{share(stack, EVIL)['url'].partition('/shared')[2]}")
    await tab.until(READY[HOSTILE])
    assert await tab.run("document.querySelector('h1').textContent") == EVIL
    assert await tab.run("document.querySelectorAll('main img, main svg[onload], main script').length") == 0
    assert await tab.run("document.documentElement.scrollWidth") <= 360
    await assert_accessible(tab)
    assert [line for line in tab.complaints if "400" not in line and "401" not in line] == []


async def test_no_link_is_made_before_the_list_of_them_is_there(stack: Stack, tab: Tab) -> None:
    """The list would come later than the link, and hide it."""
    shares = "/api/v1/campaigns/spring/shares"
    async with between(stack.url) as line:
        await signed_in(tab, stack, REPORT, line.address)
        await tab.until(READY[REPORT])
        line.hold(shares)
        # Pressed as soon as it is in the page, before anything else of the page has run.
        await tab.run(
            "new MutationObserver((_, watching) => { const one = document.querySelector('dialog form button');"
            " if (one) { watching.disconnect(); one.click(); } }).observe(document, {subtree: true, childList: true})"
        )
        await tab.run("document.querySelector('#share').click()")
        await tab.until("document.querySelector('dialog form button')")
        line.free()
        await tab.until("document.querySelector('dialog form button[aria-disabled=false]')")
        assert line.asked.count(shares) == 1
        assert "No link works" in await tab.text()
