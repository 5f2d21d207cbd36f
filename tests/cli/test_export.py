"""`reports export`: files whole or not there, the filters of the pages, clear words where it can't be done."""

from __future__ import annotations

import csv
import gzip
import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app import facts as f
from app import keys
from app.facts import FactsRecord, encode
from app.items import EVENT_FIELDS, RECIPIENT_FIELDS
from app.sections import link_id
from cli.config import load_settings
from cli.identity import identify
from cli.main import run
from tables.cache import RecipientCache
from tables.layout import LAYOUT_VERSION, Meta
from tables.partition import PartitionDatabase
from tables.redis_names import sync_client
from tables.views import OWNERS, Owner
from tests.api.reading import MINUTE_MS, START_MS
from tests.support.facts import entry
from tests.support.kafka import delete_topics
from tests.support.processes import ROOT, wait_until

SECRET = "a secret of the tests"
PARTITIONS = 2
LINK = "https://example.com/a"
KEY = keys.campaign_key(SECRET.encode(), "acme", "spring")
CONFIG = """
[orgs.acme]
name = "Acme"
timezone = "UTC"
"""


class Place:
    """An installation: databases, who owns them, and the environment of commands."""

    def __init__(self, folder: Path, kafka: str, redis_url: str) -> None:
        self.folder = folder
        self.state = folder / "data" / "state"
        (self.state / "slots").mkdir(parents=True)
        (self.state / "slots" / "id").write_text("thisfolder\n")
        (folder / "reports.toml").write_text(CONFIG)
        self.environ = {
            "REPORTS_REDIS": redis_url, "REPORTS_KAFKA": kafka, "REPORTS_SECRET": SECRET,
            "REPORTS_PARTITIONS": str(PARTITIONS), "REPORTS_DATA": str(folder / "data"),
            "REPORTS_CONFIG": str(folder / "reports.toml"),
        }  # fmt: skip
        delete_topics(kafka)
        settings = identify(load_settings(self.environ)).settings
        self.redis = sync_client(redis_url, settings.installation, timeout_s=5)
        cache = RecipientCache(1_000)
        fingerprint = keys.secret_fingerprint(SECRET.encode())
        self.databases = {
            p: PartitionDatabase(
                self.state / f"p{p}",
                Meta(LAYOUT_VERSION, p, PARTITIONS, "t", fingerprint, 1),
                SECRET.encode(),
                cache,
            )
            for p in range(PARTITIONS)
        }
        for partition in range(PARTITIONS):
            self.own(partition, str(self.state / f"p{partition}"))

    def own(self, partition: int, path: str, worker: str = "thisfolder-0") -> None:
        self.redis.hset(OWNERS, str(partition), msgspec.json.encode(Owner(worker, path, 0)))

    def write(self, people: int, filler: str = "") -> None:
        made: dict[int, list[f.Entry]] = {partition: [] for partition in range(PARTITIONS)}
        for number in range(people):
            address = f"p{number:05d}@example.com"
            recipient = keys.recipient_key(SECRET.encode(), KEY, address)
            variant = {"subject": "AB"[number % 2]} | ({"filler": filler} if filler else {})
            detail = f.Detail("generic", variant=variant, link=LINK if number % 3 == 0 else None)
            numbers: dict[str, Any] = {
                "variant": keys.text_id(str(variant)),
                "link": keys.text_id(LINK) if number % 3 == 0 else 0,
            }
            kinds = (f.SENT, f.CLICKED) if number % 3 == 0 else (f.SENT,)
            for kind in kinds:
                one = entry(
                    kind, START_MS + number * MINUTE_MS + kind, address=address, content=number, **numbers
                )
                one = msgspec.structs.replace(one, recipient=recipient, detail=encode(detail))
                made[keys.recipient_partition(recipient, PARTITIONS)].append(one)
        for partition, database in self.databases.items():
            record = FactsRecord(
                f.FACTS_VERSION,
                "acme",
                "spring",
                START_MS,
                made[partition],
                keys.secret_fingerprint(SECRET.encode()),
            )
            database.apply([(database.next_offset, encode(record))])

    def close(self) -> None:
        for database in self.databases.values():
            database.close()
        self.redis.close()


