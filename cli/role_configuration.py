"""The configuration of a role that runs for long: never a bad one, and always said where the file is bad.

Rules:
- The file is read at the start, and again on SIGHUP (`cli.hangup`). It is taken as a whole or refused as a whole.
- What was accepted is kept in `<data>/run/accepted.toml`, so that a role that starts while the file is bad goes on with
  what it had. There is no secret in it: the file only names them. A data folder that has none refuses to start.
- A role that needs no keys may lack secrets of organisations; where it does, its copy is one of its own.
- A key file that is not there is no fault of the file: what needs it waits, and API processes say so (`keys_missing`).
- A secret that can't be used (not a key of that ESP) refuses the file where keys are needed. But what was accepted is
  never refused for it: what needs that secret waits, as if it were not there.
- Where the file with the secret is gone, or holds another one, that is the condition `secret_missing` or
  `secret_changed` while a process still has the right one.
- A refused file is the condition `configuration_refused`. Settings hold until the process ends: `restart_needed` names
  those that have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import click

from app.errors import ConfigError
from app.organisations import Organisations
from app.settings import PREFIX, Settings, settings_from
from app.words import number_of
from cli import hangup
from cli.complaints import complaints
from cli.config import (
    COPY_KEYS,
    SECRET_FILE,
    ConfigFile,
    config_path,
    load_for_settings,
    load_with_keys,
    parse_toml,
    read_file,
    refuse_absent,
    stored_secret,
)
from cli.identity import Identified
from cli.keys import FOLDER, LIST_FILE, Absent, Held, Missing, describe_absent
from cli.logs import set_up_logging
from tables.conditions import Conditions
from tables.drafts import write_whole

log = logging.getLogger("reports.configuration")

ACCEPTED = "accepted.toml"
ACCEPTED_SETTINGS = "accepted-settings.toml"
MAX_NAMED = 20

Follow = Callable[[Conditions, Callable[[Organisations], None]], Awaitable[None]]
"""`RoleConfiguration.follow`."""


class RoleConfiguration:
    """`settings` and `organisations` (none where only settings are wanted) as this process has them."""

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        only_settings: bool = False,
        keep: bool = True,
        needs_keys: bool = False,
    ) -> None:
        """Raises ConfigError. `keep`: whether what is accepted is copied. `needs_keys`: whether this process lets
        requests in by keys: then it says which of them it can't use."""
        self._environ = os.environ if environ is None else environ
        self._only_settings = only_settings
        self._keep = keep
        self._needs_keys = needs_keys
        self._copies = (ACCEPTED,) if needs_keys else (ACCEPTED, ACCEPTED_SETTINGS)
        self._missing = Missing.LEAVE_OUT
        self._held: Held = {}
        self._secret = b""
        """The installation's, once that is known."""
        self.absent: Absent = {}
        """Key files that can't be read → why not."""
        self.spoilt: Absent = {}
        """Secrets of what was accepted before that can't be used any more → why not."""
        self.refusal: str | None = None
        """What is wrong with the file, where this process doesn't run on it."""
        self.settings, self.organisations = self._begin()
        self._first = self.settings
        """Those that this process runs with, also where the file changes while it waits for Kafka."""

    def _begin(self) -> tuple[Settings, Organisations]:
        path = config_path(self._environ)
        try:
            return self._accept(path)
        except ConfigError as error:
            found = self._of_copy(path, error)
            self.refusal = self._all_that_is_wrong(path, error)
            return found

    def settle(self, found: Identified) -> Settings:
        """The installation is known, and with it what becomes of keys that are not there: gives the settings to run
        with. Raises ConfigError."""
        self._missing, self.refusal = found.missing, None
        self.settings, self.organisations = self._begin()
        self._secret = found.settings.secret
        return found.settings

    def _accept(self, path: Path) -> tuple[Settings, Organisations]:
        file = read_file(path)
        settings, organisations, whole = self._judge(file)
        if self._keep:
            _keep(settings.data / "run" / (ACCEPTED if whole else ACCEPTED_SETTINGS), file.text)
        return settings, organisations

    def _judge(
        self, file: ConfigFile, *, accepted_before: bool = False
    ) -> tuple[Settings, Organisations, bool]:
        if self._only_settings:
            settings, whole = load_for_settings(self._environ, file=file)
            return settings, Organisations(), whole
        settings, organisations, keys = load_with_keys(
            self._environ,
            missing=self._missing,
            file=file,
            held=self._held,
            lenient=accepted_before or not self._needs_keys,
        )
        self.absent, self.spoilt = keys.absent, keys.spoilt
        return settings, organisations, not keys.spoilt

    def _all_that_is_wrong(self, path: Path, first: ConfigError) -> str:
        try:
            file: ConfigFile | ConfigError = read_file(path)
        except ConfigError as error:
            file = error
        every = dict.fromkeys([str(first), *complaints(self._environ, file, with_secrets=self._needs_keys)])
        return _some(list(every), "; ")

    def _of_copy(self, path: Path, refused: ConfigError) -> tuple[Settings, Organisations]:
        """What was accepted last. Raises the refusal where there is nothing, or where that is no good either."""
        folder = _data_folder(self._environ, path) / "run"
        unusable = ""
        copies = [folder / name for name in self._copies if (folder / name).exists()]
        for copy in sorted(copies, key=lambda one: one.stat().st_mtime, reverse=True):
            try:
                settings, organisations, _ = self._judge(read_file(copy), accepted_before=True)
                return settings, organisations
            except ConfigError as error:
                unusable += f"; nor can {copy} be used, which was accepted before: {error}"
        raise ConfigError(refused.setting, refused.message + unusable, in_file=refused.in_file)

    async def follow(self, conditions: Conditions, take: Callable[[Organisations], None]) -> None:
        """Until cancelled: on SIGHUP reads the file again and hands its organisations to `take`."""
        asked = asyncio.Event()
        hangup.listen(asyncio.get_running_loop(), asked.set)
        self._say(conditions)
        while True:
            await asked.wait()
            asked.clear()
            before = self.organisations
            # In a thread: many organisations take longer than a request may wait.
            await asyncio.to_thread(self.read_again)
            self._say(conditions)
            if self.organisations is not before:
                take(self.organisations)

    def read_again(self) -> None:
        """Takes over what the file says now, or says why not (`refusal`)."""
        path = config_path(self._environ)
        try:
            self.settings, self.organisations = self._accept(path)
        except ConfigError as error:
            self.refusal = self._all_that_is_wrong(path, error)
            if self.spoilt:  # which of them are right by now need not wait for the others
                with contextlib.suppress(ConfigError):
                    _, self.organisations = self._of_copy(path, error)
            return
        self.refusal = None
        if self._only_settings:
            log.info("configuration read again: this role uses its settings only")
        else:
            count = len(self.organisations.by_id)
            log.info("configuration read again: %s", number_of(count, "organisation"))

    def changed_settings(self) -> list[str]:
        """Names of the settings that are others than this process runs with."""
        names = Settings.__struct_fields__
        return [name for name in names if getattr(self.settings, name) != getattr(self._first, name)]

    def _say(self, conditions: Conditions) -> None:
        path = self._first.config
        if self.refusal is None:
            conditions.clear("configuration_refused")
        else:
            conditions.set(
                "configuration_refused",
                f"{path} is refused as a whole, and this process goes on with what it accepted before"
                f"{self._copy_named()}: {self.refusal}. Correct it, or what it names (`reports check` says whether all "
                "is right), then send SIGHUP",
            )
        self._say_absent(conditions)
        self._say_secret(conditions)
        if changed := self.changed_settings():
            conditions.set(
                "restart_needed",
                f"{path} has other settings than this process runs with ({', '.join(changed)}): they take effect "
                "when it is started again",
            )
        else:
            conditions.clear("restart_needed")

    def _copy_named(self) -> str:
        run = self._first.data / "run"
        return next((f" ({run / name})" for name in self._copies if (run / name).exists()), "")

    def _say_absent(self, conditions: Conditions) -> None:
        if not (self._needs_keys and (self.absent or self.spoilt)):
            conditions.clear("keys_missing")
            return
        unless_lost = (
            f". No other key is made in the place of a lost one, since the senders have it; where it is lost for good, "
            f"delete its file and remove its line from {self._first.data / LIST_FILE}, then send SIGHUP and give the "
            "senders the new one"
            if self._missing is Missing.MAKE and any(map(self._is_key_file, (*self.absent, *self.spoilt)))
            else ""
        )
        right_ones = ", or put the right ones in their place" if self.spoilt else ""
        waiting = self.organisations.waiting()
        follows = (
            f"requests for {_some(waiting)} are told to try again later"
            if waiting
            else "this process goes on with those that it has read before, and after its next start it won't"
        )
        conditions.set(
            "keys_missing",
            f"keys that {self._first.config} names can't be used on this host: "
            f"{describe_absent({**self.absent, **self.spoilt})}. Meanwhile {follows}. The way out: "
            f"{COPY_KEYS}{right_ones}, then send SIGHUP{unless_lost}",
        )

    def _is_key_file(self, name: Path | str) -> bool:
        return isinstance(name, Path) and name.parent == self._first.data / FOLDER

    def _say_secret(self, conditions: Conditions) -> None:
        wrong = self._wrong_secret()
        for code in ("secret_missing", "secret_changed"):
            if wrong is None or wrong[0] != code:
                conditions.clear(code)
        if wrong is not None:
            conditions.set(
                wrong[0],
                f"{wrong[1]}. What runs goes on with the secret that it has read, but no role of this host will start "
                "again: put a copy of that back now, from another host or a backup, then send SIGHUP",
            )

    def _wrong_secret(self) -> tuple[str, str] | None:
        """The condition's code, and what is wrong with the file that holds the secret."""
        file = self._first.data / SECRET_FILE
        if self._first.secret or not self._secret:
            return None
        try:
            stored = stored_secret(self._first)
        except ConfigError as error:
            return "secret_missing", error.message
        if not stored:
            return "secret_missing", f"{file} is gone"
        if stored != self._secret:
            return "secret_changed", f"{file} is not the secret that this process runs with"
        return None


