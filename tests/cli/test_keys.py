"""Key files: made once, under a name that is new, by the host that made the installation."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.organisations import AbsentSecret
from cli.keys import ID_FILE, LIST_FILE, LIST_HEADER, Held, KeyFiles, Missing, describe_absent


def any_secret(secret: bytes) -> str | None:
    return None if secret else "is empty"


NAMES = ("dashboard", "news.pub", "offers.basic")


class Host:
    """A data folder; `installed`: with the list that the making of an installation begins."""

    def __init__(self, data: Path, *, installed: bool = True, listed: bool = True) -> None:
        self.data = data
        data.mkdir(exist_ok=True)
        if installed and listed:
            (data / LIST_FILE).write_text(LIST_HEADER + "\n")
        if installed:
            (data / ID_FILE).write_text("0123\n")

    def start(
        self,
        *names: str,
        missing: Missing = Missing.MAKE,
        held: Held | None = None,
    ) -> dict[str, bytes]:
        """What a start of a role whose file names these finds; without those that are left out."""
        files = KeyFiles(self.data, missing, held)
        found = {}
        for name in names:
            try:
                found[name] = files.read(self.data / "keys" / name, any_secret)
            except AbsentSecret:
                assert self.data / "keys" / name in files.absent
        files.keep_list()
        return found


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "data")


def test_a_lost_key_is_not_made_again_and_a_new_name_is(host: Host) -> None:
    made = host.start(*NAMES)
    assert set(made) == set(NAMES)
    (host.data / "keys" / "dashboard").unlink()
    left = {name: made[name] for name in NAMES[1:]}
    for _ in range(2):
        assert host.start(*NAMES) == left
    assert set(host.start(*NAMES, "new")) == {*NAMES[1:], "new"}
    shutil.rmtree(host.data / "keys")
    for _ in range(2):
        assert host.start(*NAMES, "new") == {}
    assert not (host.data / "keys").exists()


def test_where_the_private_half_is_left_the_public_one_is_not_made_either(host: Host) -> None:
    """The file may have been replaced by the ESP's own since."""
    host.start("news.pub")
    (host.data / "keys" / "news.pub").unlink()
    assert host.start("news.pub") == {}


def test_all_but_the_installation_is_lost(host: Host) -> None:
    host.start(*NAMES)
    shutil.rmtree(host.data / "keys")
    (host.data / LIST_FILE).unlink()
    for _ in range(2):
        assert host.start(*NAMES) == {}
    assert set(host.start(*NAMES, "new")) == {"new"}


def test_an_installation_of_an_earlier_version(tmp_path: Path) -> None:
    """What is there is known from its first start on; what isn't there may be lost, and is not made."""
    host = Host(tmp_path / "data", listed=False)
    (host.data / "keys").mkdir()
    (host.data / "keys" / "dashboard").write_text("known\n")
    for _ in range(2):
        assert host.start("dashboard", "gone") == {"dashboard": b"known"}
    (host.data / "keys" / "dashboard").unlink()
    assert host.start("dashboard", "gone") == {}
    assert set(host.start("new")) == {"new"}


def test_a_line_that_is_removed_lets_the_key_be_made(host: Host) -> None:
    before = host.start(*NAMES)
    (host.data / "keys" / "dashboard").unlink()
    lines = (host.data / LIST_FILE).read_text().splitlines()
    (host.data / LIST_FILE).write_text("\n".join(line for line in lines if line != "dashboard") + "\n")
    after = host.start(*NAMES)
    assert set(after) == set(NAMES) and after["dashboard"] != before["dashboard"]
    assert host.start(*NAMES) == after


def test_roles_that_read_a_new_name_together_list_it_once(host: Host) -> None:
    files = [KeyFiles(host.data, Missing.MAKE) for _ in range(3)]
    for one in files:
        one.read(host.data / "keys" / "dashboard", any_secret)
    for one in files:
        one.keep_list()
    assert (host.data / LIST_FILE).read_text().splitlines().count("dashboard") == 1


def test_another_host_makes_none(tmp_path: Path) -> None:
    host = Host(tmp_path / "data", installed=False)
    assert host.start(*NAMES, missing=Missing.LEAVE_OUT) == {}
    assert list(host.data.iterdir()) == []


