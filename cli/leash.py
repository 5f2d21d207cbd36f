"""Runs a command that ends when its parent ends: `python -I -S leash.py PARENT SIGNAL COMMAND…`.

A child of a process that was killed by `kill -9` would live on and hold ports, locks and databases. On Linux the
kernel can send it a signal instead (PR_SET_PDEATHSIG); the wish survives exec, so this script takes it and then
becomes the command. Elsewhere it only becomes the command.

Run as a file and not as a module: it must start in a few milliseconds, without the project's imports.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def leash(parent: int, death_signal: int, command: list[str]) -> None:
    """Become the command; never returns."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    # Between our start and the line above the parent may have died already.
    if os.getppid() != parent:
        sys.exit(1)
    # Python ignores SIGPIPE, and what is ignored stays so after exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(command[0], command)


def leashed(death_signal: signal.Signals, command: list[str]) -> list[str]:
    """The command line that runs `command`, whose first word is a full path, on a leash of this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), *command]


if __name__ == "__main__":
    leash(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