def begin_role(*, only_settings: bool = False, needs_keys: bool = False) -> RoleConfiguration:
    """The configuration and the log of a role. Raises ConfigError."""
    configuration = RoleConfiguration(only_settings=only_settings, needs_keys=needs_keys)
    set_up_logging(configuration.settings.log_level)
    if configuration.refusal is not None:
        log.error(
            "starting with the last configuration that was accepted, since %s is refused: %s",
            configuration.settings.config,
            configuration.refusal,
        )
    return configuration


def settings_beside(environ: Mapping[str, str] | None = None) -> Settings:
    """For parents and own servers, which have no conditions. Raises ConfigError."""
    return _said(RoleConfiguration(environ, only_settings=True, keep=False)).settings


def configuration_beside(
    environ: Mapping[str, str] | None = None, *, needs_keys: bool = False
) -> tuple[Settings, Organisations]:
    """The same with the organisations. Raises ConfigError too where `needs_keys` and a key can't be used."""
    configuration = _said(RoleConfiguration(environ, keep=False, needs_keys=True))
    if needs_keys:
        refuse_absent({**configuration.absent, **configuration.spoilt})
    return configuration.settings, configuration.organisations


def _said(configuration: RoleConfiguration) -> RoleConfiguration:
    if configuration.refusal is not None:
        click.echo(
            f"reports: {configuration.settings.config} is refused: {configuration.refusal}; going on with the last "
            "configuration that was accepted",
            err=True,
        )
    return configuration


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = [f"{len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return between.join([*names[:MAX_NAMED], *more])


def _data_folder(environ: Mapping[str, str], path: Path) -> Path:
    """That of the environment or, as far as it can be read, of the bad file."""
    data = settings_from(environ, {}).data
    if not environ.get(f"{PREFIX}DATA"):
        with contextlib.suppress(ConfigError):
            table = parse_toml(read_file(path)).get("settings")
            if isinstance(table, dict) and "data" in table:
                data = settings_from(environ, {"data": table["data"]}).data
    return data.absolute()


def _keep(path: Path, text: bytes) -> None:
    """Whole or not at all. That it can't be written is no reason not to run."""
    try:
        if path.exists() and path.read_bytes() == text:
            os.utime(path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        log.warning("the accepted configuration can't be kept in %s: %s", path, error.strerror)
