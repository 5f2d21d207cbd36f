"""Operators are told of campaigns whose links look personal, and which parameters to strip."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import personal_links as telling
from agents.personal_links import AGAIN_S, CODE, FORGOTTEN_S, PersonalLinks
from app import facts as f
from app import keys, personal_links
from app.facts import Detail, Entry, Fact, encode
from tables.conditions import Conditions
from tables.partition import PartitionDatabase
from tests.support.facts import KEY, SECRET, START_MS
from tests.tables.test_partition import database, record

RECIPIENTS = 60


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal_links, "MANY", RECIPIENTS)


class Worker:
    def __init__(self, folder: Path) -> None:
        self.now = 1.0
        self.conditions = Conditions()
        self.links = PersonalLinks(self.conditions, lambda: self.now)
        self.base: PartitionDatabase = database(folder)

    def click(self, link: str, *, who: str = "r") -> None:
        """Each recipient once; `{}` in the link stands for them."""
        line = []
        for number in range(RECIPIENTS):
            address = f"{who}{number}@example.com"
            recipient = keys.recipient_key(SECRET, KEY, address)
            own = link.format(number)
            identity = keys.identity(recipient, f.CLICKED, own)
            fact = Fact(identity, START_MS + number, f.CLICKED, 0, 1, link=keys.text_id(own))
            line.append(Entry(recipient, address, fact, encode(Detail("generic", link=own))))
        self.base.apply([(self.base.next_offset, record("spring", line))])
        self.links.look(self.base, KEY, "acme", "spring")

    def said(self) -> str | None:
        return next((one.message for one in self.conditions.current() if one.code == CODE), None)


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


def test_the_parameter_to_strip_is_named(worker: Worker) -> None:
    worker.click("https://example.com/?page=1&u={}")
    said = worker.said()
    assert said is not None
    assert (
        'acme/spring: for later mailings add "u" to strip_query of the source that its events come from'
        in said
    )
    assert "[orgs.acme.sources.NAME]" in said and 'esp = "generic": where there is none, add it' in said
    assert all(one.reason is None for one in worker.conditions.current())  # reports are right


def test_an_import_that_ends_soon_after_the_first_look(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_SAMPLE", RECIPIENTS // 2)
    monkeypatch.setattr(personal_links, "MANY", RECIPIENTS * 5 // 2)
    for page in ("first", "second"):
        worker.click(f"https://example.com/{page}?u={{}}")
        assert worker.said() is None
        worker.now += 1
    worker.click("https://example.com/third?u={}")
    assert worker.said() is not None


def test_links_without_a_parameter_that_differs(worker: Worker) -> None:
    worker.click("https://example.com/{}")
    assert "in no query parameter" in (worker.said() or "")


def test_links_that_many_click_are_nothing_to_tell(worker: Worker) -> None:
    for page in range(2):
        worker.click(f"https://example.com/{page}")
    assert worker.said() is None


def test_it_is_over_when_others_click_the_same_links(worker: Worker) -> None:
    worker.click("https://example.com/?u={}")
    assert worker.said() is not None
    for others in ("forwarded", "again"):
        worker.now += AGAIN_S + 1
        worker.click("https://example.com/?u={}", who=others)
    assert worker.said() is None


def test_it_is_over_when_the_partition_is_given_away_or_nothing_is_counted(worker: Worker) -> None:
    worker.click("https://example.com/?u={}")
    worker.links.forget(1)
    assert worker.said() is not None
    worker.links.forget(0)
    assert worker.said() is None
    worker.click("https://example.com/other?u={}")
    assert worker.said() is not None
    worker.now += FORGOTTEN_S + 1
    worker.links.forget(1)
    assert worker.said() is None


def test_a_restart_and_another_worker_go_on_telling_it(worker: Worker, tmp_path: Path) -> None:
    """It came with the next click only, and went with each restart."""
    worker.click("https://example.com/?u={}")
    said = worker.said()
    worker.base.close()
    again = Worker(tmp_path)
    again.links.take(again.base)
    assert again.said() == said is not None
    # What is over is over for whoever comes next.
    for others in ("forwarded", "again"):
        again.now += AGAIN_S + 1
        again.click("https://example.com/?u={}", who=others)
    assert again.said() is None
    again.base.close()
    third = Worker(tmp_path)
    third.links.take(third.base)
    assert third.said() is None
    third.click("https://example.com/another?u={}", who="new")
    third.click("https://example.com/one-more?u={}", who="newest")
    third.click("https://example.com/and-more?u={}", who="last")
    third.base.close()
    later = Worker(tmp_path)
    later.now += FORGOTTEN_S + 1
    later.links.take(later.base)
    assert later.said() is None
    assert later.base.personal_links() == {}


def test_one_partition_tells_of_a_campaign(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker said the same of its own partitions."""
    monkeypatch.setattr(telling, "campaign_partition", lambda key, partitions: 1)
    worker.click("https://example.com/?u={}")
    assert worker.said() is None
    assert worker.base.personal_links() == {}


def test_many_campaigns_are_one_word(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "_NAMED", 1)
    worker.click("https://example.com/?u={}")
    monkeypatch.setattr(worker.base.aggregates, "book", lambda _, book=worker.base.aggregates.book: book(KEY))
    worker.links.look(worker.base, keys.campaign_key(SECRET, "acme", "other"), "acme", "other")
    assert "; and 1 more. " in (worker.said() or "")
