from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import Settings
from cli.check import check
from cli.identity import identify
from cli.keys import ID_FILE, JOINED, LIST_FILE
from cli.main import COMMANDS, run
from tests.support.kafka import delete_topics
from tests.support.processes import ROOT, environment


def reports(*arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_example_is_right_and_nothing_is_written(tmp_path: Path) -> None:
    done = reports("check", environ=environment(tmp_path / "var"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 organisation, 5 sources, 2 keys" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = reports("check", environ=environment(tmp_path, partitions="none"))
    assert done.returncode == 2
    assert done.stderr == "wrong: REPORTS_PARTITIONS: must be a whole number\n"
    assert done.stdout == ""


def test_a_key_file_that_no_start_makes_again_is_told(tmp_path: Path) -> None:
    config = tmp_path / "reports.toml"
    config.write_text('[orgs.acme.sources.news]\nesp = "sendgrid"\nsecrets = ["file:{data}/keys/news.pub"]\n')
    data = tmp_path / "var"

    def warned() -> bool:
        wrong, warnings, _ = check(environment(data, config=str(config)))
        assert wrong == []
        return any(f"{data / 'keys' / 'news.pub'} is not there: requests for" in line for line in warnings)

    assert not warned()  # the first start makes it
    data.mkdir()
    (data / ID_FILE).write_text(f"{'0' * 16}\n")
    (data / "secret").write_text("x" * 40)
    (data / LIST_FILE).write_text("")
    assert not warned()
    (data / LIST_FILE).write_text("news.pub\n")
    assert warned()
    (data / LIST_FILE).unlink()  # nobody knows, so none is made
    assert warned()
    (data / ID_FILE).rename(data / JOINED)
    assert warned()


def test_a_secret_that_is_gone_is_told(tmp_path: Path) -> None:
    data = tmp_path / "var"

    def told(**settings: str) -> bool:
        wrong, _, _ = check(environment(data, **settings))
        return any(
            f"no role of this host will start: {data / 'secret'}, the secret of this" in line
            for line in wrong
        )

    assert not told()  # the first start makes it
    data.mkdir()
    (data / JOINED).write_text("0123\n")
    assert told()
    done = reports("check", environ=environment(data))
    assert (done.returncode, done.stdout) == (2, ""), "it is not right"
    assert not told(secret="x" * 40)
    (data / "secret").write_text("")
    assert check(environment(data))[0] == [f"REPORTS_DATA: {data / 'secret'} is empty"]
    (data / "secret").write_text("x" * 40)
    assert not told(), "nobody can be asked whether it is the right one"


def test_what_refuses_every_role_is_told_where_kafka_answers(kafka: str, tmp_path: Path) -> None:
    delete_topics(kafka)
    here = tmp_path / "here"
    assert check(environment(here, kafka=kafka, partitions="2"))[0] == [], "the first start makes it"
    redis = "redis://127.0.0.1:9/0"
    found = identify(Settings(kafka=kafka, redis=redis, partitions=2, data=here))
    right = environment(here, kafka=kafka, partitions="2")
    assert check(right)[0] == []
    kept = {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()}
    other = tmp_path / "other"
    for environ, said in (
        (right | {"REPORTS_SECRET": "x" * 40}, "REPORTS_SECRET is not the secret of installation"),
        (right | {"REPORTS_PARTITIONS": "3"}, "set REPORTS_PARTITIONS=2"),
        (environment(other, kafka=kafka, partitions="2"), "this host has no secret"),
    ):
        (line,) = check(environ)[0]
        assert line.startswith("no role of this host will start: ") and said in line
    assert not other.exists()
    assert {path.name: path.read_bytes() for path in here.iterdir() if path.is_file()} == kept
    (here / "secret").write_text("y" * 40)
    (line,) = check(right)[0]
    assert f"the secret in {here / 'secret'} is not the secret of installation {found.identity.id}" in line
    (here / "secret").unlink()
    (line,) = check(right)[0]
    assert "this host has no secret" in line


def test_an_id_that_is_damaged_stops_every_role_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / ID_FILE
    (tmp_path / "secret").write_text("x" * 40)
    (tmp_path / "secret.new").write_bytes(b"\xff\xfe")
    for make in (lambda: path.write_text("01234"), path.mkdir):
        make()
        (line,) = check(environment(tmp_path))[0]
        assert line.startswith(f"no role of this host will start: {path} is damaged")
        path.unlink() if path.is_file() else path.rmdir()
    path.write_text("0" * 16)
    assert check(environment(tmp_path))[0] == []


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    assert check(environment(tmp_path))[0] == [
        f"{tmp_path / 'run'} is no folder: move it away, it is made again"
    ]


def test_several_wrong_things_are_several_lines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong, _, _ = check(environment(tmp_path / "file", geoip="/not/there.mmdb"))
    assert [line.partition(":")[0] for line in wrong] == ["REPORTS_DATA", "REPORTS_GEOIP"]
    wrong, _, _ = check(environment(tmp_path / "file" / "below"))
    assert [line.partition(":")[0] for line in wrong] == ["REPORTS_DATA"]


def test_every_wrong_part_is_named_once(tmp_path: Path) -> None:
    config = tmp_path / "reports.toml"
    config.write_text(
        """
        [settings]
        partitions = 0
        color = "red"
        """
    )
    wrong, _, _ = check(environment(tmp_path / "var", config=str(config), log_level="loud", kafka="x"))
    assert [line.partition(":")[0] for line in wrong] == [
        "REPORTS_LOG_LEVEL",
        "REPORTS_KAFKA",
        "settings.partitions",
        "settings.color",
    ]
    config.write_text(
        """
        [other]
        [orgs.a]
        timezone = "Mars/Base"
        keys.one = { secret = "env:NOT_THERE", scopes = ["read"] }
        keys.two = { secret = "plain", scopes = ["read"] }
        sources.s = { esp = "mailgnu" }
        [orgs."b c"]
        """
    )
    wrong, _, _ = check(environment(tmp_path / "var", config=str(config)))
    assert [line.partition(":")[0] for line in wrong] == [
        "other",
        "orgs.a.timezone",
        "orgs.a.keys.one.secret",
        "orgs.a.keys.two.secret",
        "orgs.a.sources.s.esp",
        "orgs.b c",
    ]


def test_a_file_is_checked_before_it_is_put_there(tmp_path: Path) -> None:
    """As if it stood there: the same words and status, and what it names is looked for beside the real one."""
    there = tmp_path / "etc"
    there.mkdir()
    (there / "key").write_text("of the dashboard")
    (there / "reports.toml").write_text("[orgs.a]\n")
    environ = environment(tmp_path / "var", config=str(there / "reports.toml"))
    new = tmp_path / "new.toml"
    for text, status, said in (
        ('[orgs.a.keys.k]\nsecret = "file:key"\nscopes = ["read"]\n', 0, f"{new} is right: 1 organisation"),
        (
            '[orgs.a.keys.k]\nsecret = "file:other"\nscopes = ["read"]\n',
            2,
            f"the file {there / 'other'} is not there",
        ),
        ("[settings]\npartitions = 0\n[orgs.a]\ncolour = 1\n", 2, "settings.partitions"),
        ("[orgs", 2, f"wrong: {new}: is not TOML"),
    ):
        new.write_text(text)
        done = reports("check", str(new), environ=environ)
        assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done
        (there / "reports.toml").write_text(text)
        put = reports("check", environ=environ)
        right = (done.stdout + done.stderr).replace(str(new), str(there / "reports.toml"))
        assert (put.returncode, put.stdout + put.stderr) == (status, right)
    assert "is not there" in reports("check", str(tmp_path / "none.toml"), environ=environ).stderr


def test_warnings_are_not_wrong(tmp_path: Path) -> None:
    config = tmp_path / "reports.toml"
    config.write_text('[orgs.a.sources.s]\nesp = "sendgrid"\ninsecure = true\n')
    wrong, warnings, _ = check(environment(tmp_path / "var", config=str(config)))
    assert wrong == []
    assert [line.partition(":")[0] for line in warnings] == ["orgs.a.keys", "orgs.a.sources.s.insecure"]
    config.write_text("")
    assert [
        line.partition(":")[0] for line in check(environment(tmp_path / "var", config=str(config)))[1]
    ] == ["orgs"]


@pytest.mark.parametrize("command", ["kafka", "redis", "up", "demo"])
def test_a_wrong_configuration_refuses_to_start(tmp_path: Path, command: str) -> None:
    done = reports(command, environ=environment(tmp_path, http="nowhere"))
    assert done.returncode == 2
    assert done.stderr == "reports: REPORTS_HTTP: must be host:port, not 'nowhere'\n"


def test_help_costs_no_import_of_any_command() -> None:
    program = (
        "import sys; from cli.main import run; status = run(['--help']); "
        "heavy = {'faust', 'confluent_kafka', 'starlette', 'rocksdict', 'redis', 'jgo', 'asyncio'} & set(sys.modules); "
        "sys.exit(f'{status} {heavy}' if status or heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_a_command_used_wrongly_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["no-such-command"]) == 2
    assert run(["check", "--no-such-option"]) == 2
    assert "no-such-option" in capsys.readouterr().err


def test_main_is_a_console_script() -> None:
    assert os.access(Path(sys.executable).with_name("reports"), os.X_OK), (
        "the project is not installed: make setup"
    )


@pytest.mark.parametrize(
    "command",
    [
        ["erase", "a@example.com"],
        ["export", "events", "spring"],
        ["renormalize", "--from", "1h"],
        ["up"],
        ["lag"],
    ],
)
@pytest.mark.parametrize(
    "bad", ["[orgs.a.sources.s]\nesp = 'mailgum'\n", "[settings]\ncolour = 'red'\n", "[other]\n"]
)
def test_a_bad_file_is_named_by_every_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    bad: str,
) -> None:
    file = tmp_path / "reports.toml"
    file.write_text(bad)
    for name, value in environment(tmp_path / "var", config=str(file), kafka="127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    if command == ["lag"] and not bad.startswith("[settings]"):
        return  # it needs the settings only
    assert run(command) == 2
    said = capsys.readouterr().err
    assert said.endswith(f" (in {file}: `reports check` lists all that is wrong)\n"), said
