"""A server between browser and API: it passes on everything but what it was told to treat otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

import aiohttp
from aiohttp import web
from yarl import URL

# Of one connection, or not true of what is passed on here.
OWN_HEADERS: Final = {
    "connection",
    "content-length",
    "keep-alive",
    "transfer-encoding",
    "accept-encoding",
    "date",
    "server",
}
ENDS_WITHIN_S: Final = 0.1
CLOSED_WITHIN_S: Final = 30.0


class Between:
    """Paths are regular expressions that fit a whole path, without its query. What was told first counts."""

    def __init__(self, target: str, session: aiohttp.ClientSession) -> None:
        self._target = target
        self._session = session
        self._freed = asyncio.Event()
        self._held: list[str] = []
        self._answers: list[tuple[str, int]] = []
        self._silent: list[str] = []
        self._changes: list[tuple[str, Callable[[bytes], bytes]]] = []
        self._open: list[tuple[str, asyncio.Task[None]]] = []
        self.asked: list[str] = []
        """Path and query of every request."""
        self.address = ""

    def hold(self, *paths: str) -> None:
        """Their requests wait."""
        self._held += paths

    def answer(self, status: int, *paths: str) -> None:
        """Their requests get this status, from somebody who doesn't speak the API's language."""
        self._answers += [(path, status) for path in paths]

    def silence(self, path: str) -> None:
        """Streams stay open and say nothing after their first words."""
        self._silent.append(path)

    def change(self, path: str, change: Callable[[bytes], bytes]) -> None:
        """What comes from there, piece by piece."""
        self._changes.append((path, change))

    def free(self) -> None:
        """What was held goes on."""
        self._held.clear()
        self._freed.set()
        self._freed = asyncio.Event()

    def pass_all(self) -> None:
        """As if nothing had been told."""
        self._answers.clear()
        self._silent.clear()
        self._changes.clear()
        self.free()

    def cut(self, path: str) -> None:
        """Ends what is open there."""
        for one, task in self._open:
            if re.fullmatch(path, one):
                task.cancel()

    async def until_closed(self, path: str) -> None:
        tasks = [task for one, task in self._open if re.fullmatch(path, one)]
        _, open_still = await asyncio.wait(tasks, timeout=CLOSED_WITHIN_S)
        assert not open_still

    def count_open(self, path: str) -> int:
        return sum(1 for one, _ in self._open if re.fullmatch(path, one))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        self.asked.append(request.raw_path)
        if _one_of(self._held, path):
            await self._freed.wait()
        for pattern, status in self._answers:
            if re.fullmatch(pattern, path):
                return web.Response(
                    status=status, text="<html>not from the API</html>", content_type="text/html"
                )
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._open.append((path, task))
        try:
            return await self._pass(request, path)
        finally:
            self._open.remove((path, task))

    async def _pass(self, request: web.Request, path: str) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OWN_HEADERS}
        headers["Accept-Encoding"] = "identity"  # pieces are changed here
        address = URL(self._target + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, address, headers=headers, data=await request.read(), allow_redirects=False
        ) as answer:
            kept = [
                (name, value) for name, value in answer.headers.items() if name.lower() not in OWN_HEADERS
            ]
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            changes = [change for pattern, change in self._changes if re.fullmatch(pattern, path)]
            begun, end = False, b""
            async for piece in answer.content.iter_any():
                for change in changes:
                    piece = change(piece)
                await response.write(piece)
                begun, end = begun or b"data:" in piece, (end + piece)[-2:]
                # After a whole event: a large one comes in several pieces.
                if begun and end == b"\n\n" and _one_of(self._silent, path):
                    await self._freed.wait()
            return response


def _one_of(patterns: list[str], path: str) -> bool:
    return any(re.fullmatch(pattern, path) for pattern in patterns)


@contextlib.asynccontextmanager
async def between(address: str) -> AsyncIterator[Between]:
    """`address`: http://host:port of the API; the server's own is in its `address`."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        made = Between(address, session)
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", made.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=ENDS_WITHIN_S)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield made
        finally:
            made.pass_all()
            await runner.cleanup()
