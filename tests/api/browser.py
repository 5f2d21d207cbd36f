"""A real Chromium, driven by the little of its DevTools protocol that tests of the pages need."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

STARTS_WITHIN_S = 30.0
REDRAWS_S = 1.0
"""Charts are drawn anew in another size within that, on a busy machine too."""
FLAGS = [
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
]

KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    " ": ("Space", 32, " "),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
}
"""Key → its code, its number and the text that it writes."""


class Tab:
    """One page. What it logs and what it couldn't load or run is kept in `complaints`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._window = (1280, 900)
        self.complaints: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            document = json.loads(message.data)
            if "id" in document:
                self._answers.pop(document["id"]).set_result(document)
            elif document["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(document["params"]))

    async def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        future = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(future, 20)
        assert "error" not in answer, answer
        return answer["result"]

    async def run(self, script: str) -> Any:
        """The value of a script; promises are awaited."""
        result = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str, timeout_s: float = 30.0) -> None:
        """Waits until the script's value is true."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not await self.run(f"Boolean({script})"):
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"{script}\n{await self.text()}\n{self.complaints}")
            await asyncio.sleep(0.02)

    async def press(self, key: str, *, shift: bool = False) -> None:
        """One of `KEYS`, or a character, as from a keyboard."""
        code, number, text = KEYS.get(key, (key, ord(key.upper()[0]), key))
        same = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": 8 if shift else 0}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        await self.call("Input.dispatchKeyEvent", **same, **down)
        await self.call("Input.dispatchKeyEvent", **same, type="keyUp")

    async def open(self, address: str) -> None:
        await self.call("Page.navigate", url=address)
        await self.until("document.readyState === 'complete'")

    async def text(self) -> str:
        return str(await self.run("document.body.innerText"))

    async def look(self, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        self._window = (width, height)
        await self._size(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def _size(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def screenshot(self, *, whole: bool = True) -> bytes:
        """A PNG of the page, or of what of it is in the window."""
        if not whole:
            shot = await self.call("Page.captureScreenshot", format="png")
            return base64.b64decode(shot["data"])
        # What is beyond the window isn't drawn, or is just being drawn anew, when a picture is taken of it.
        width, height = self._window
        await self._size(width, max(height, int(await self.run("document.documentElement.scrollHeight"))))
        await asyncio.sleep(REDRAWS_S)
        shot = await self.call("Page.captureScreenshot", format="png")
        await self._size(width, height)
        return base64.b64decode(shot["data"])

    async def close(self) -> None:
        await self._socket.close()
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def _port(file: Path) -> str:
    """The port that the browser writes to the file when it listens."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        if file.exists() and "\n" in (text := file.read_text()):
            return text.split()[0]
        time.sleep(0.05)
    raise TimeoutError("Chromium did not start")


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[str]:
    """The address of a new browser's DevTools; its profile is in the folder."""
    program = chromium()
    if program is None:
        pytest.fail("no Chromium on PATH: `make debian-packages` installs it")
    # As root there is no sandbox, and the tests show nothing but our own pages.
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={folder}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *flags], stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{_port(folder / 'DevToolsActivePort')}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Its helpers end a moment later, and would still write into the folder.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def tab_of(address: str) -> AsyncIterator[Tab]:
    """A tab that shares nothing (cookies, storage, cache) with the browser's other ones."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{address}/json/version") as answer:
            whole = await answer.json()
        control = Tab(await session.ws_connect(whole["webSocketDebuggerUrl"], max_msg_size=0))
        context = (await control.call("Target.createBrowserContext"))["browserContextId"]
        try:
            made = await control.call("Target.createTarget", url="about:blank", browserContextId=context)
            page = f"{address.replace('http', 'ws', 1)}/devtools/page/{made['targetId']}"
            tab = Tab(await session.ws_connect(page, max_msg_size=0))
            try:
                for domain in ("Page", "Runtime", "Log"):
                    await tab.call(f"{domain}.enable")
                yield tab
            finally:
                await tab.close()
        finally:
            await control.call("Target.disposeBrowserContext", browserContextId=context)
            await control.close()


@contextlib.asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Tab]:
    """A tab of a new browser whose profile is in the folder."""
    with browser(folder) as address:
        async with tab_of(address) as tab:
            yield tab
