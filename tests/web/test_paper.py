"""A report on paper and as a picture, in a real Chromium against the whole stack."""

from __future__ import annotations

import base64
import io
import json
import unicodedata
from typing import Any, Final

import pytest
from pypdf import PageObject, PdfReader

from tests.api.browser import Tab
from tests.support.stack import Stack
from tests.web.sample import LINKS
from tests.web.test_pages import (
    AB,
    COMPARE,
    EVENTS,
    HOSTILE,
    READY,
    RECIPIENTS,
    REPORT,
    assert_accessible,
    show,
)
from tests.web.test_shared import share, unshare

A4: Final = (210, 297)
LETTER: Final = (215.9, 279.4)
SECTIONS: Final = (
    "By the hour",
    "Who opened",
    "Who clicked",
    "Links",
    "A/B test",
    "Places",
    "Clients and devices",
    "Mailbox providers",
)
CHARTS: Final = 2
"""Of a report: its timeline and its map."""
WIDE: Final = 3 * 690
"""Pixels of a printed chart, at three times the paper's."""
OF_A_SCREEN: Final = (
    "Print or PDF",
    "Show all",
    "As a table",
    "Sign out",
    "Operations",
    "Behind by",
    "Event log",
    "Hours",
)
PRINT: Final = "window.asked = 0; window.print = () => { window.asked += 1; }"
KEEP: Final = (
    "window.blob = null; URL.createObjectURL = blob => { window.blob = blob; return 'blob:x'; };"
    " HTMLAnchorElement.prototype.click = function () { window.savedAs = this.download; }"
)
SAID: Final = "document.querySelector('.take [role=status]').textContent"
PIXELS: Final = """
createImageBitmap(window.blob).then(picture => {
  const canvas = document.createElement('canvas');
  canvas.width = picture.width; canvas.height = picture.height;
  const to = canvas.getContext('2d');
  to.drawImage(picture, 0, 0);
  const {data} = to.getImageData(0, 0, canvas.width, canvas.height);
  const bands = Array(20).fill(0);
  let light = 0, accent = 0;
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue] = [data[at], data[at + 1], data[at + 2]];
    if (red > 225 && green > 225 && blue > 225) light += 1;
    else bands[Math.floor(bands.length * at / data.length)] += 1;
    if (red === 0x24 && green === 0x56 && blue === 0xc8) accent += 1;
  }
  return JSON.stringify({width: canvas.width, height: canvas.height, bands, accent, light: 4 * light / data.length,
    corner: [...data.slice(0, 4)], bytes: window.blob.size, type: window.blob.type});
})
"""
UNFOLD: Final = (
    "document.querySelectorAll('main details').forEach(one => { one.open = true; });"
    " document.querySelectorAll('main .more').forEach(one => one.click())"
)
CUT: Final = """
(() => {
  const paper = document.querySelector('.paper');
  const {left, right} = paper.getBoundingClientRect();
  return [...paper.querySelectorAll('*')].filter(one => {
    const box = one.getBoundingClientRect();
    if (!box.width) return false;
    const hides = getComputedStyle(one).overflowX !== 'visible';
    return box.left < left - 1 || box.right > right + 1
      || (hides && (one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1));
  }).map(one => one.outerHTML.slice(0, 200));
})()
"""


async def ask_to_print(tab: Tab) -> None:
    """As a person does with the keys; the browser's own dialog stays away."""
    await tab.run(PRINT)
    keys = {"key": "p", "code": "KeyP", "windowsVirtualKeyCode": 80, "modifiers": 2}
    await tab.call("Input.dispatchKeyEvent", type="keyDown", **keys)
    await tab.call("Input.dispatchKeyEvent", type="keyUp", **keys)
    await tab.until("window.asked === 1", 20)


async def pdf(tab: Tab, size_mm: tuple[float, float] = A4) -> list[PageObject]:
    """Without backgrounds, as browsers print unless somebody asks for them."""
    width, height = (side / 25.4 for side in size_mm)
    made = await tab.call("Page.printToPDF", paperWidth=width, paperHeight=height, printBackground=False)
    return list(PdfReader(io.BytesIO(base64.b64decode(made["data"]))).pages)


def text_of(pages: list[PageObject]) -> str:
    """In one line; ligatures are letters again."""
    return " ".join(unicodedata.normalize("NFKC", " ".join(page.extract_text() for page in pages)).split())


