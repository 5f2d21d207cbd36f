"""Files that appear whole or not at all: written beside their place, on the disk, and then named.

An error names the file that was to be: that of a full disk names none by itself. Nothing is left beside it then.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

FOR_ALL: Final = 0o666


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces what is there. Raises OSError with the name of a file."""
    draft = drafted(path, content, mode)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def drafted(path: Path, content: bytes, mode: int = 0o600) -> Path:
    """What is to become the file, beside it. Raises OSError with the name of a file."""
    draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return draft
