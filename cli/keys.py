"""The key files of the data folder, `{data}/keys/NAME`: made once, and never a second time in silence.

Rules:
- A file that isn't there is made with a random secret (hexadecimal, so that it is base64 too: Resend's are),
  `NAME.basic` as `webhook:` and a random password. `NAME.pub` is made as an ECDSA P-256 public key (base64 of its
  SubjectPublicKeyInfo, as SendGrid shows it), `NAME.rsa.pub` as an RSA one (Postal's), the private half beside it as
  `NAME.key` or `NAME.rsa.key` (PEM), for the traffic of `reports demo` and `reports load`.
- Only on the host that made the installation (on any other one the keys would be others than those of the senders),
  and only a file that reports.toml has not named before: `<data>/keys.made` lists the names, a line each. One that is
  listed and gone is not made, since an ESP or a client holds the other half. Who wants another one deletes the file
  and removes its line. A file that is there is never replaced: it may be what somebody has put there.
- The making of an installation begins the list. An installation without one was made by an earlier version, or has
  lost it: then no file is made, and what reports.toml names is listed. A list that is damaged is made again so.
- A role leaves out what it can't read, says so (the condition `keys_missing`) and goes on with the rest. What a process
  has read it keeps until it ends, also where the file is gone at a SIGHUP.
- A secret, in whatever file or variable, that is there and can't be one (not a key of that ESP) refuses the whole of a
  reports.toml that is new. In one that was accepted before, and for a role that needs no keys, it is left out too.
- What is made has mode 0600 and appears at once (a link), so that roles that start together agree on it.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

from app.organisations import AbsentSecret, Unusable
from tables.drafts import drafted

log = logging.getLogger("reports.config")

FOLDER: Final = "keys"
LIST_FILE: Final = "keys.made"
LIST_HEADER: Final = "# key files that were made or found here: one that is listed and gone is not made again"
"""The list's first line, as the making of an installation writes it."""
ID_FILE: Final = "installation"
"""Where it is there, this data folder has made an installation."""
JOINED: Final = ID_FILE + ".joined"
"""Where it is there, this data folder has joined one that another host made."""


class Missing(Enum):
    """What becomes of a key file of the data folder that is named and isn't there."""

    PRETEND = "pretend"
    """It is made up for this call only, and nothing is written: for who needs to know all but the secrets."""
    REFUSE = "refuse"
    LEAVE_OUT = "leave out"
    """What needs it waits."""
    MAKE = "make"
    """It is made where its name is new, else left out."""


Held = dict[Path | str, bytes]
"""A secret's file, or what a variable is called → what it was when it could be used last."""
Absent = Mapping[Path | str, str]
"""The same → why it can't be used."""


class KeyFiles:
    """The secrets as one reading of reports.toml finds them; the key files also where they are not there."""

    def __init__(
        self, data: Path, missing: Missing, held: Held | None = None, *, lenient: bool = False
    ) -> None:
        """`held`: what this process has read before; it is kept up to date. `lenient`: what is spoilt is left out, and
        no error."""
        self.folder = data / FOLDER
        self.lenient = lenient
        self._missing = missing
        self._held: Held = {} if held is None else held
        self._list = data / LIST_FILE
        # Before any file is looked at: what another role makes meanwhile is then there, or not listed here.
        self._listed = _listed(data) if missing is Missing.MAKE else None
        self._named: dict[str, None] = {}
        self.absent: dict[Path | str, str] = {}
        """Which key files are not there → why they can't be read."""
        self.spoilt: dict[Path | str, str] = {}
        """Which secrets were left out for being `lenient` → why."""

    def read(self, path: Path, unusable: Unusable) -> bytes:
        """Raises AbsentSecret where it is to be left out, and LookupError."""
        self._named[path.name] = None
        try:
            content = path.read_bytes().strip()
            if content or self._missing is Missing.PRETEND:
                return self.judge(path, content, unusable)
            problem = "is empty"
        except (FileNotFoundError, NotADirectoryError):
            if self._missing is Missing.PRETEND:
                return self._made(path, unusable, make=False)
            if self._listed is not None and path.name not in self._listed:
                return self._made(path, unusable, make=True)
            problem = "is not there"
        except OSError as error:
            problem = f"can't be read: {error.strerror or error}"
        return self._without(path, problem, self.absent)

    def judge(self, name: Path | str, content: bytes, unusable: Unusable) -> bytes:
        """The content of a file or variable, if it can be used. Raises as `read` does."""
        problem = unusable(content)
        if problem is not None:
            return self.spoil(name, problem)
        self._held[name] = content
        return content

    def spoil(self, name: Path | str, problem: str) -> bytes:
        """What to go on with in the place of one that can't be used. Raises as `read` does."""
        if not self.lenient:
            raise LookupError(f"{_called(name)} {problem}")
        return self._without(name, problem, self.spoilt)

    def _made(self, path: Path, unusable: Unusable, *, make: bool) -> bytes:
        try:
            content = _made_key(path, make=make)
        except LookupError as error:
            return self.spoil(path, f"can't be made: {error.args[0]}")
        return self.judge(path, content, unusable)

    def _without(self, name: Path | str, problem: str, left_out: dict[Path | str, str]) -> bytes:
        left_out[name] = problem
        if name in self._held:
            return self._held[name]
        raise AbsentSecret(f"{_called(name)} {problem}")

    def keep_list(self) -> None:
        """All that was named is listed; once the whole file was found right."""
        if self._missing is not Missing.MAKE:
            return
        if self._listed is not None and self._named.keys() <= self._listed:
            return
        try:
            if self._listed is None and _write_once(self._list, "\n".join(self._named).encode()):
                return
            self._list.parent.mkdir(parents=True, exist_ok=True)
            with self._list.open("a+", errors="replace") as file:
                # Several roles of this host read the same change at a time; a name that stood twice would be removed
                # once by who wants another key.
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                text = file.read()
                if _is_damaged(text):
                    file.truncate(0)
                    text = ""
                there = set(text.splitlines())
                file.write("".join(f"{name}\n" for name in self._named if name not in there))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            log.warning("%s can't be written: %s", self._list, error.strerror or error)


