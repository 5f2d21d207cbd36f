"""Finds out which installation this host belongs to, or makes one: before anything is counted, parsed or served.

What is decided stands in `app.identity`. The recipe of making one, each step only after the one before it:
1. Under the lock of the data folder: topic `installation` is read, and is empty; this host may make the installation.
2. Its id goes to `<data>/installation.new`, a secret, where there is none, to `<data>/secret.new`, and the begin of the
   list of key files (`cli.keys`) to `<data>/keys.made.new`: on the disk.
3. The identity is appended, and the topic read back. Only the first one there counts.
4. Ours: the files lose their `.new`. Another host's: they are removed, and this host is one that comes second.
A crash anywhere in between is made up for by the next start, which goes on with the files that it finds.

Rules:
- Only a proven mismatch is a StateError. While Kafka doesn't answer, a role waits and says so; a command has a limit.
- `<data>/installation` says that this data folder made or adopted the installation: only there are keys made, once.
- `<data>/installation.joined` says which installation a host has joined that didn't make it. Where the topic was
  deleted, the first host makes it again under the id that it knows: the others run on, and each stays what it was.
- An id in either file that is not the topic's was its own before the topic was deleted only if all speaks for that: the
  file is older than the identity, and so are facts or webhooks. Else the folder is another installation's, or its file
  is damaged: the host is refused, and nothing is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from app.errors import StateError, TryLater
from app.identity import REFUSALS, Databases, Decision, Evidence, Host, decide
from app.installation import Identity, Installation, TopicRecreated, Topics
from app.keys import secret_fingerprint
from app.settings import PREFIX, Settings
from app.times import utc_text
from app.topics import FACTS, INSTALLATION, WEBHOOKS
from cli.addresses import wait_for_addresses
from cli.config import SECRET_FILE, ensure_data_folder, stored_secret
from cli.keys import FOLDER, ID_FILE, JOINED, LIST_FILE, LIST_HEADER, Missing
from cli.topics import ensure_topics
from tables.drafts import write_whole
from tables.installation import InstallationLog
from tables.kafka_clients import client_settings, kafka_words
from tables.origin import databases_in, look_at_facts, records_before, topic_ids

log = logging.getLogger("reports.identity")

PROPOSED: Final = ".new"
COMMAND_WAIT_S: Final = 10.0
BACKOFF_FIRST_S: Final = 0.25
BACKOFF_MAX_S: Final = 3.0
ATTEMPT_S: Final = 3.0
"""How long one attempt waits for an address, and for Kafka to answer at all."""
SAY_EVERY_S: Final = 30.0
OWN_START_S: Final = 15.0
"""How long the own servers may take to start before a role says that it waits for them."""


_MAKES: Final = (Decision.MAKE, Decision.ADOPT)
_ID: Final = re.compile(r"[0-9a-f]{16}")


class _Known(NamedTuple):
    """What a data folder says of whose it is."""

    file: Path
    id: str
    """What stands there, which may be anything."""
    written_ms: int

    @property
    def is_id(self) -> bool:
        return _ID.fullmatch(self.id) is not None

    @property
    def says(self) -> str:
        """What is wrong with the file."""
        return (
            f"{self.file} says that this folder is of installation {self.id}"
            if self.is_id
            else f"{self.file} is damaged: it doesn't hold the id of an installation (16 hexadecimal digits)"
        )


class Identified(NamedTuple):
    settings: Settings
    """With the addresses and the secret."""
    identity: Identity
    new: bool
    """Whether this start made or adopted the installation."""
    home: bool
    """Whether this data folder made or adopted it."""

    @property
    def missing(self) -> Missing:
        """What becomes of key files that are named and not there."""
        return Missing.MAKE if self.home else Missing.LEAVE_OUT


def identify(
    settings: Settings,
    *,
    state: Path | None = None,
    servers: Sequence[str] = ("kafka", "redis"),
    wait_s: float | None = COMMAND_WAIT_S,
) -> Identified:
    """The installation that this host belongs to. Blocks until Kafka answers.

    `state`: the folder of the partition databases, where it is not the data folder's. `servers`: whose addresses are
    needed. `wait_s`: how long Kafka may take; None: for ever. Raises StateError where this host must not go on,
    TryLater where Kafka took too long, ConfigError, and OSError with the name of a file.
    """
    ensure_data_folder(settings.data)
    deadline = None if wait_s is None else time.monotonic() + wait_s
    pause_s = BACKOFF_FIRST_S
    say_at = time.monotonic() + (0 if all(getattr(settings, server) for server in servers) else OWN_START_S)
    while True:
        left_s = ATTEMPT_S if deadline is None else min(ATTEMPT_S, max(0.1, deadline - time.monotonic()))
        try:
            return _identify(wait_for_addresses(settings, left_s, servers), state, left_s)
        except TryLater as error:
            if deadline is not None and time.monotonic() + pause_s > deadline:
                raise
            if time.monotonic() >= say_at:
                log.warning("waiting until it is known which installation this is: %s", error)
                say_at = time.monotonic() + SAY_EVERY_S
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, BACKOFF_MAX_S)


def damaged_id(data: Path) -> str | None:
    """What is wrong with the folder's own id, so that no role would start; None: nothing."""
    known = _known(data)
    return None if known is None or known.is_id else known.says


