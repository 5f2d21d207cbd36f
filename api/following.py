"""A thread that follows something for as long as the process serves: stream lag, shared links."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Following:
    """`run` is called once, in the thread, and is to return soon after `stopping` is set."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self._name = name
        self._run = run
        self._thread: threading.Thread | None = None
        self.stopping = threading.Event()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends within its clients' timeouts; it is a daemon, so that a hung client can't hold the process."""
        self.stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
