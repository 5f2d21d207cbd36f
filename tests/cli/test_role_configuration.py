"""A role's configuration: the last good one, whatever becomes of the file, and said where it is bad."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.errors import ConfigError
from app.installation import Identity
from app.organisations import Organisations
from app.settings import Settings
from cli import hangup
from cli.check import check
from cli.identity import Identified
from cli.keys import LIST_FILE
from cli.role_configuration import ACCEPTED, ACCEPTED_SETTINGS, RoleConfiguration
from cli.supervisor import reports_role
from tables.conditions import Conditions
from tests.cli.test_supervisor import Heard, running, until
from tests.support import locks
from tests.support.kafka import fresh_topics
from tests.support.processes import ROOT, environment

ORG = '[orgs.acme]\nname = "{name}"\n[orgs.acme.keys.k]\nsecret = "env:ACME_KEY"\nscopes = ["read"]\n'
NOT_TOML = "[orgs\n"
BAD_ORG = "[orgs.acme]\ncolour = 'red'\n"
BAD_SETTING = '[settings]\npartitions = "many"\n'
BAD = (NOT_TOML, BAD_ORG, BAD_SETTING)


class World:
    def __init__(self, folder: Path, **settings: str) -> None:
        self.file = folder / "reports.toml"
        self.data = folder / "var"
        self.environ = environment(self.data, config=str(self.file), **settings) | {"ACME_KEY": "key"}

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def start(self, *, only_settings: bool = False) -> RoleConfiguration:
        return RoleConfiguration(self.environ, only_settings=only_settings, needs_keys=not only_settings)

    def copies(self) -> set[str]:
        return {path.name for path in (self.data / "run").iterdir()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def name_in(configuration: RoleConfiguration) -> str:
    return configuration.organisations.by_id["acme"].name


@pytest.mark.parametrize("bad", [*BAD, None])
def test_a_first_start_with_a_bad_file_is_refused(world: World, bad: str | None) -> None:
    if bad is not None:
        world.write(bad)
    for only_settings in (False, True):
        with pytest.raises(ConfigError):
            world.start(only_settings=only_settings)


@pytest.mark.parametrize("bad", [*BAD, None])
@pytest.mark.parametrize("only_settings", [False, True])
def test_a_start_while_the_file_is_bad_goes_on_with_the_last_good_one(
    world: World, bad: str | None, only_settings: bool
) -> None:
    world.write("[settings]\nburst_links = 7\n" + ORG.format(name="Acme"))
    before = world.start()
    assert before.refusal is None
    if bad is None:
        world.file.unlink()
    else:
        world.write(bad)
    again = world.start(only_settings=only_settings)
    assert bool(again.refusal)
    assert (again.settings, again.settings.config) == (before.settings, world.file)
    if not only_settings:
        assert name_in(again) == "Acme"
    world.write(ORG.format(name="New"))
    again.read_again()
    assert (again.refusal, again.changed_settings()) == (None, ["burst_links"])


def test_the_data_folder_of_the_bad_file_is_found(tmp_path: Path) -> None:
    """Where the environment doesn't name it; as far as the file can be read."""
    world = World(tmp_path)
    del world.environ["REPORTS_DATA"]
    settings = f'[settings]\ndata = "{tmp_path / "elsewhere"}"\n'
    world.write(settings + ORG.format(name="Acme"))
    world.start()
    world.write(settings + BAD_ORG)
    assert name_in(world.start()) == "Acme"
    world.write(NOT_TOML)
    world.environ["REPORTS_DATA"] = str(tmp_path / "elsewhere")  # as a parent says it to its roles
    assert name_in(world.start()) == "Acme"


def test_what_is_wrong_in_the_environment_is_refused_always(world: World) -> None:
    world.write(ORG.format(name="Acme"))
    world.start()
    world.environ["REPORTS_PARTITIONS"] = "many"
    with pytest.raises(ConfigError, match="REPORTS_PARTITIONS"):
        world.start()


