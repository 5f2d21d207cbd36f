"""Folders that this process may not read, whoever it runs as."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NOBODY: Final = 65_534


@contextlib.contextmanager
def without_rights(path: Path) -> Iterator[None]:
    """Nothing in `path` can be read. Root may read everything, so it is somebody else meanwhile."""
    mode = path.stat().st_mode
    above = [(one, one.stat().st_mode) for one in path.parents if one != Path(one.anchor)]
    is_root = os.geteuid() == 0
    path.chmod(0)
    if is_root:
        for one, old in above:
            if not old & 0o001:
                one.chmod(old | 0o055)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
            for one, old in above:
                if not old & 0o001:
                    one.chmod(old)
        path.chmod(mode)