@pytest.fixture
def place(tmp_path: Path, kafka: str, redis_db: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(tmp_path, kafka, redis_db)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


def rows_of(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


def exported(place: Place, *arguments: str) -> list[list[str]]:
    """The rows of a file, without its header."""
    file = place.folder / "out.csv"
    assert run(["export", *arguments, "--output", str(file)]) == 0
    found = rows_of(file.read_bytes())
    assert found[0] == list(RECIPIENT_FIELDS if arguments[0] == "recipients" else EVENT_FIELDS)
    assert [one.name for one in place.folder.iterdir() if "part" in one.name] == []
    file.unlink()
    return found[1:]


def test_to_a_file(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.write(30)
    people = exported(place, "recipients", "spring")
    assert [row[0] for row in people] == [f"p{number:05d}@example.com" for number in range(30)]
    offsets = ",".join(f"{p}={database.next_offset}" for p, database in place.databases.items())
    said = capfd.readouterr()
    assert f"30 rows; offsets {offsets}" in said.err
    assert said.out == ""
    assert len(exported(place, "events", "spring", "--org", "acme")) == 40


def test_with_filters(place: Place) -> None:
    place.write(30)
    link = link_id(keys.text_id(LINK))
    assert len(exported(place, "recipients", "spring", "--status", "clicked")) == 10
    assert len(exported(place, "recipients", "spring", "--link", LINK, "--count", "people")) == 10
    assert len(exported(place, "recipients", "spring", "--link", link, "--variant", "subject=A")) == 5
    assert len(exported(place, "recipients", "spring", "--search", "P0001")) == 10
    assert len(exported(place, "recipients", "spring", "--country", "DE")) == 0
    assert len(exported(place, "events", "spring", "--type", "clicked")) == 10
    assert len(exported(place, "events", "spring", "--recipient", "P00000@example.com")) == 2
    assert len(exported(place, "events", "spring", "--verdict", "scanner")) == 0
    assert (
        len(exported(place, "events", "spring", "--from", "2026-09-21T14:00:00Z", "--to", "2026-09-21")) == 0
    )
    ascending, descending = (
        exported(place, "events", "spring", "--order", order) for order in ("asc", "desc")
    )
    assert ascending == descending[::-1] != []


def test_compressed(place: Place) -> None:
    place.write(30)
    plain, packed = place.folder / "a.csv", place.folder / "a.csv.gz"
    for file in (plain, packed):
        assert run(["export", "recipients", "spring", "-o", str(file)]) == 0
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert run(["export", "recipients", "spring", "-o", str(plain), "--gzip"]) == 0
    assert gzip.decompress(plain.read_bytes()).startswith(b"recipient,")


def command(place: Place, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "export", *arguments],
        cwd=ROOT, env=place.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_to_standard_output(place: Place) -> None:
    place.write(300)
    process = command(place, "recipients", "spring")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len(rows_of(out)) == 301
    assert b"300 rows; offsets" in err


def test_nobody_reads_any_more(place: Place) -> None:
    place.write(2_000, "x" * 2_000)
    process = command(place, "recipients", "spring")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(100)
    process.stdout.close()
    assert process.wait(60) == 1
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def test_a_file_is_whole_or_not_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(10)
    file = place.folder / "out.csv"
    file.write_text("the one before")

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tables.csv_output.os.write", full)
    assert run(["export", "recipients", "spring", "-o", str(file)]) == 3
    assert file.read_text() == "the one before"
    assert [one.name for one in place.folder.iterdir() if "part" in one.name] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal(place: Place, number: signal.Signals) -> None:
    place.write(12_000, "x" * 3_000)
    file = place.folder / "out.csv"
    process = command(place, "events", "spring", "-o", str(file))
    try:
        wait_until(lambda: any("part" in one.name for one in place.folder.iterdir()), 30, "a beginning")
    finally:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if process.returncode:  # else it was quicker
        assert not file.exists()
    assert [one.name for one in place.folder.iterdir() if "part" in one.name] == []
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["recipients", "autumn"], 2, "there is no campaign acme/autumn"),
        (["recipients", "spring", "--org", "globex"], 2, "--org must be one of: acme"),
        (["recipients", "spring", "--status", "dead"], 2, "--status"),
        (["recipients", "spring", "--variant", "A"], 2, "FIELD=VALUE"),
        (["events", "spring", "--from", "tomorrow"], 2, "no time"),
        (["recipients", "spring", "-o", "/no/such/folder/a.csv"], 3, "can't be written"),
        (["everything", "spring"], 2, "No such command"),
    ],
)
def test_used_wrongly(
    place: Place, arguments: list[str], status: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place.write(3)
    assert run(["export", *arguments]) == status
    assert words in capfd.readouterr().err


def test_not_on_this_machine(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    place.write(3)
    place.own(1, str(place.state / "p1"), worker="otherfolder-0")
    assert run(["export", "recipients", "spring"]) == 3
    assert "partition 1 is counted by otherfolder-0" in capfd.readouterr().err
    place.redis.hdel(OWNERS, "1")
    assert run(["export", "recipients", "spring"]) == 3
    assert "partition 1 has no worker yet" in capfd.readouterr().err


def test_whatever_reads_databases_says_which_are_not_here(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where the other host's path is one of this machine too: an old copy is not passed off."""
    place.write(3)
    (ledger := place.folder / "ledger").touch()
    assert run(["reconcile"]) == 0
    assert run(["verify", str(ledger)]) == 0
    place.own(1, str(place.state / "p1"), worker="otherfolder-0")
    there = f"partition 1 is counted by otherfolder-0 in {place.state}, which is not on this machine"
    for command in (["reconcile"], ["verify", str(ledger)]):
        assert run(command) == 3
        said = " ".join(capfd.readouterr().err.split())
        assert there in said and "`reports reconcile --here`" in said
    assert run(["reconcile", "--here"]) == 0
    assert "in 1 partition\n" in capfd.readouterr().err, "and not in both"
    for partition in range(PARTITIONS):
        place.own(partition, "/nowhere/state/p0", worker="otherfolder-0")
    for command in (["reconcile"], ["reconcile", "--here"], ["verify", str(ledger)]):
        assert run(command) == 3
        assert "partition 0, 1 is counted by otherfolder-0 in /nowhere/state" in capfd.readouterr().err


def test_without_redis(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPORTS_REDIS", "redis://127.0.0.1:9/0")
    assert run(["export", "recipients", "spring"]) == 3
    assert "who owns which partition can't be read" in capfd.readouterr().err