def test_who_needs_settings_only_may_lack_secrets(world: World) -> None:
    """As on a machine of its own; what is wrong in the file itself is wrong for all."""
    del world.environ["ACME_KEY"]
    world.write(ORG.format(name="Acme"))
    assert world.start(only_settings=True).refusal is None
    assert world.copies() == {ACCEPTED_SETTINGS}
    with pytest.raises(ConfigError, match="ACME_KEY"):
        world.start()
    world.environ["ACME_KEY"] = "key"
    world.start(only_settings=True)
    assert world.copies() == {ACCEPTED_SETTINGS, ACCEPTED}
    world.write(BAD_ORG)
    assert world.start(only_settings=True).refusal


@pytest.mark.parametrize("damaged", [b"\xff\xfe{garbage", b"[orgs", b"[orgs.acme]\ncolour = 1\n"])
@pytest.mark.parametrize("only_settings", [False, True])
def test_a_damaged_copy_is_named_where_it_is_needed(
    world: World, damaged: bytes, only_settings: bool
) -> None:
    world.write(ORG.format(name="Acme"))
    world.start(only_settings=only_settings)
    copy = world.data / "run" / ACCEPTED
    copy.write_bytes(damaged)
    world.write(NOT_TOML)
    with pytest.raises(ConfigError, match=f"is not TOML.*; nor can {copy} be used") as told:
        world.start(only_settings=only_settings)
    assert "\n" not in str(told.value)
    world.write(ORG.format(name="Acme"))
    assert world.start(only_settings=only_settings).refusal is None
    assert copy.read_text() == ORG.format(name="Acme")


def test_a_copy_that_cant_be_written_stops_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.data.mkdir()
    (world.data / "run").write_text("a file in its way")
    world.write(ORG.format(name="Acme"))
    assert world.start().refusal is None
    assert "can't be kept" in caplog.text


def test_a_copy_holds_no_secret_and_is_whole(world: World) -> None:
    world.write(ORG.format(name="Acme"))
    world.environ["ACME_KEY"] = "a very secret key"
    world.start()
    (copy,) = (world.data / "run").iterdir()
    assert copy.read_text() == ORG.format(name="Acme")
    assert copy.stat().st_mode & 0o777 == 0o600