def test_a_process_keeps_what_it_has_read(host: Host) -> None:
    held: Held = {}
    made = host.start(*NAMES, held=held)
    shutil.rmtree(host.data / "keys")
    assert host.start(*NAMES, held=held) == made
    (host.data / "keys").mkdir()
    (host.data / "keys" / "dashboard").write_text("another\n")
    assert host.start(*NAMES, held=held)["dashboard"] == b"another"


def test_an_empty_file_and_one_that_cant_be_read_are_left_out(host: Host) -> None:
    folder = host.data / "keys"
    folder.mkdir()
    (folder / "empty").write_text("\n")
    (folder / "folder").mkdir()
    files = KeyFiles(host.data, Missing.MAKE)
    for name in ("empty", "folder"):
        with pytest.raises(AbsentSecret):
            files.read(folder / name, any_secret)
    assert (
        describe_absent(files.absent)
        == f"{folder}/empty is empty; {folder}/folder can't be read: Is a directory"
    )
    assert describe_absent({Path("a"): "is not there", Path("b"): "is not there"}) == "a, b are not there"


def test_a_role_that_looks_while_another_one_makes_the_key_has_it(host: Host) -> None:
    """Not listed when it began, there when it looks: never taken for lost."""
    late = KeyFiles(host.data, Missing.MAKE)
    made = host.start("dashboard")
    assert late.read(host.data / "keys" / "dashboard", any_secret) == made["dashboard"]


@pytest.mark.parametrize("garbage", [b"\xff\xfe{garbage", b"\x00" * 80])
def test_a_spoilt_list_is_begun_again_and_no_key_is_made_a_second_time(
    host: Host, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    host.start(*NAMES)
    path = host.data / LIST_FILE
    path.write_bytes(garbage)
    (host.data / "keys" / "dashboard").unlink()
    assert set(host.start(*NAMES)) == {*NAMES} - {"dashboard"}
    assert f"{path} is damaged" in caplog.text
    assert sorted(path.read_text().split()) == sorted(NAMES)
    caplog.clear()
    assert set(host.start(*NAMES, "new")) == {*NAMES, "new"} - {"dashboard"}
    assert "is damaged" not in caplog.text


def test_a_folder_in_the_place_of_the_list_stops_no_start_and_no_key_is_made_a_second_time(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.start(*NAMES)
    path = host.data / LIST_FILE
    path.unlink()
    path.mkdir()
    (host.data / "keys" / "dashboard").unlink()
    assert set(host.start(*NAMES)) == {*NAMES} - {"dashboard"}
    assert f"{path} can't be read (Is a directory)" in caplog.text and "move it away" in caplog.text
    path.rmdir()
    assert set(host.start(*NAMES)) == {*NAMES} - {"dashboard"}
    assert sorted(path.read_text().split()) == sorted(NAMES)


class Lives(RuleBasedStateMachine):
    """Whatever is lost and however the file is edited: a name never stands for two keys."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.host = Host(Path(self.folder) / "data")
        self.first: dict[str, bytes] = {}

    @rule(names=st.sets(st.sampled_from(("a", "b", "c.basic", "d")), min_size=1))
    def start(self, names: set[str]) -> None:
        found = self.host.start(*sorted(names))
        for name, key in found.items():
            assert self.first.setdefault(name, key) == key, name

    @rule(name=st.sampled_from(("a", "b", "c.basic", "d")))
    def lose(self, name: str) -> None:
        (self.host.data / "keys" / name).unlink(missing_ok=True)

    @rule()
    def lose_all(self) -> None:
        shutil.rmtree(self.host.data / "keys", ignore_errors=True)

    @invariant()
    def files_are_the_first_ones(self) -> None:
        for name, key in getattr(self, "first", {}).items():
            path = self.host.data / "keys" / name
            assert not path.exists() or path.read_bytes().strip() == key

    def teardown(self) -> None:
        shutil.rmtree(getattr(self, "folder", ""), ignore_errors=True)


TestLives = Lives.TestCase
TestLives.settings = hypothesis_settings(max_examples=60, stateful_step_count=15, deadline=None)
