"""Several roles are started at once, and none of them leaves the parent deaf."""

from __future__ import annotations

import signal

from cli import hangup


def is_blocked() -> bool:
    return signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_those_who_leave_in_any_order_let_the_signal_in_again() -> None:
    first, second = hangup.held(), hangup.held()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert is_blocked()
    second.__exit__(None, None, None)
    assert not is_blocked()