class Files(RuleBasedStateMachine):
    """A file that is edited, roles that are told or start again: each runs on the last good file that was read."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.file_is: str | None = None
        self.good = "0"
        self.role: RoleConfiguration | None = None
        self.runs_on = "0"

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize()
    def first(self) -> None:
        self.edit("0")
        self.start()

    @rule(name=st.sampled_from("0123"))
    def edit(self, name: str) -> None:
        self.world.write(ORG.format(name=name))
        self.file_is = name

    @rule(bad=st.sampled_from(BAD))
    def break_it(self, bad: str) -> None:
        self.world.write(bad)
        self.file_is = None

    @rule()
    def start(self) -> None:
        self.role = self.world.start()
        self._read()

    @rule()
    def hang_up(self) -> None:
        assert self.role is not None
        self.role.read_again()
        if self.file_is is not None:
            self._read()

    @rule()
    def another_role(self) -> None:
        """It reads the same file and keeps the same copy."""
        self.world.start(only_settings=True)
        self.good = self.file_is or self.good

    def _read(self) -> None:
        self.good = self.file_is or self.good
        self.runs_on = self.good

    @invariant()
    def it_runs_on_a_good_one(self) -> None:
        if self.role is not None:
            assert name_in(self.role) == self.runs_on


TestFiles = Files.TestCase
TestFiles.settings = hypothesis_settings(max_examples=20, stateful_step_count=15, deadline=None)


# SIGHUP


@pytest.fixture
async def hangups() -> AsyncIterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    hangup._listener, hangup._noted = None, False
    signal.signal(signal.SIGHUP, before)


async def test_each_hangup_is_answered(world: World, hangups: None) -> None:
    world.write(ORG.format(name="first"))
    configuration = world.start()
    conditions = Conditions()
    taken: list[str] = []

    def take(organisations: Organisations) -> None:
        taken.append(organisations.by_id["acme"].name)

    def codes() -> list[str]:
        return [one.code for one in conditions.current()]

    hangup.expect("api")
    world.write(ORG.format(name="second"))
    os.kill(os.getpid(), signal.SIGHUP)  # nobody listens yet
    task = asyncio.create_task(configuration.follow(conditions, take))
    await until(lambda: taken == ["second"], "the one that came before")
    world.write(BAD_ORG)
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: codes() == ["configuration_refused"], "the refusal")
    (refused,) = conditions.current()
    assert "orgs.acme.colour" in refused.message and str(world.file) in refused.message
    assert refused.reason is None, "numbers are right all the same"
    world.write("[settings]\nsession_timeout_s = 20\nburst_links = 9\n" + ORG.format(name="third"))
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: taken[-1] == "third", "the good one")
    await until(lambda: codes() == ["restart_needed"], "what holds with the next start only")
    assert "session_timeout_s, burst_links" in conditions.current()[0].message
    world.write(ORG.format(name="fourth"))
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: taken[-1] == "fourth", "the fourth")
    assert codes() == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_all_that_is_wrong_is_said_and_what_holds_meanwhile(world: World, hangups: None) -> None:
    bad = ORG.format(name="Acme") + BAD_ORG.replace("orgs.acme", "orgs.b") + "[orgs.c]\ntimezone = 'Mars'\n"
    world.write(ORG.format(name="Acme"))
    world.start()
    world.write("[settings]\npartitions = 'many'\n" + bad)
    del world.environ["ACME_KEY"]
    conditions = Conditions()
    task = asyncio.create_task(world.start(only_settings=True).follow(conditions, lambda _: None))
    await until(lambda: conditions.has("configuration_refused"), "the condition")
    message = conditions.current()[0].message
    for part in (
        "settings.partitions",
        "goes on with what it accepted before",
        str(world.data / "run" / ACCEPTED),
    ):
        assert part in message
    world.write(bad)
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: "orgs.c.timezone" in conditions.current()[0].message, "the other one")
    message = conditions.current()[0].message
    assert "orgs.b.colour" in message and message.count("orgs.c.timezone") == 1
    assert "ACME_KEY" not in message, "this role needs no secret"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


KEYS = (
    ORG.format(name="Acme").replace("env:ACME_KEY", "file:{data}/keys/k")
    + '[orgs.acme.sources.news]\nesp = "brevo"\nbasic = ["file:{data}/keys/news.basic"]\n'
)


async def test_a_key_file_that_is_lost_is_told_and_held_until_the_end(world: World, hangups: None) -> None:
    world.write(KEYS)
    keys = world.data / "keys"
    keys.mkdir(parents=True)
    (keys / "k").write_text("secret\n")
    (keys / "news.basic").write_text("webhook:password\n")

    def start() -> RoleConfiguration:
        return RoleConfiguration(world.environ, needs_keys=True)

    configuration, conditions = start(), Conditions()
    taken: list[Organisations] = []
    hangup.expect("api")
    task = asyncio.create_task(configuration.follow(conditions, taken.append))
    await asyncio.sleep(0)
    assert conditions.current() == ()
    (keys / "news.basic").unlink()
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: len(taken) == 1, "the file is taken")
    source = taken[0].find_source("acme", "news")
    assert source is not None and (source.basic, source.absent) == ((b"webhook:password",), ())
    (told,) = conditions.current()
    assert told.code == "keys_missing" and f"{keys}/news.basic is not there" in told.message
    assert "after its next start it won't" in told.message
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    (keys / "k").unlink()
    again, conditions = start(), Conditions()
    assert again.refusal is None, "it is no fault of the file"
    task = asyncio.create_task(again.follow(conditions, taken.append))
    await until(lambda: conditions.has("keys_missing"), "the condition")
    message = conditions.current()[0].message
    for part in (
        f"{keys}/k",
        f"{keys}/news.basic",
        "orgs.acme.sources.news",
        "orgs.acme.keys.k",
        "copy them",
    ):
        assert part in message
    (keys / "news.basic").write_text("webhook:password\n")
    (keys / "k").write_text("secret\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: not conditions.has("keys_missing"), "its end")
    assert taken[-1].waiting() == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


SECRETS = """
[orgs.acme.keys.k]
secret = "env:ACME_KEY"
scopes = ["read"]
[orgs.acme.keys.l]
secret = "file:{data}/keys/l"
scopes = ["read"]
[orgs.acme.sources.grid]
esp = "sendgrid"
secrets = ["file:{data}/keys/grid.pub"]
[orgs.acme.sources.brevo]
esp = "brevo"
basic = ["file:brevo.basic"]
[orgs.acme.sources.resend]
esp = "resend"
secrets = ["env:RESEND"]
"""


class Keys(World):
    """A host with all the secrets, in every place where one can be."""

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder, **settings)
        self.environ |= {"RESEND": "whsec_" + "ab" * 16}
        self.keys = self.data / "keys"
        self.keys.mkdir(parents=True)
        (self.keys / "l").write_text("of l\n")
        (self.keys / "grid.pub").write_bytes(locks.SENDGRID.public)
        (folder / "brevo.basic").write_text("webhook:password\n")
        self.write(SECRETS)

    def spoil(self, what: str) -> None:
        if what in ("grid.pub", "l"):
            (self.keys / what).write_text(self.environ["ACME_KEY"])
        elif what == "brevo.basic":
            (self.file.parent / what).write_text("no password\n")
        elif what == "gone":
            (self.file.parent / "brevo.basic").unlink()
        elif what == "unset":
            del self.environ["RESEND"]
        else:
            self.environ["RESEND"] = "re_123"


SPOILT = (
    ("grid.pub", ["orgs.acme.sources.grid"], "keys/grid.pub is not a verification key of SendGrid"),
    ("brevo.basic", ["orgs.acme.sources.brevo"], "/brevo.basic must be user:password"),
    ("gone", ["orgs.acme.sources.brevo"], "/brevo.basic is not there"),
    ("RESEND", ["orgs.acme.sources.resend"], "the environment's RESEND is not a signing secret of Resend"),
    ("unset", ["orgs.acme.sources.resend"], "the environment's RESEND is not set"),
    ("l", ["orgs.acme.keys.k", "orgs.acme.keys.l"], "keys.l.secret is the same as that of orgs.acme.keys.k"),
)
every_spoilt = pytest.mark.parametrize(("what", "waiting", "said"), SPOILT)


@every_spoilt
async def test_a_secret_that_is_spoilt_stops_only_what_needs_it(
    tmp_path: Path, hangups: None, what: str, waiting: list[str], said: str
) -> None:
    world = Keys(tmp_path)
    assert world.start().organisations.waiting() == []
    world.spoil(what)
    again, conditions = world.start(), Conditions()
    assert again.organisations.waiting() == waiting
    task = asyncio.create_task(again.follow(conditions, lambda _: None))
    await until(lambda: conditions.has("keys_missing"), "the condition")
    missing = next(one.message for one in conditions.current() if one.code == "keys_missing")
    assert said in missing and f"requests for {', '.join(waiting)} are told to try again" in missing
    assert "put the right ones in their place" in missing
    assert conditions.has("configuration_refused")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@every_spoilt
def test_a_spoilt_secret_is_wrong_in_what_was_never_accepted(
    tmp_path: Path, what: str, waiting: list[str], said: str
) -> None:
    """At the first start, and for `reports check` always; but not for the roles that need none."""
    world = Keys(tmp_path)
    world.spoil(what)
    for keys in ("only_settings", "organisations"):
        role = RoleConfiguration(world.environ, only_settings=keys == "only_settings")
        role.read_again()
        assert role.refusal is None
        assert world.copies() == {ACCEPTED_SETTINGS}, "what the API refuses is no copy of the API's"
    with pytest.raises(ConfigError) as caught:
        world.start()
    assert said.rpartition("keys.l.secret ")[2] in str(caught.value)
    wrong, _, _ = check(world.environ)
    assert any(said.rpartition("keys.l.secret ")[2] in line for line in wrong)


async def test_a_secret_that_is_mended_waits_for_no_other(tmp_path: Path, hangups: None) -> None:
    world = Keys(tmp_path)
    world.start()
    world.spoil("grid.pub")
    world.spoil("brevo.basic")
    configuration, conditions = world.start(), Conditions()
    taken: list[Organisations] = []
    hangup.expect("api")
    task = asyncio.create_task(configuration.follow(conditions, taken.append))
    await until(lambda: conditions.has("keys_missing"), "the condition")
    (tmp_path / "brevo.basic").write_text("webhook:password\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: bool(taken), "what is right by now")
    assert taken[-1].waiting() == ["orgs.acme.sources.grid"]
    (world.keys / "grid.pub").write_bytes(locks.SENDGRID.public)
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: conditions.current() == (), "all is well")
    assert taken[-1].waiting() == []
    (world.keys / "grid.pub").write_text("x")
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: conditions.has("configuration_refused"), "the refusal")
    assert configuration.organisations.waiting() == [], "what runs goes on with the key that it has"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("content", [None, "", "no password"])
async def test_a_key_that_is_lost_for_good_is_made_anew_as_it_is_advised(
    world: World, hangups: None, content: str | None
) -> None:
    """Its file is gone, emptied or rubbish; with the file there nothing was made, and nothing was said."""
    world.write(KEYS)
    home = Identified(Settings(), Identity(id="aa", secret="s", partitions=2, at_ms=1), new=True, home=True)
    key, made = world.data / "keys" / "news.basic", world.data / LIST_FILE

    def start() -> RoleConfiguration:
        configuration = world.start()
        configuration.settle(home)
        return configuration

    first = start().organisations.find_source("acme", "news")
    assert first is not None and first.basic
    if content is None:
        key.unlink()
    else:
        key.write_text(content)
    again, conditions = start(), Conditions()
    hangup.expect("api")
    task = asyncio.create_task(again.follow(conditions, lambda _: None))
    await until(lambda: conditions.has("keys_missing"), "the condition")
    (message,) = (one.message for one in conditions.current() if one.code == "keys_missing")
    assert f"delete its file and remove its line from {made}, then send SIGHUP" in message
    # As it says.
    key.unlink(missing_ok=True)
    made.write_text(made.read_text().replace("news.basic\n", ""))
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: conditions.current() == (), "its end")
    source = again.organisations.find_source("acme", "news")
    assert source is not None and (source.absent, len(source.basic)) == ((), 1)
    assert source.basic != first.basic
    assert made.read_text().splitlines().count("news.basic") == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_no_other_key_is_promised_for_one_that_is_never_made(tmp_path: Path) -> None:
    """A variable, or a file elsewhere."""
    world, conditions = Keys(tmp_path), Conditions()
    world.start()
    world.spoil("RESEND")
    configuration = world.start()
    configuration.settle(
        Identified(Settings(), Identity(id="aa", secret="s", partitions=2, at_ms=1), new=False, home=True)
    )
    configuration._say(conditions)
    assert conditions.has("keys_missing")
    assert not any("lost for good" in one.message for one in conditions.current())


def test_settings_that_change_while_the_role_waits_for_kafka_are_told(world: World) -> None:
    """It runs with those of its start."""
    conditions = Conditions()
    world.write(ORG.format(name="Acme"))
    configuration = world.start()
    world.write("[settings]\nburst_links = 9\n" + ORG.format(name="Other"))
    identity = Identity(id="aa", secret="s", partitions=2, at_ms=1)
    running = configuration.settle(Identified(configuration.settings, identity, new=False, home=True))
    assert (running.burst_links, name_in(configuration)) == (Settings().burst_links, "Other")
    configuration._say(conditions)
    (one,) = conditions.current()
    assert (one.code, "(burst_links)" in one.message) == ("restart_needed", True)


@pytest.mark.parametrize(
    ("organisations", "only_settings", "said"),
    [(1, False, "1 organisation"), (2, False, "2 organisations"), (1, True, "its settings only")],
)
def test_what_was_read_again_is_said_rightly(
    world: World, caplog: pytest.LogCaptureFixture, organisations: int, only_settings: bool, said: str
) -> None:
    caplog.set_level("INFO")
    world.write("".join(f"[orgs.o{number}]\n" for number in range(organisations)))
    world.start(only_settings=only_settings).read_again()
    (line,) = (one.message for one in caplog.records if "read again" in one.message)
    assert line.endswith(said)


async def test_a_start_on_the_last_good_one_says_so_at_once(world: World, hangups: None) -> None:
    world.write(ORG.format(name="Acme"))
    world.start()
    world.write(NOT_TOML)
    conditions = Conditions()
    task = asyncio.create_task(world.start(only_settings=True).follow(conditions, lambda _: None))
    await until(lambda: conditions.has("configuration_refused"), "the condition")
    assert "is not TOML" in conditions.current()[0].message
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_hangup_at_any_moment_of_a_start_ends_no_role(
    redis_db: str, kafka: str, tmp_path: Path
) -> None:
    """From the fork on, and on through the imports."""
    fresh_topics(Settings(kafka=kafka))
    world = World(tmp_path, redis=redis_db, kafka=kafka)
    world.write(ORG.format(name="Acme"))
    heard = Heard()
    async with running([reports_role("query", "query", ["query"])], heard, world.environ) as (supervisor, _):

        def heeded() -> bool:
            supervisor.reload()
            return any("configuration read again" in line for line in heard.of("query"))

        await until(heeded, "a role that heeds it", 60)
    assert not any("ended" in line for line in heard.of("reports")), heard.lines


@pytest.mark.parametrize("command", ["kafka", "redis", "load"])
def test_who_has_nothing_to_reload_goes_on(command: str) -> None:
    """Without a terminal SIGHUP is no end."""
    program = (
        f"import os, signal; from cli import hangup; hangup.expect({command!r}); "
        "os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.stdout == "alive\n"


async def test_a_secret_that_is_gone_under_a_running_process(world: World, hangups: None) -> None:
    """The last moment at which it can be rescued."""
    world.write(ORG.format(name="Acme"))
    configuration, conditions = RoleConfiguration(world.environ), Conditions()
    data = configuration.settings.data
    data.mkdir(parents=True, exist_ok=True)
    (data / "secret").write_text("a secret of more than sixteen characters")
    identity = Identity(id="aa", secret="s", partitions=2, at_ms=1)
    running = msgspec.structs.replace(
        configuration.settings, secret=b"a secret of more than sixteen characters"
    )
    configuration.settle(Identified(running, identity, new=False, home=False))
    hangup.expect("api")
    task = asyncio.create_task(configuration.follow(conditions, lambda _: None))
    await asyncio.sleep(0)
    assert not conditions.has("secret_missing")
    (data / "secret").unlink()
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: conditions.has("secret_missing"), "the condition")
    (data / "secret").write_text("another secret of more than sixteen characters")
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: conditions.has("secret_changed"), "that it is another one")
    (told,) = conditions.current()
    assert f"{data / 'secret'} is not the secret that this process runs with" in told.message
    assert "no role of this host will start again" in told.message
    (data / "secret").write_text("\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: conditions.has("secret_missing"), "that it is empty")
    assert [one.code for one in conditions.current()] == ["secret_missing"]
    (data / "secret").write_text("a secret of more than sixteen characters\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: conditions.current() == (), "its end")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