def images(pages: list[PageObject]) -> list[int]:
    """The widths of the pictures on the pages."""
    resources: list[Any] = [page["/Resources"] for page in pages]
    found = [each.get_object() for one in resources for each in one.get("/XObject", {}).values()]
    return [one["/Width"] for one in found if one["/Subtype"] == "/Image"]


async def picture(tab: Tab) -> dict[str, Any]:
    await tab.run(KEEP)
    await tab.run("document.querySelector('#picture').click()")
    await tab.until(f"window.blob && {SAID} === 'The picture is saved.'", 20)
    found: dict[str, Any] = json.loads(str(await tab.run(PIXELS)))
    return found


@pytest.mark.parametrize("size_mm", [A4, LETTER], ids=["a4", "letter"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_a_printed_report_has_everything_that_it_needs(
    stack: Stack, tab: Tab, dark: bool, size_mm: tuple[float, float]
) -> None:
    await tab.look(360 if dark else 1280, 740, dark=dark)
    await show(tab, stack, REPORT)
    drawn = await tab.run("document.querySelector('.chart canvas').width")
    await ask_to_print(tab)
    pages = await pdf(tab, size_mm)
    assert 2 <= len(pages) <= 4
    assert {tuple(round(float(side) / 72 * 25.4) for side in page.mediabox[2:]) for page in pages} == {
        tuple(round(side) for side in size_mm)
    }
    for number, page in enumerate(pages, 1):
        assert f"{number} / {len(pages)}" in text_of([page])
    text = text_of(pages)
    at = 0
    for words in ("Acme", "spring", "Every event", "Europe/Berlin", *SECTIONS):
        assert words in text[at:]
        at = text.index(words, at)
    for words in OF_A_SCREEN:
        assert words not in text
    together = text.replace(" ", "")
    for link, _ in LINKS:
        assert link in together
    assert "https://db-ip.com" in together
    assert images(pages) == [WIDE] * CHARTS
    # The page itself is as before.
    assert await tab.run("document.querySelector('.paper')") is None
    assert await tab.run("document.querySelector('.chart canvas').width") == drawn
    assert [line for line in tab.complaints if "401" not in line] == []


async def test_paper_says_what_was_chosen(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    await tab.run("document.querySelector('input[value=people]').click()")
    await tab.run("document.querySelector('input[value=clicks]').click()")
    people = f"{stack.summary('spring', count='people')['total_clicks']} clicks in all"
    await tab.until(f"document.querySelector('.tiles').textContent.includes({json.dumps(people)})")
    await tab.run("document.querySelector('.links details summary').click()")
    await tab.until("document.querySelector('.links details[open] .pairs li')")
    await ask_to_print(tab)
    text = text_of(await pdf(tab))
    for words in ("People only", "First clicks", people, "Top clickers", "Positions in the mail"):
        assert words in text
    assert "Every event" not in text


async def test_lists_are_printed_across_with_their_heads_on_every_page(stack: Stack, tab: Tab) -> None:
    for path, words in ((f"{RECIPIENTS}?status=delivered", "Status Delivered"), (EVENTS, "Newest first")):
        await show(tab, stack, path.partition("?")[0])
        await tab.open(f"{stack.url}{path}")
        await tab.until("document.querySelectorAll('.list tbody tr, .events > li').length === 50")
        await ask_to_print(tab)
        pages = await pdf(tab)
        assert 1 < len(pages) < 8
        assert all(page.mediabox.width > page.mediabox.height for page in pages)
        assert words in text_of(pages[:1])
        if path != EVENTS:
            assert all("Newest event" in text_of([page]) for page in pages)
        assert "Export" not in text_of(pages)


@pytest.mark.parametrize("path", [REPORT, HOSTILE, AB, COMPARE, RECIPIENTS, EVENTS])
async def test_nothing_is_cut_or_wider_than_the_paper(stack: Stack, tab: Tab, path: str) -> None:
    await show(tab, stack, path)
    await tab.run(UNFOLD)
    await ask_to_print(tab)
    await tab.run("dispatchEvent(new Event('beforeprint'))")
    # Between the margins: across a sheet of Letter for lists, which is less wide than A4 there; else down one of A4.
    await tab.look(944 if path in (RECIPIENTS, EVENTS) else 688, 1000)
    await tab.call("Emulation.setEmulatedMedia", media="print")
    assert await tab.run("document.querySelector('.paper').getBoundingClientRect().width") > 600
    assert await tab.run("getComputedStyle(document.querySelector('#app')).display") == "none"
    assert await tab.run(CUT) == []
    await tab.run("dispatchEvent(new Event('afterprint'))")
    await tab.call("Emulation.setEmulatedMedia", media="screen")
    assert await tab.run("document.querySelector('#app').getBoundingClientRect().width") > 600


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_a_report_as_a_picture(stack: Stack, tab: Tab, dark: bool) -> None:
    await tab.look(360 if dark else 1280, 740, dark=dark)
    await show(tab, stack, REPORT)
    found = await picture(tab)
    assert await tab.run("window.savedAs") == "spring-report.png"
    assert found["type"] == "image/png" and 100_000 < found["bytes"] < 5_000_000
    # As wide as A4 at twice 96 dots an inch, with every section below the other.
    assert found["width"] == 2 * 794 and 4_000 < found["height"] < 9_000
    assert found["corner"] == [255, 255, 255, 255] and found["light"] > 0.6
    # Nowhere empty, and its bars are in the light theme's colour.
    assert min(found["bands"]) > 0.005 * found["width"] * found["height"] / 20
    assert found["accent"] > 30_000
    assert await tab.run("document.querySelector('.paper')") is None
    assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
    await assert_accessible(tab)
    assert [line for line in tab.complaints if "401" not in line] == []


async def test_paper_keeps_its_colours_where_the_screen_has_those_of_the_system(
    stack: Stack, tab: Tab
) -> None:
    chosen = {"forced-colors": "active", "prefers-color-scheme": "dark"}
    features = [{"name": name, "value": value} for name, value in chosen.items()]
    await tab.call("Emulation.setEmulatedMedia", features=features)
    await show(tab, stack, REPORT)
    found = await picture(tab)
    assert found["accent"] > 30_000 and found["light"] > 0.6
    await ask_to_print(tab)
    assert images(await pdf(tab)) == [WIDE] * CHARTS


async def test_the_picture_is_painted_where_the_browser_would(stack: Stack, tab: Tab) -> None:
    """The browser's own picture of the copy for paper, and ours: the same but for the edges of letters."""
    await show(tab, stack, REPORT)
    await tab.run("window.remove = Element.prototype.remove; Element.prototype.remove = function () {"
                  " if (!this.classList.contains('paper')) window.remove.call(this); }")  # fmt: skip
    await picture(tab)
    await tab.run(
        "document.querySelector('.paper').style.left = 0; document.querySelector('#app').style.display = 'none';"
        " document.querySelector('.paper').style.position = 'absolute'"
    )
    box = json.loads(
        str(await tab.run("JSON.stringify(document.querySelector('.paper').getBoundingClientRect())"))
    )
    clip = {"x": 0, "y": 0, "width": box["width"], "height": box["height"], "scale": 2}
    shot = await tab.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    script = f"""
    (async () => {{
      const text = atob({json.dumps(shot["data"])});
      const bytes = Uint8Array.from(text, letter => letter.charCodeAt(0));
      const [one, other] = await Promise.all([window.blob, new Blob([bytes])].map(blob => createImageBitmap(blob)));
      const pixels = picture => {{
        const canvas = document.createElement('canvas');
        canvas.width = one.width / 4; canvas.height = one.height / 4;
        const to = canvas.getContext('2d');
        to.imageSmoothingQuality = 'high';
        to.drawImage(picture, 0, 0, canvas.width, canvas.height);
        return to.getImageData(0, 0, canvas.width, canvas.height).data;
      }};
      const [ours, theirs] = [pixels(one), pixels(other)];
      let far = 0;
      for (let at = 0; at < ours.length; at += 4) if (Math.abs(ours[at] - theirs[at]) > 60) far += 1;
      return JSON.stringify([Math.abs(one.height - other.height), 4 * far / ours.length]);
    }})()
    """
    higher, far = json.loads(str(await tab.run(script)))
    assert higher <= 2
    assert far < 0.002


async def test_a_shared_report_is_taken_along_too(stack: Stack, tab: Tab) -> None:
    link = share(stack, "spring")
    await tab.open(link["url"])
    await tab.until(READY[REPORT])
    assert (await picture(tab))["height"] > 4_000
    assert await tab.run("window.savedAs") == "spring-report.png"
    await ask_to_print(tab)
    text = text_of(await pdf(tab))
    assert all(words in text for words in ("Acme", *SECTIONS))
    assert "Shared until" not in text and "PNG" not in text
    unshare(stack, "spring", link["id"])


async def test_a_name_that_is_no_file_name(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, HOSTILE)
    found = await picture(tab)
    name = str(await tab.run("window.savedAs"))
    assert name.endswith("-report.png") and not set('<>:"/\\|?*') & set(name)
    assert found["height"] > 3_000
    await ask_to_print(tab)
    text = text_of(await pdf(tab))
    assert "onload=document.title=/owned/" in text.replace(" ", "")
    assert "x" * 400 not in text.replace(" ", "")
    assert "owned" not in str(await tab.run("document.title")).replace("/owned/", "")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_a_picture_that_cannot_be_made_says_so_and_printing_goes_on(
    stack: Stack, tab: Tab, dark: bool
) -> None:
    await tab.look(360, 740, dark=dark)
    await tab.call("Network.enable")
    await tab.call("Network.setBlockedURLs", urls=["*/assets/map-*"])
    await show(tab, stack, f"{REPORT}")
    await tab.run("document.querySelector('#picture').click()")
    await tab.until(f"{SAID} === 'No picture was made. A part of this page could not be loaded.'", 20)
    await assert_accessible(tab)
    assert await tab.run("document.documentElement.scrollWidth") <= 360
    await ask_to_print(tab)
    text = text_of(await pdf(tab))
    assert "This part of the page could not be loaded." in text and "Mailbox providers" in text
    # Once it can be loaded, the same button makes the picture.
    await tab.call("Network.setBlockedURLs", urls=[])
    await tab.run("HTMLCanvasElement.prototype.toBlob = done => done(null)")
    await tab.run("document.querySelector('.state.bad button').click()")
    await tab.until("!document.querySelector('.state.bad')")
    await tab.run("document.querySelector('#picture').click()")
    await tab.until(f"{SAID} === 'No picture was made. The browser could not write it.'", 20)


async def test_a_chart_that_cannot_be_drawn_says_so(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    await ask_to_print(tab)
    await tab.run("HTMLCanvasElement.prototype.getContext = () => null")
    text = text_of(await pdf(tab))
    assert text.count("This chart could not be drawn.") == CHARTS and SECTIONS[-1] in text
    await tab.run("document.querySelector('#picture').click()")
    await tab.until(f"{SAID} === 'No picture was made. A chart could not be drawn.'", 20)
    assert await tab.run("document.querySelector('.paper')") is None


async def test_a_picture_is_of_the_range_that_is_zoomed_to(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    # Elsewhere than on a secure address browsers have no digests; a sum that knows the place of each byte does as well.
    digest = (
        "window.blob.arrayBuffer().then(bytes => new Uint8Array(bytes)"
        ".reduce((sum, byte) => (31 * sum + byte) % 4294967291, 7))"
    )
    seen = []
    for clicked in ("All", "All", "24 hours"):
        button = (
            f"[...document.querySelectorAll('.ranges button')].find(one => one.textContent === '{clicked}')"
        )
        await tab.run(f"{button}.click()")
        await tab.run("document.querySelector('#picture').focus()")
        await picture(tab)
        assert await tab.run("document.activeElement.id") == "picture"
        seen.append(await tab.run(digest))
    assert seen[0] == seen[1] != seen[2]


async def test_a_report_too_long_for_a_picture_is_not_cut_or_shrunk(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    await tab.run(
        "const far = document.createElement('div'); far.style.height = '15000px';"
        " document.querySelector('main').append(far)"
    )
    await tab.run("document.querySelector('#picture').click()")
    await tab.until(f"{SAID}.startsWith('No picture was made. The report is too long for one picture')", 20)


async def test_the_button_prints(stack: Stack, tab: Tab) -> None:
    await show(tab, stack, REPORT)
    await tab.run(PRINT)
    await tab.run("document.querySelector('#print').click()")
    await tab.until("window.asked === 1 && document.querySelectorAll('.chart canvas').length === 2", 20)