def known_identity(settings: Settings) -> Identity:
    """Only who the installation is, for commands that look and need no secret. `settings` has Kafka's address.

    Raises StateError where there is none, and TryLater."""
    installation = InstallationLog(settings.kafka).read()
    if installation is None:
        raise StateError(
            f"Kafka at {settings.kafka} holds no installation yet: start `reports up`, or a role"
        )
    return installation.identity


def why_no_start(settings: Settings) -> str | None:
    """Why every role of this host would be refused, as far as can be told: without Kafka's answer within `ATTEMPT_S`
    only that a host of an installation has no secret or a damaged id. None: nothing speaks against it. Writes nothing.

    Raises ConfigError where a file can't be read.
    """
    secret = stored_secret(settings)
    try:
        found = wait_for_addresses(settings, 0.0, ("kafka",))
        installation = _read_within(found.kafka, ATTEMPT_S)
        if installation is not None:
            identity = installation.identity
            _check(found, secret, decide(_host(found, secret), identity), identity)
            known = _known(settings.data)
            if known is not None and known.id not in (identity.id, *installation.before):
                _check_folder(found, known, identity)
        else:
            evidence, where = _look(found, None, secret)
            decision = decide(_host(found, secret), None, evidence)
            if decision not in _MAKES:
                _check(found, secret, decision, evidence=evidence, where=where)
            _check_adopted(found, _known(settings.data), decision)
        return None
    except TryLater:
        pass
    except StateError as error:
        return str(error)
    if damaged := damaged_id(settings.data):
        return (
            f"{damaged}: put back a copy of it from a backup, or start a role, which says what to write there"
        )
    if not secret and any((settings.data / name).exists() for name in (ID_FILE, JOINED)):
        return (
            f"{settings.data / SECRET_FILE}, the secret of this installation, is not there: copy it from another host, "
            "or from a backup"
        )
    return None


def _read_within(kafka: str, timeout_s: float) -> Installation | None:
    """What topic `installation` says; None where there is none yet. Raises TryLater."""
    client = AdminClient(client_settings(kafka, "reports-identity"))
    try:
        there = client.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise TryLater(1, kafka_words(error, kafka)) from error
    return InstallationLog(kafka).read() if INSTALLATION in there else None


