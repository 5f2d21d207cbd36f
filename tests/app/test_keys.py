"""Keys: the same for what is the same, different for what differs, and never without the secret."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app import keys
from app.facts import CampaignKey, RecipientKey

names = st.text(max_size=20)


@given(names, names, names, names)
def test_campaigns_of_different_names_have_different_keys(
    org: str, campaign: str, org2: str, campaign2: str
) -> None:
    same = (org, campaign) == (org2, campaign2)
    assert (keys.campaign_key(b"s", org, campaign) == keys.campaign_key(b"s", org2, campaign2)) == same


def test_a_boundary_cannot_be_moved() -> None:
    assert keys.campaign_key(b"s", "ab", "c") != keys.campaign_key(b"s", "a", "bc")
    recipient = keys.recipient_key(b"s", CampaignKey(bytes(8)), "a@example.com")
    assert keys.identity(recipient, 1, "ab", "c") != keys.identity(recipient, 1, "a", "bc")
    assert keys.identity(recipient, 1, "a") != keys.identity(recipient, 1, "a", "")


def test_another_secret_gives_other_keys() -> None:
    campaign = keys.campaign_key(b"one", "acme", "spring")
    assert campaign != keys.campaign_key(b"two", "acme", "spring")
    assert keys.recipient_key(b"one", campaign, "a@b.example") != keys.recipient_key(
        b"two", campaign, "a@b.example"
    )
    assert keys.secret_fingerprint(b"one") != keys.secret_fingerprint(b"two")


def test_keys_stay_what_they_are() -> None:
    """They are on disk and in the log: another value would lose every recipient."""
    campaign = keys.campaign_key(b"secret", "acme", "spring")
    recipient = keys.recipient_key(b"secret", campaign, "a@example.com")
    assert campaign.hex() == "986cab304cf436fe"
    assert recipient.hex() == "179c3c8aa2b002da6b1ffd462c374c70"
    assert keys.identity(recipient, 7, "x").hex() == "9b5255b529aee22a86d3bf492f169461"
    assert keys.text_id("https://example.com/a") == 17458940539696571812
    assert keys.recipient_partition(recipient, 8) == 2
    assert keys.campaign_partition(campaign, 8) == 6


@given(st.binary(min_size=16, max_size=16), st.integers(1, 64))
def test_a_partition_is_one_of_them(recipient: bytes, partitions: int) -> None:
    assert 0 <= keys.recipient_partition(RecipientKey(recipient), partitions) < partitions


@given(st.text(max_size=40))
def test_a_text_never_has_the_id_of_no_text(text: str) -> None:
    assert 0 < keys.text_id(text) < 2**64


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(address: str) -> None:
    once = keys.normalise_address(address)
    assert keys.normalise_address(once) == once or once != once.lower()
