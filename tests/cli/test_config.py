from __future__ import annotations

import base64
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from app.errors import ConfigError
from app.organisations import Organisations
from app.settings import Settings
from cli.config import ensure_data_folder, load_settings, stored_secret
from cli.config import load_configuration as load
from cli.keys import Missing
from tests.support.processes import CONFIG, ROOT, environment


def write(folder: Path, text: str) -> dict[str, str]:
    """An environment with this reports.toml."""
    (folder / "reports.toml").write_text(text)
    return environment(folder / "var", config=str(folder / "reports.toml"))


def make(environ: dict[str, str]) -> tuple[Settings, Organisations]:
    """As a role of the host that made the installation."""
    return load(environ, missing=Missing.MAKE)


KEY = '[orgs.a.keys.k]\nscopes = ["read"]\nsecret = "{}"\n'


def test_the_example_works_as_it_is(tmp_path: Path) -> None:
    settings, organisations = make(environment(tmp_path))
    acme = organisations.by_id["acme"]
    assert {key.name: key.scopes for key in acme.keys} == {
        "dashboard": {"read", "write", "ops"},
        "loader": {"read", "write", "ops"},
    }
    assert {name: source.esp for name, source in acme.sources.items()} == {
        "news": "sendgrid",
        "receipts": "mailgun",
        "offers": "brevo",
        "product": "resend",
        "app": "generic",
    }
    assert (settings.data, settings.secret) == (tmp_path, b"")
    assert make(environment(tmp_path)) == (settings, organisations)
    assert load(environment(tmp_path), missing=Missing.REFUSE) == (settings, organisations)
    assert load(environment(tmp_path), missing=Missing.LEAVE_OUT) == (settings, organisations)
    for path in (tmp_path / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [
        "dashboard",
        "loader",
        "news.key",
        "news.pub",
        "offers.basic",
        "product",
        "receipts",
    ]


def test_the_made_key_pair_belongs_together(tmp_path: Path) -> None:
    _, organisations = make(environment(tmp_path))
    source = organisations.find_source("acme", "news")
    assert source is not None
    public = serialization.load_der_public_key(base64.b64decode(source.secrets[0], validate=True))
    private = serialization.load_pem_private_key((tmp_path / "keys" / "news.key").read_bytes(), None)
    assert private.public_key() == public


def test_an_own_public_key_is_kept(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    _, made = make(environment(tmp_path / "other"))
    other = made.find_source("acme", "news")
    assert other is not None
    (tmp_path / "keys" / "news.pub").write_bytes(other.secrets[0] + b"\n")
    _, organisations = make(environment(tmp_path))
    source = organisations.find_source("acme", "news")
    assert source is not None
    assert source.secrets == other.secrets
    assert not (tmp_path / "keys" / "news.key").exists()


def test_a_key_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "news.pub").write_text("mine\n")
    with pytest.raises(ConfigError, match=r"orgs\.acme\.sources\.news\.secrets"):
        make(environment(tmp_path))


def test_roles_that_start_together_agree(tmp_path: Path) -> None:
    program = (
        "from cli.config import Missing, load_configuration as load; _, o = load(missing=Missing.MAKE); "
        "print(*(k.secret.hex() for k in o.by_id['acme'].keys), o.find_source('acme', 'news').secrets)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, env=environment(tmp_path), stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    said = {process.communicate(timeout=30)[0] for process in started}
    assert len(said) == 1
    assert b"sendgrid" not in said.pop()
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_without_make_nothing_is_written(tmp_path: Path) -> None:
    load(environment(tmp_path / "var"))
    with pytest.raises(ConfigError, match="copy them from a host that has them") as told:
        load(environment(tmp_path / "var"), missing=Missing.REFUSE)
    for name in ("dashboard", "loader", "news.pub", "offers.basic", "product", "receipts"):
        assert f"{tmp_path}/var/keys/{name}" in str(told.value)
    assert load(environment(tmp_path / "var"), missing=Missing.LEAVE_OUT)[1].lacks_keys()
    load_settings(environment(tmp_path / "var"))
    assert list(tmp_path.iterdir()) == []


def test_env_and_file_references(tmp_path: Path) -> None:
    environ = write(tmp_path, KEY.format("env:THE_KEY")) | {"THE_KEY": " from-environment\n"}
    assert make(environ)[1].by_id["a"].keys[0].secret == b"from-environment"
    (tmp_path / "the.key").write_bytes(b"from-file\n")
    for reference in ("file:the.key", f"file:{tmp_path}/the.key"):
        assert make(write(tmp_path, KEY.format(reference)))[1].by_id["a"].keys[0].secret == b"from-file"


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        ("env:NOT_THERE", "the environment's NOT_THERE is not set"),
        ("file:not-there", "is not there"),
        ("file:{data}/not-there", "is not there"),
        ("file:{data}/keys/../not-there", "is not there"),
        ("file:.", "can't be read"),
        ("file:empty", "is empty"),
    ],
)
def test_a_missing_secret_names_its_place(tmp_path: Path, reference: str, what: str) -> None:
    (tmp_path / "empty").write_text("\n")
    environ = write(tmp_path, KEY.replace("{}", reference))
    with pytest.raises(ConfigError, match=what) as caught:
        make(environ)
    assert caught.value.setting == "orgs.a.keys.k.secret"
    assert not (tmp_path / "var" / "not-there").exists()


def test_the_set_secret_goes_before_the_file_and_none_is_made(tmp_path: Path) -> None:
    settings = load_settings(environment(tmp_path, secret="a-secret-of-some-length"))
    (tmp_path / "secret").write_text("another secret of that host\n")
    assert stored_secret(settings) == b"a-secret-of-some-length"
    settings = load_settings(environment(tmp_path))
    assert stored_secret(settings) == b"another secret of that host"
    (tmp_path / "secret").write_text("\n")
    with pytest.raises(ConfigError, match=r"REPORTS_DATA: .*secret is empty"):
        stored_secret(settings)
    (tmp_path / "secret").unlink()
    assert stored_secret(settings) == b""


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("[settings]\npartitions = 0\n", "settings.partitions"),
        ("settings = 1\n", "settings"),
        ("[org.a]\n", "org"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(write(tmp_path, text))
    assert caught.value.setting == setting


def test_a_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not TOML"):
        make(write(tmp_path, "[orgs\n"))
    (tmp_path / "reports.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"REPORTS_CONFIG: .* can't be read"):
        make(environment(tmp_path, config=str(tmp_path / "reports.toml")))
    with pytest.raises(ConfigError, match=r"REPORTS_CONFIG: .* is not there"):
        make(environment(tmp_path, config=str(tmp_path / "other.toml")))


def test_a_data_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"REPORTS_DATA: .* can't be written to"):
        ensure_data_folder(load_settings(environment(tmp_path / "file" / "var")).data)


def test_the_example_is_the_one_at_the_root() -> None:
    assert CONFIG.is_file()


def test_keys_of_each_kind_are_made(tmp_path: Path) -> None:
    settings, organisations = make(
        environment(tmp_path, config=str(CONFIG.parent / "examples" / "all-esps.toml"))
    )
    sources = organisations.by_id["acme"].sources
    user, _, password = sources["brevo"].basic[0].partition(b":")
    assert user == b"webhook" and len(password) == 48
    assert len(bytes.fromhex(sources["mailgun"].secrets[0].decode())) == 24
    pem = (settings.data / "keys" / "postal.rsa.key").read_bytes()
    assert isinstance(serialization.load_pem_private_key(pem, None), rsa.RSAPrivateKey)