def _called(name: Path | str) -> str:
    return f"the file {name}" if isinstance(name, Path) else name


def describe_absent(absent: Absent) -> str:
    """All of them, in one line: `a and b are not there, c is empty`."""
    by_problem: dict[str, list[str]] = {}
    for path, problem in absent.items():
        by_problem.setdefault(problem, []).append(str(path))
    return "; ".join(
        f"{', '.join(paths)} {problem if len(paths) == 1 else problem.replace('is ', 'are ', 1)}"
        for problem, paths in by_problem.items()
    )


def not_to_be_made(data: Path, absent: Absent) -> Absent:
    """Of the absent key files those that the next start of a role won't make."""
    if (data / JOINED).exists():
        return absent
    listed = _listed(data)
    new = {
        path
        for path in map(Path, absent)
        if listed is not None and path.name not in listed and not path.exists()
    }
    return {path: problem for path, problem in absent.items() if path not in new}


def _listed(data: Path) -> frozenset[str] | None:
    """The names that were there once; None: nobody knows."""
    path = data / LIST_FILE
    try:
        text = path.read_text(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None if (data / ID_FILE).exists() else frozenset()
    except OSError as error:
        log.warning(
            "%s can't be read (%s): no key file is made that reports.toml names already; move it away, and it is made "
            "again",
            path,
            error.strerror or error,
        )
        return None
    if _is_damaged(text):
        log.warning("%s is damaged: no key file is made that reports.toml names already", path)
        return None
    return frozenset(line.strip() for line in text.splitlines() if not line.startswith("#"))


def _is_damaged(text: str) -> bool:
    return "\0" in text or "\N{REPLACEMENT CHARACTER}" in text


def _made_key(path: Path, *, make: bool) -> bytes:
    if path.suffix != ".pub":
        user = "webhook:" if path.suffix == ".basic" else ""
        return _made_once(path, lambda: f"{user}{secrets.token_hex(24)}".encode(), make)
    # Imported here: only the very first start needs it.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    def new_private() -> bytes:
        is_rsa = path.name.endswith(".rsa.pub")
        key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    pem = _made_once(path.with_suffix(".key"), new_private, make)
    try:
        private = serialization.load_pem_private_key(pem, None)
    except ValueError:
        raise LookupError(
            f"{path.with_suffix('.key')} is no private key: delete it, or put {path} there"
        ) from None
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _made_once(path, lambda: base64.b64encode(public), make)


def _made_once(path: Path, new: Callable[[], bytes], make: bool) -> bytes:
    """What the file holds; if it isn't there, `new()`. The first of several writers wins."""
    try:
        if not path.exists():
            if not make:
                return new()
            if _write_once(path, new()):
                log.warning("made the key file %s, which reports.toml names for the first time", path)
        made = path.read_bytes().strip()
    except OSError as error:
        raise LookupError(f"{path} can't be made or read: {error.strerror or error}") from None
    if not made:
        raise LookupError(f"{path} is empty: delete it")
    return made


def _write_once(path: Path, content: bytes) -> bool:
    """False: it is there already. For this user only, whole, and on the disk. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = drafted(path, content + b"\n")
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
            return True
    finally:
        draft.unlink(missing_ok=True)
    return False
