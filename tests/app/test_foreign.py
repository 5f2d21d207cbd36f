"""What another secret has keyed is told from ours, and keyed anew only where reading it again would give the same."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import facts as f
from app.esps import ESPS
from app.facts import Detail, Entry, FactsRecord
from app.foreign import keyed_anew, split
from app.keys import campaign_key, identity, recipient_key, secret_fingerprint
from app.normalize import Normalized
from tests.support.facts import KEY, ORG, SECRET, START_MS, entry
from tests.support.foreign import FOREIGN, foreign
from tests.support.samples import RECEIVED_MS, all_samples, normalized

OURS, THEIRS = secret_fingerprint(SECRET), secret_fingerprint(FOREIGN)
LATER_MS = RECEIVED_MS + 1_000 * 86_400_000
"""Behind the times of all samples: no clock is set right."""
ADDRESSES = ("a@example.com", "B@Example.com", " c@example.com ", "")


def parts(line: list[Entry], fingerprint: str) -> tuple[list[Entry], list[Entry]]:
    record = FactsRecord(f.FACTS_VERSION, ORG, "spring", START_MS, line, fingerprint)
    return split(record, SECRET, OURS, KEY)


@given(st.lists(st.tuples(st.sampled_from(ADDRESSES), st.booleans()), max_size=6))
def test_a_fingerprint_is_never_overruled_and_without_one_the_key_tells(line: list[tuple[str, bool]]) -> None:
    made = [
        one if ours else foreign(one)
        for n, (address, ours) in enumerate(line)
        for one in [entry(f.OPENED, START_MS, address=address, number=n)]
    ]
    assert parts(made, OURS) == (made, [])
    assert parts(made, THEIRS) == ([], made)
    # Who has no address can't be judged.
    taken = [ours or not address for address, ours in line]
    assert parts(made, "") == (
        [one for one, is_ours in zip(made, taken, strict=True) if is_ours],
        [one for one, is_ours in zip(made, taken, strict=True) if not is_ours],
    )


def test_addresses_are_judged_as_the_first_version_normalised_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another way of normalising later must not make all that was counted before foreign."""
    made = [entry(f.OPENED, START_MS, address="Ann@Example.com")]
    for module in ("app.keys", "app.foreign"):
        monkeypatch.setattr(f"{module}.normalise_address", lambda address: f"<{address}>")
    assert parts(made, "") == (made, [])


def by_place(made: Normalized) -> list[tuple[str, Entry]]:
    """(campaign, entry) of all records, in an order that doesn't hang on the secret."""
    entries = [(record.campaign, one) for _, record in made.records for one in record.entries]
    return sorted(
        entries, key=lambda two: (two[1].address, two[1].fact.at_ms, two[1].fact.type, two[1].fact.content)
    )


@pytest.mark.parametrize("esp", sorted(ESPS))
def test_what_is_keyed_anew_is_what_reading_again_gives(esp: str) -> None:
    """Of every sample of every ESP, by a source that strips nothing of links."""
    proved = 0
    for body in all_samples(esp):
        theirs, ours = (
            by_place(normalized(esp, body, LATER_MS, secret=secret)) for secret in (FOREIGN, SECRET)
        )
        for (campaign, foreign_one), (_, wanted) in zip(theirs, ours, strict=True):
            assert foreign_one.fact.identity != wanted.fact.identity
            assert keyed_anew(SECRET, campaign_key(SECRET, "acme", campaign), foreign_one) == wanted
            proved += 1
    assert proved


def test_what_the_log_does_not_prove_is_not_keyed_anew() -> None:
    """A clock that was set right, and a link with a parameter that was stripped."""
    theirs = recipient_key(FOREIGN, campaign_key(FOREIGN, ORG, "spring"), "a@example.com")
    detail = f.encode(Detail("sendgrid", link="https://example.com/"))

    def made(*identified_by: str) -> Entry:
        fact = msgspec.structs.replace(
            entry(f.CLICKED, RECEIVED_MS).fact, identity=identity(theirs, f.CLICKED, *identified_by)
        )
        return Entry(theirs, "a@example.com", fact, detail)

    ahead = str(RECEIVED_MS + 86_400_000)
    assert keyed_anew(SECRET, KEY, made(ahead, "https://example.com/", "", "")) is None
    assert keyed_anew(SECRET, KEY, made(str(RECEIVED_MS), "https://example.com/?rid=1", "", "")) is None
    proved = keyed_anew(SECRET, KEY, made(str(RECEIVED_MS), "https://example.com/", "", ""))
    assert proved is not None and proved.recipient == recipient_key(SECRET, KEY, "a@example.com")
    assert keyed_anew(SECRET, KEY, msgspec.structs.replace(made("1"), address="")) is None
    assert keyed_anew(SECRET, KEY, msgspec.structs.replace(made("1"), detail=b"\xc1")) is None
