"""`make screenshots`: every page, light, dark and on a phone, as PNGs in `screenshots/`; the data are made up.

`python -m tests.web.screenshots report ab` takes those pages alone, `… readme` the pictures of the README.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx

from tests.api.browser import Tab, browsing
from tests.support.processes import ROOT
from tests.support.stack import Stack
from tests.web.conftest import signed_in
from tests.web.sample import EVIL, campaign, hostile

FOLDER: Final = ROOT / "screenshots"
PICTURES: Final = ROOT / "docs" / "pictures"
RECIPIENTS: Final = 2_000
LOOKS: Final = (("light", 1280, False), ("dark", 1280, True), ("phone", 360, False))
RECORDS: Final = {
    "spring": ("Spring sale", "Up to 40 % off everything for the garden", 72),
    "newsletter-47": ("Newsletter 47", "What is new in November", 30),
    "welcome": ("Welcome", "Good that you are here", 200),
    "black-friday": ("Black Friday", "Only today: two for one", 2),
}
CLICKER: Final = next(
    str(one["recipient"]) for one in campaign("spring", RECIPIENTS, seed=0) if one["type"] == "clicked"
)
PAGES: Final = {
    "campaigns": "/",
    "report": "/campaigns/spring",
    "recipients": "/campaigns/spring/recipients",
    "recipient": f"/campaigns/spring/recipients/{quote(CLICKER)}",
    "events": "/campaigns/spring/events",
    "hostile-recipients": f"/campaigns/{quote(EVIL, safe='')}/recipients",
    "hostile-events": f"/campaigns/{quote(EVIL, safe='')}/events",
    "hostile": f"/campaigns/{quote(EVIL, safe='')}",
    "ab": "/campaigns/black-friday/ab",
    "compare": "/compare?campaign=spring&campaign=newsletter-47&campaign=welcome",
    "connect": "/connect",
    "operations": "/operations",
    "not-found": "/campaigns/nothing",
}
README: Final = {
    "report": ("/campaigns/spring", 1280, 1090, False),
    "ab": ("/campaigns/black-friday/ab", 1280, 900, True),
    "phone": ("/campaigns/spring", 360, 740, False),
}
"""Name → address, window and darkness of the pictures in `docs/pictures/`."""
SETTLES_S: Final = 1.5


def fill(stack: Stack) -> None:
    headers = {"authorization": f"Bearer {stack.key()}"}
    for number, (name, (title, subject, hours)) in enumerate(RECORDS.items()):
        events = campaign(name, RECIPIENTS + 300 * number, hours=hours, seed=number)
        for first in range(0, len(events), 4_000):
            stack.post_events(events[first : first + 4_000]).raise_for_status()
        record = {
            "name": title,
            "subject": subject,
            "fields": {"subject": {"A": subject, "B": f"Only for you: {subject}"}},
        }
        httpx.put(
            f"{stack.url}/api/v1/campaigns/{name}",
            json=record,
            headers=headers,
            trust_env=False,
            verify=False,
        ).raise_for_status()
    stack.post_events(hostile()).raise_for_status()
    stack.wait_for(
        lambda: stack.summary("black-friday").get("sent", 0) == RECIPIENTS + 900, 60, "everything counted"
    )


async def shoot(stack: Stack, only: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with browsing(Path(folder)) as tab:
            for look, width, dark in LOOKS:
                await tab.look(width, 900 if width > 400 else 740, dark=dark)
                await tab.open(f"{stack.url}/?{look}")
                await tab.run("fetch('/session', {method: 'DELETE'})")
                await tab.open(f"{stack.url}/?{look}2")
                await asyncio.sleep(SETTLES_S)
                (FOLDER / f"sign-in-{look}.png").write_bytes(await tab.screenshot())
                for name, path in PAGES.items():
                    if only and name not in only:
                        continue
                    await signed_in(tab, stack, path)
                    # What is drawn when it comes into sight is drawn, too.
                    await tab.run(
                        "new Promise(done => { let y = 0; const go = () => { scrollTo(0, y); y += 500;"
                        " if (y > document.body.scrollHeight) { scrollTo(0, 0); done(); } else setTimeout(go, 60); };"
                        " setTimeout(go, 500); })"
                    )
                    await asyncio.sleep(SETTLES_S)
                    (FOLDER / f"{name}-{look}.png").write_bytes(await tab.screenshot())
                if not only or "share" in only:
                    await sharing(stack, tab, look)


async def picture(stack: Stack) -> None:
    """What the README shows: one window each."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with browsing(Path(folder)) as tab:
            for name, (path, width, height, dark) in README.items():
                await tab.look(width, height, dark=dark)
                await signed_in(tab, stack, path)
                await tab.call("Emulation.setScrollbarsHidden", hidden=True)
                await tab.until("document.querySelector('.chart canvas, .heatmap td')")
                await asyncio.sleep(SETTLES_S)
                (PICTURES / f"{name}.png").write_bytes(await tab.screenshot(whole=False))


async def sharing(stack: Stack, tab: Tab, look: str) -> None:
    """The dialog with a link in it, and what the link shows."""
    await signed_in(tab, stack, "/campaigns/spring")
    await tab.until("document.querySelector('#share')")
    await tab.run("document.querySelector('#share').click()")
    await tab.until("document.querySelector('dialog form button[aria-disabled=false]')")
    await tab.run("document.querySelector('dialog form button').click()")
    await tab.until("document.querySelector('dialog .copy input')")
    (FOLDER / f"share-{look}.png").write_bytes(await tab.screenshot())
    await tab.open(str(await tab.run("document.querySelector('dialog .copy input').value")))
    await tab.until("document.querySelector('.chart canvas')")
    await asyncio.sleep(SETTLES_S)
    (FOLDER / f"shared-{look}.png").write_bytes(await tab.screenshot())


def main() -> None:
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Stack(Path(folder), PARTITIONS="2") as stack,
    ):
        stack.start_all()
        fill(stack)
        readme = sys.argv[1:] == ["readme"]
        asyncio.run(picture(stack) if readme else shoot(stack, sys.argv[1:]))
    sys.stdout.write(f"{PICTURES if readme else FOLDER}: done in {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
