"""Hosts that find, make and adopt an installation, on a real Kafka."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from app import facts as f
from app import keys
from app.errors import StateError, TryLater, of_file
from app.facts import FactsRecord, encode
from app.settings import Settings
from app.topics import FACTS, INSTALLATION, WEBHOOKS
from cli import identity
from cli.identity import Identified, damaged_id, identify, why_no_start
from cli.keys import Missing
from cli.topics import ensure_topics
from tables.cache import RecipientCache
from tables.installation import InstallationLog
from tables.layout import LAYOUT_VERSION, Meta
from tables.origin import topic_ids
from tables.partition import PartitionDatabase
from tests.support.facts import ORG, START_MS, entry
from tests.support.kafka import delete_topics
from tests.support.processes import ROOT, environment

PARTITIONS = 2
OURS, THEIRS = b"secret of the tests", b"a secret of other people"
"""`tests.support.facts` keys its entries by the first one."""


@pytest.fixture
def host(kafka: str, tmp_path: Path) -> Callable[..., Settings]:
    """Makes hosts on one new cluster, each with a data folder of its own."""
    delete_topics(kafka)

    def made(name: str, secret: bytes = b"", **settings: object) -> Settings:
        first = Settings(
            kafka=kafka,
            redis="redis://127.0.0.1:9/0",
            partitions=PARTITIONS,
            data=tmp_path / name,
            secret=secret,
        )
        return msgspec.structs.replace(first, **settings)

    return made


def files(settings: Settings) -> dict[str, bytes]:
    """What a host's data folder holds that identifies."""
    return {
        path.name: path.read_bytes()
        for path in settings.data.glob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def records(settings: Settings) -> int:
    return len(InstallationLog(settings.kafka)._records())


def write_facts(settings: Settings, secret: bytes, count: int, first: int = 0) -> None:
    """As normalize with this secret writes them."""
    ensure_topics(settings)
    producer = Producer({"bootstrap.servers": settings.kafka, "log_level": 2})
    for number in range(first, first + count):
        line = entry(f.OPENED, START_MS + number, number=number)
        campaign = keys.campaign_key(secret, ORG, "spring")
        key = keys.recipient_key(secret, campaign, keys.normalise_address(line.address))
        value = encode(
            FactsRecord(
                f.FACTS_VERSION, ORG, "spring", START_MS, [msgspec.structs.replace(line, recipient=key)]
            )
        )
        producer.produce(FACTS, value, partition=keys.recipient_partition(key, PARTITIONS))
    assert producer.flush(10) == 0


def make_database(settings: Settings, folder: Path, secret: bytes, topic_id: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    found = topic_id or topic_ids(settings.kafka, [FACTS])[FACTS]
    meta = Meta(LAYOUT_VERSION, 0, PARTITIONS, found, keys.secret_fingerprint(secret), 1)
    PartitionDatabase(folder / "p0", meta, secret, RecipientCache(10)).close()


def test_a_new_cluster_is_this_hosts_and_stays_so(host: Callable[..., Settings]) -> None:
    first = identify(host("a"))
    assert (first.new, first.home, first.missing) == (True, True, Missing.MAKE)
    assert first.identity.secret == keys.secret_fingerprint(first.settings.secret)
    assert len(first.settings.secret) == 64
    assert (first.settings.data / "secret").stat().st_mode & 0o777 == 0o600
    assert set(files(first.settings)) == {"secret", "installation", "keys.made"}
    # It outlives the installation where the secret is lost.
    assert first.identity.id.encode() not in files(first.settings)["keys.made"]
    again = identify(host("a"))
    assert (again.new, again.home, again.identity, again.settings) == (
        False,
        True,
        first.identity,
        first.settings,
    )
    log = InstallationLog(first.settings.kafka).read()
    assert log is not None and log.topics is not None
    assert log.topics.ids == topic_ids(first.settings.kafka, ("webhooks", FACTS))


def test_a_second_host_without_the_secret_is_refused_and_leaves_nothing(
    host: Callable[..., Settings],
) -> None:
    first = identify(host("a"))
    before = records(first.settings)
    second = host("b")
    with pytest.raises(
        StateError, match=f"no secret.* installation {first.identity.id}, made 20.*copy the file"
    ) as told:
        identify(second)
    assert str(second.data / "keys") in str(told.value) and "A lost secret" in str(told.value)
    assert str(second.data / "secret") in str(told.value)
    assert files(second) == {}
    assert records(first.settings) == before
    # Following the advice: with the file, and with the setting.
    shutil.copy(first.settings.data / "secret", second.data / "secret")
    found = identify(second)
    assert (found.identity, found.new, found.home) == (first.identity, False, False)
    assert found.missing is Missing.LEAVE_OUT
    assert identify(host("c", first.settings.secret)).identity == first.identity
    assert files(host("c")) == {"installation.joined": f"{first.identity.id}\n".encode()}


def test_another_secret_is_refused_and_the_advice_helps(host: Callable[..., Settings]) -> None:
    first = identify(host("a"))
    wrong = host("a", b"another secret of that host")
    with pytest.raises(
        StateError, match=r"REPORTS_SECRET is not the secret of .* unset REPORTS_SECRET"
    ) as told:
        identify(wrong)
    assert "another secret" not in str(told.value)
    assert identify(host("a")).identity == first.identity
    (host("b").data).mkdir()
    (host("b").data / "secret").write_text("another one\n")
    with pytest.raises(StateError, match=r"the secret in .*/b/secret is not the secret of"):
        identify(host("b"))
    assert files(host("b")) == {"secret": b"another one\n"}


def test_another_number_of_partitions_is_refused(host: Callable[..., Settings]) -> None:
    first = identify(host("a"))
    for number in (1, 3):
        with pytest.raises(StateError, match=f"REPORTS_PARTITIONS is {number}.* set REPORTS_PARTITIONS=2"):
            identify(host("a", partitions=number))
    assert identify(host("a", partitions=2)).identity == first.identity


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_hosts_that_begin_together_one_makes_the_installation(
    host: Callable[..., Settings], attempt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found the topic empty before either appends."""
    both = threading.Barrier(2, timeout=30)
    look = identity._look

    def together(*arguments: object) -> object:
        seen = look(*arguments)  # type: ignore[arg-type]
        both.wait()
        return seen

    monkeypatch.setattr(identity, "_look", together)
    ends: dict[str, Identified | StateError] = {}

    def begin(name: str) -> None:
        try:
            ends[name] = identify(host(name))
        except StateError as error:
            ends[name] = error

    threads = [threading.Thread(target=begin, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (winner,) = (name for name, end in ends.items() if isinstance(end, Identified))
    (loser,) = (name for name, end in ends.items() if isinstance(end, StateError))
    won = ends[winner]
    assert isinstance(won, Identified) and won.new and won.home
    assert f"installation {won.identity.id}" in str(ends[loser])
    assert files(host(loser)) == {}
    assert set(files(host(winner))) == {"secret", "installation", "keys.made"}


def test_roles_of_one_host_that_begin_together_agree(host: Callable[..., Settings]) -> None:
    ends: list[Identified] = []
    threads = [threading.Thread(target=lambda: ends.append(identify(host("a")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (
        len({(end.identity.id, end.settings.secret, end.home) for end in ends})
        == 1
        == sum(end.new for end in ends)
    )
    assert len(ends) == 4


@pytest.mark.parametrize("stored", [False, True])
def test_a_start_that_is_cut_short_is_made_up_for(
    host: Callable[..., Settings], stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as the identity is appended, before or after it was stored."""
    append = InstallationLog.append

    def lost(self: InstallationLog, record: object) -> int:
        if stored:
            append(self, record)  # type: ignore[arg-type]
        raise RuntimeError("killed")

    monkeypatch.setattr(InstallationLog, "append", lost)
    with pytest.raises(RuntimeError, match="killed"):
        identify(host("a"))
    monkeypatch.setattr(InstallationLog, "append", append)
    found = identify(host("a"))
    assert found.home
    assert found.new is not stored
    assert set(files(host("a"))) == {"secret", "installation", "keys.made"}


def test_a_cluster_from_before_is_adopted_by_its_databases_only(host: Callable[..., Settings]) -> None:
    a, b = host("a", OURS), host("b", THEIRS)
    # Their facts are the most: another host without the secret had joined.
    write_facts(a, OURS, 5)
    write_facts(a, THEIRS, 20)
    make_database(a, a.data / "state", OURS)
    make_database(b, b.data / "elsewhere", OURS)
    with pytest.raises(
        StateError, match=r"the databases in .*elsewhere were made with another secret than REPORTS"
    ):
        identify(b, state=b.data / "elsewhere")
    assert records(a) == 0
    found = identify(a)
    assert (found.new, found.home, found.identity.secret) == (True, True, keys.secret_fingerprint(OURS))
    assert found.identity.adopted


def test_databases_of_another_cluster_prove_nothing(host: Callable[..., Settings]) -> None:
    a = host("a", OURS)
    write_facts(a, OURS, 5)
    make_database(a, a.data / "state", OURS, topic_id="another")
    with pytest.raises(StateError, match="topic facts was recreated or the cluster is another one"):
        identify(a)
    assert records(a) == 0
    # Following the advice: without the databases the topic is counted from its start.
    shutil.rmtree(a.data / "state")
    assert identify(a).new


def test_without_databases_the_secret_has_to_yield_the_stored_keys(host: Callable[..., Settings]) -> None:
    a = host("a", OURS)
    write_facts(a, OURS, 450)
    write_facts(a, THEIRS, 30, first=450)
    for other in (host("b", THEIRS), host("c")):
        with pytest.raises(
            StateError, match=r"(keys of another secret|holds facts that were keyed).*copy the file"
        ):
            identify(other)
        assert files(other) == {}
    assert records(a) == 0
    found = identify(a)
    assert (found.new, found.home) == (True, True)


def test_a_removed_topic_is_adopted_under_the_same_name(host: Callable[..., Settings]) -> None:
    a = host("a", OURS)
    before = identify(a)
    write_facts(a, OURS, 5)
    delete_topics(a.kafka, (INSTALLATION,))
    after = identify(a)
    assert (after.identity.id, after.new, after.home) == (before.identity.id, True, True)
    assert (before.identity.again_ms, before.identity.adopted) == (None, False)
    assert after.identity.again_ms == after.identity.at_ms


def test_a_removed_topic_that_a_host_without_an_id_makes_again(host: Callable[..., Settings]) -> None:
    """It was said by nobody that what stood in the topic is gone."""
    a, b, c = host("a", OURS), host("b", OURS), host("c", OURS)
    before = identify(a)
    identify(b)
    write_facts(a, OURS, 5)
    delete_topics(a.kafka, (INSTALLATION,))
    after = identify(c)
    assert after.identity.id != before.identity.id
    log = InstallationLog(a.kafka)
    for knows in (a, b):
        for _ in range(2):
            assert identify(knows).identity == after.identity
        assert (found := log.read()) is not None
        assert found.again_ms is not None
        assert found.webhooks_from_ms == found.again_ms
    assert records(a) == 3, "the identity, its topics, and what the old id was: once"


def test_a_removed_topic_is_adopted_under_the_same_name_by_who_has_joined(
    host: Callable[..., Settings],
) -> None:
    """It took a new one: the running roles of both hosts stayed with the old one, and no host was home."""
    a, b, c = host("a", OURS), host("b", OURS), host("c", OURS)
    before = identify(a)
    assert not identify(b).home
    write_facts(a, OURS, 5)
    delete_topics(a.kafka, (INSTALLATION,))
    after = identify(b)
    assert (after.identity.id, after.new, after.home) == (before.identity.id, True, False)
    assert after.identity.again_ms is not None
    log = InstallationLog(a.kafka).read()
    assert log is not None
    assert log.topics is not None, "what the numbers come from is known again"
    found = identify(a)
    assert (found.identity, found.new, found.home) == (after.identity, False, True)
    assert not identify(b).home
    assert not identify(c).home


def test_who_becomes_home_has_joined_nothing(host: Callable[..., Settings]) -> None:
    a, b = host("a", OURS), host("b", OURS)
    identify(a)
    identify(b)
    delete_topics(a.kafka)
    assert identify(b).home
    assert set(files(b)) == {"installation", "keys.made"}


def test_a_command_waits_for_kafka_so_long_and_no_longer(tmp_path: Path) -> None:
    settings = Settings(kafka="127.0.0.1:9", redis="redis://127.0.0.1:9/0", data=tmp_path / "a")
    with pytest.raises(TryLater, match=r"127\.0\.0\.1:9"):
        identify(settings, wait_s=0.5)
    assert files(settings) == {}


def test_nothing_but_the_topic_is_made_for_a_host_that_is_refused(host: Callable[..., Settings]) -> None:
    a = host("a")
    identify(a)
    delete_topics(a.kafka, (FACTS,))
    with pytest.raises(StateError):
        identify(host("b"))
    admin = AdminClient({"bootstrap.servers": a.kafka, "log_level": 2})
    assert FACTS not in admin.list_topics(timeout=10).topics


FOREIGN = "deadbeefdeadbeef"


def refused(settings: Settings) -> str:
    """What a start is told that must not go on, and `reports check` too; nothing may have been written by it."""
    before, kept = records(settings), files(settings)
    with pytest.raises(StateError) as told:
        identify(settings)
    assert why_no_start(settings) == str(told.value)
    assert (records(settings), files(settings)) == (before, kept)
    return str(told.value)


def test_a_folder_that_says_a_foreign_id_is_told_and_the_advice_helps(host: Callable[..., Settings]) -> None:
    """It was taken for a proof that the topic had been recreated, for ever."""
    a, b = host("a", OURS), host("b", OURS)
    first = identify(a)
    identify(b)
    write_facts(a, OURS, 5)
    for settings, name in ((a, "installation"), (b, "installation.joined")):
        path = settings.data / name
        path.write_text(f"{FOREIGN}\n")
        for written in (None, (0, 0)):  # also one that is older than the identity: the facts are not
            if written is not None:
                os.utime(path, written)
            told = refused(settings)
            assert f"{path} says that this folder is of installation {FOREIGN}; the cluster's" in told
            assert f"is {first.identity.id}, made 20" in told
    assert f"move {path} away" in told
    (b.data / "installation.joined").rename(b.data / "moved away")
    assert not identify(b).home
    assert (
        f"{path} away and, if this host made the installation, write {first.identity.id} into a new" in told
    )
    (a.data / "installation").write_text(first.identity.id)
    assert identify(a).home
    log = InstallationLog(a.kafka).read()
    assert log is not None and log.again_ms is None and log.before == frozenset()


def test_a_foreign_id_that_is_younger_than_the_recreated_topic_proves_nothing(
    host: Callable[..., Settings],
) -> None:
    a, b, c = host("a", OURS), host("b", OURS), host("c", OURS)
    before = identify(a)
    write_facts(a, OURS, 5)
    delete_topics(a.kafka, (INSTALLATION,))
    identify(c)
    b.data.mkdir()
    (b.data / "installation").write_text(FOREIGN)
    assert FOREIGN in refused(b)
    identify(a)
    log = InstallationLog(a.kafka).read()
    assert log is not None and log.before == {before.identity.id}


def test_a_host_that_knew_the_installation_joins_the_one_that_is_made_where_the_secret_was_lost(
    host: Callable[..., Settings],
) -> None:
    """As docs/operate.md says it (`A lost secret`): of the log only the webhooks stay."""
    a, b = host("a"), host("b")
    first = identify(a)
    b.data.mkdir()
    shutil.copy(a.data / "secret", b.data / "secret")
    identify(b)
    producer = Producer({"bootstrap.servers": a.kafka, "log_level": 2})
    producer.produce(WEBHOOKS, b"a body", partition=0)
    assert producer.flush(10) == 0
    write_facts(a, OURS, 5)
    delete_topics(a.kafka, (INSTALLATION, FACTS))
    (a.data / "secret").unlink()
    again = identify(a)
    assert again.new and again.identity.id != first.identity.id
    shutil.copy(a.data / "secret", b.data / "secret")
    assert identify(b).identity == again.identity


def test_a_full_disk_refuses_the_first_start_in_one_line(kafka: str, redis_db: str, tmp_path: Path) -> None:
    delete_topics(kafka)
    environ = environment(tmp_path, kafka=kafka, redis=redis_db)
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 0 && exec "$@"', "sh", sys.executable, "-m", "cli.main", "aggregate"],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    data = Path(environ["REPORTS_DATA"])
    assert done.returncode == 3, done.stderr
    assert done.stderr.endswith(f"reports: {data / 'secret.new'} can't be used: File too large\n")
    assert "Traceback" not in done.stderr
    assert [one.name for one in data.iterdir() if "secret" in one.name] == []


GARBAGE = (b"", b"\xff\xfe{garbage", b"\x00" * 40, b"deadbeef")


def test_no_damaged_file_gives_more_than_a_line_that_names_it(
    host: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever it is; and where it says of whose the folder is, the line says what to write. Only that one stops
    anything."""
    a, b = host("a", OURS), host("b", OURS)
    first = identify(a)
    identify(b)
    count = records(a)
    for settings, name in (
        (a, "installation"), (b, "installation.joined"), (a, "keys.made"), (a, "installation.new"),
        (a, "keys.made.new"), (a, "secret.new"),
    ):  # fmt: skip
        path = settings.data / name
        kept = path.read_bytes() if path.exists() else None
        for garbage in (*GARBAGE, None):
            if garbage is None:
                path.unlink(missing_ok=True)
                path.mkdir()
            else:
                path.write_bytes(garbage)
            caplog.clear()
            assert (name == "installation") == (damaged_id(settings.data) is not None)
            if name == "installation":
                told = refused(settings)
                assert f"move {path} away" in told and first.identity.id in told
            else:
                identify(settings)
            if name == "installation.joined":
                assert f"{path} is damaged and made again" in caplog.text
                if garbage is None:
                    assert f"{path} can't be written (Is a directory): move it away" in caplog.text
                else:
                    assert path.read_text().strip() == first.identity.id
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True) if kept is None else path.write_bytes(kept)
        assert identify(settings).identity == first.identity
    assert identify(a).home and not identify(b).home
    assert records(a) == count


@pytest.mark.parametrize("name", ["secret.new", "installation.new", "keys.made.new"])
def test_what_a_start_left_damaged_is_made_again_or_named(host: Callable[..., Settings], name: str) -> None:
    for host_name, garbage in (("a", b"\xff\xfe{garbage"), ("b", None)):
        delete_topics(host(host_name).kafka)
        path = host(host_name).data / name
        if garbage is None:
            path.mkdir(parents=True)
            with pytest.raises(OSError, match="Is a directory") as told:
                identify(host(host_name))
            assert f"{path} can't be used: Is a directory" in str(of_file(told.value))
            path.rename(path.with_name("moved away"))
        else:
            path.parent.mkdir()
            path.write_bytes(garbage)
        assert identify(host(host_name)).home
        assert set(files(host(host_name))) == {"secret", "installation", "keys.made"}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_damaged_id_where_the_topic_is_gone_too_makes_no_installation(
    host: Callable[..., Settings], garbage: bytes
) -> None:
    a = host("a", OURS)
    first = identify(a)
    write_facts(a, OURS, 5)
    delete_topics(a.kafka, (INSTALLATION,))
    ensure_topics(a)
    path = a.data / "installation"
    path.write_bytes(garbage)
    told = refused(a)
    assert f"{path} is damaged" in told and "copy of the file from a backup" in told
    path.write_text(first.identity.id)
    assert identify(a).identity.id == first.identity.id
