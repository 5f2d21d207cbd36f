"""An ESP is a module, a test, samples and a row of the docs: none without the others."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from app.esps import ESPS
from app.facts import Event
from app.organisations import parse_organisations

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "esps.md").read_text()
SAMPLES = ROOT / "tests" / "app" / "esps" / "samples"
COLUMNS = (
    "ESP",
    "verified by",
    "place",
    "agent",
    "bot flag",
    "position",
    "how long it tries again",
    "set-up",
)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def rows() -> dict[str, list[str]]:
    lines = PAGE.splitlines()
    start = next(number for number, line in enumerate(lines) if cells(line) == list(COLUMNS))
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found[cells(line)[0].strip("`")] = cells(line)
    return found


ROWS = rows()


def test_every_esp_that_the_configuration_knows_has_a_row() -> None:
    assert set(ROWS) == set(ESPS)


@pytest.mark.parametrize("name", sorted(ESPS))
def test_a_row_is_whole_and_says_what_is_peculiar(name: str) -> None:
    row, esp = ROWS[name], ESPS[name]
    assert len(row) == len(COLUMNS)
    assert all(row)
    assert esp.busy.status == 503 or str(esp.busy.status) in row[6]
    assert all(re.search(rf"\b{method}\b", row[7]) for method in esp.probes)
    assert not esp.once or "406" in row[1]
    assert not esp.confirmation or "confirmed" in row[7]


@pytest.mark.parametrize("name", sorted(ESPS))
def test_an_esp_has_a_module_that_names_its_sources(name: str) -> None:
    module = importlib.import_module(f"app.esps.{name}")
    assert module.ESP is ESPS[name]
    words = module.__doc__ or ""
    assert name == "generic" or (
        re.search(r"\bSources?\b", words) and re.search(r"\b20\d\d-\d\d-\d\d\b", words)
    )


@pytest.mark.parametrize("name", sorted(ESPS))
def test_an_esp_has_a_test_and_samples_that_are_read(name: str) -> None:
    assert (ROOT / "tests" / "app" / "esps" / f"test_{name}.py").is_file()
    readme = (SAMPLES / name / "README.md").read_text()
    assert name == "generic" or re.search(r"\b20\d\d-\d\d-\d\d\b", readme)
    samples = [path for path in (SAMPLES / name).iterdir() if path.suffix != ".md"]
    assert samples
    items = [item for path in samples for item in ESPS[name].parse(path.read_bytes(), {})]
    assert any(isinstance(item, Event) for item in items)


def test_no_samples_and_no_tests_of_an_esp_that_is_none() -> None:
    assert {path.name for path in SAMPLES.iterdir() if path.is_dir()} == set(ESPS)


def test_the_page_s_configuration_is_one() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    organisations = parse_organisations(tomllib.loads(block), lambda reference, _: reference.encode(), ESPS)
    source = organisations.find_source("acme", "news")
    assert source is not None
    assert source.esp in ESPS


GUIDE = (ROOT / "docs" / "add-an-esp.md").read_text()


def test_the_guide_shows_the_real_code() -> None:
    module = (ROOT / "app" / "esps" / "mailtrap.py").read_text()
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) == 3
    assert [block for block in blocks if block not in module] == []


def test_the_guide_names_files_that_exist() -> None:
    named = re.findall(r"`((?:app|tests)/[\w./]+)`", GUIDE)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