def _identify(settings: Settings, state: Path | None, timeout_s: float) -> Identified:
    ensure_topics(settings, timeout_s, (INSTALLATION,))
    topic = InstallationLog(settings.kafka)
    installation, new = topic.read(), False
    if installation is None:
        with _only_one(settings.data):
            installation = topic.read()
            if installation is None:
                installation, new = _make_or_adopt(settings, state, topic)
    identity = installation.identity
    _settle(settings.data, identity)
    known = _known(settings.data)
    secret = stored_secret(settings)
    _check(settings, secret, decide(_host(settings, secret), identity), identity)
    if not new and known is not None and known.id not in (identity.id, *installation.before):
        _check_folder(settings, known, identity)
        log.warning(
            "this host knew the installation as %s: topic %s was deleted, and made again by a host that knew no id",
            known.id,
            INSTALLATION,
        )
        topic.append(TopicRecreated(before=known.id, at_ms=time.time_ns() // 1_000_000))
    home = _text_in(settings.data / ID_FILE) == identity.id
    _remember(settings.data, identity.id, home=home)
    ensure_topics(settings)
    if (home or new) and installation.topics is None:
        _say_topics(settings.kafka, topic)
    return Identified(
        msgspec.structs.replace(settings, secret=secret, installation=identity.id), identity, new, home
    )


def _make_or_adopt(
    settings: Settings, state: Path | None, topic: InstallationLog
) -> tuple[Installation, bool]:
    """The installation, and whether it is this host's doing. Raises StateError where it must not make one."""
    ensure_topics(settings)
    secret = stored_secret(settings)
    evidence, where = _look(settings, state, secret)
    decision = decide(_host(settings, secret), None, evidence)
    if decision not in _MAKES:
        # Another host may have been quicker, and what was looked at is its work.
        installation = topic.read()
        if installation is not None:
            return installation, False
        _check(settings, secret, decision, evidence=evidence, where=where)
    if evidence.foreign:
        log.warning(
            "%d of %d facts that were looked at were keyed by another secret: they count under other recipients",
            evidence.foreign,
            evidence.ours + evidence.foreign,
        )
    # Where facts are there and this host knows an id, somebody removed the topic.
    told = _known(settings.data)
    _check_adopted(settings, told, decision)
    if not secret:
        secret = _proposed(settings.data / SECRET_FILE, secrets.token_hex(32)).encode()
    joined = told is not None and told.file.name == JOINED
    before = "" if told is None else told.id
    known = before if decision is Decision.ADOPT else ""
    now_ms = time.time_ns() // 1_000_000
    identity = Identity(
        # Who has joined proposes nothing for its own file: that would make it the home.
        id=known if known and joined else _proposed(settings.data / ID_FILE, known or secrets.token_hex(8)),
        secret=secret_fingerprint(secret),
        partitions=settings.partitions,
        at_ms=now_ms,
        again_ms=now_ms if known else None,
        adopted=decision is Decision.ADOPT,
    )
    # What was adopted is older than lists: its keys are where they are, and none is made.
    if decision is Decision.MAKE and not (settings.data / LIST_FILE).exists():
        _proposed(settings.data / LIST_FILE, LIST_HEADER)
    topic.append(identity)
    installation = topic.read()
    if installation is None:
        raise TryLater(
            1, f"Kafka at {settings.kafka} doesn't give back what it stored in topic {INSTALLATION}"
        )
    ours = installation.identity.id == identity.id
    if ours:
        done = "adopted" if decision is Decision.ADOPT else "made"
        log.info("this host has %s installation %s: keep a copy of its secret", done, identity.id)
        if known:
            log.warning(
                "topic %s had been deleted and is made again: what it said of gaps is gone", INSTALLATION
            )
        if before and before != identity.id:
            log.warning("the data folder %s was of installation %s before", settings.data, before)
    return installation, ours


def _check_adopted(settings: Settings, known: _Known | None, decision: Decision) -> None:
    """Raises StateError where an installation that nobody knows by its id any more would go on under another one."""
    if known is not None and not known.is_id and decision is Decision.ADOPT:
        raise StateError(
            f"{known.says}, and topic {INSTALLATION} in Kafka at {settings.kafka}, which holds it too, was deleted. "
            "Put back a copy of the file from a backup, or start another host of the installation first; where there "
            f"is neither, move {known.file} away, and the installation goes on under a new id"
        )


def _check_folder(settings: Settings, known: _Known, identity: Identity) -> None:
    """Raises StateError unless the id that a file of this folder says can have been the installation's, before topic
    `installation` was deleted and made again by somebody who knew no id."""
    if known.is_id and known.written_ms < identity.at_ms and records_before(settings.kafka, identity.at_ms):
        return
    raise StateError(
        f"{known.says}; the cluster's, in Kafka at {settings.kafka}, is {identity.id}, made "
        f"{utc_text(identity.at_ms)}. Where the folder is another installation's, set {PREFIX}DATA to this host's "
        f"own, or {PREFIX}KAFKA to that one's Kafka; where it belongs here, move {known.file} away and, if this host "
        f"made the installation, write {identity.id} into a new one"
    )


def _look(settings: Settings, state: Path | None, secret: bytes) -> tuple[Evidence, str]:
    """What the cluster and this host's databases say, and where these are."""
    folders = {path for path in (settings.data / "state", state) if path is not None and path.is_dir()}
    fingerprint = secret_fingerprint(secret) if secret else None
    databases = Databases.NONE
    if folders:
        facts_id = topic_ids(settings.kafka, [FACTS])[FACTS]
        databases = databases_in(folders, fingerprint, facts_id)
    stored = look_at_facts(settings.kafka, secret or None)
    evidence = Evidence(facts=stored.any, databases=databases, ours=stored.ours, foreign=stored.foreign)
    return evidence, " and ".join(str(folder) for folder in sorted(folders))


def _host(settings: Settings, secret: bytes) -> Host:
    return Host(secret=secret_fingerprint(secret) if secret else None, partitions=settings.partitions)


def _check(
    settings: Settings,
    secret: bytes,
    decision: Decision,
    identity: Identity | None = None,
    *,
    evidence: Evidence | None = None,
    where: str = "",
) -> None:
    """Raises StateError unless the host may go on."""
    if decision is Decision.SERVE:
        return
    file = settings.data / SECRET_FILE
    made = "" if identity is None else f"installation {identity.id}, made {utc_text(identity.at_ms)}"
    source = f"the secret in {file}" if secret else "this host's, of none"
    if settings.secret:
        source = f"{PREFIX}SECRET"
    raise StateError(
        REFUSALS[decision].format(
            kafka=settings.kafka,
            installation=made,
            file=file,
            keys=settings.data / FOLDER,
            source=source,
            unset=f", and unset {PREFIX}SECRET" if settings.secret else "",
            partitions=settings.partitions,
            made_partitions=0 if identity is None else identity.partitions,
            databases=where,
            foreign=0 if evidence is None else evidence.foreign,
            looked_at=0 if evidence is None else evidence.ours + evidence.foreign,
        )
    )


def _say_topics(kafka: str, topic: InstallationLog) -> None:
    """Of topic `webhooks` only in an installation that begins: where facts are there, webhooks were read, and normalize
    finds out whether they were of this topic."""
    begins = not look_at_facts(kafka, None).any
    ids = topic_ids(kafka, (WEBHOOKS, FACTS) if begins else (FACTS,))
    topic.append(Topics(ids=ids, why="made", at_ms=time.time_ns() // 1_000_000))


# Files


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """Of the roles that start on this data folder together, one at a time looks and makes."""
    path = data / "run" / "identity.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _proposed(path: Path, new: str) -> str:
    """What is to become the file: what an attempt before this one left, or `new`."""
    proposed = path.with_name(path.name + PROPOSED)
    left = _text_in(proposed)
    if not left or "\N{REPLACEMENT CHARACTER}" in left:
        _write(proposed, new.encode())
        return new
    return left


def _settle(data: Path, identity: Identity) -> None:
    """What was proposed becomes the file where it is the installation's, and goes where it isn't, or is damaged."""
    for name, is_its in (
        (SECRET_FILE, lambda text: secret_fingerprint(text.encode()) == identity.secret),
        (LIST_FILE, lambda _: _text_in(data / (ID_FILE + PROPOSED)) == identity.id),
        (ID_FILE, lambda text: text == identity.id),  # last: with it and without a list no key is made
    ):
        proposed = data / (name + PROPOSED)
        text = _text_in(proposed)
        if not text:
            continue
        with contextlib.suppress(FileNotFoundError):  # another role of this data folder does the same
            if is_its(text):
                proposed.replace(data / name)
                _sync(data)
            else:
                proposed.unlink()


def _remember(data: Path, id_: str, *, home: bool) -> None:
    """Which installation this host has joined; nothing where it is the home. It is needed only where topic
    `installation` is gone, so that it can't be written is no reason not to run."""
    joined = data / JOINED
    try:
        if home:
            joined.unlink(missing_ok=True)
        elif _text_in(joined) != id_:
            _write(joined, id_.encode())
    except OSError as error:
        log.warning("%s can't be written (%s): move it away", joined, error.strerror or error)


def _known(data: Path) -> _Known | None:
    """What the folder has joined or, where it says nothing of that, what it has made. None: it is a new one."""
    for path in (data / JOINED, data / ID_FILE):
        if not path.exists():
            continue
        known = _Known(path, _text_in(path), int(path.stat().st_mtime * 1000))
        if known.is_id or path.name == ID_FILE:
            return known
        log.warning("%s is damaged and made again", path)
    return None


def _text_in(path: Path) -> str:
    """Empty where nothing can be read: no file is there, or something else is in its place."""
    try:
        return path.read_bytes().strip().decode("utf-8", "replace")
    except OSError:
        return ""


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, for this user only, and on the disk. Raises OSError."""
    write_whole(path, content + b"\n")
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """What was renamed in the folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
