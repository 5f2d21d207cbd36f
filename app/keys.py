"""The hashes by which everything is found again: campaigns, recipients, identities, partitions.

All are BLAKE2b (RFC 7693). Campaign and recipient keys are keyed with the installation's secret, so that a copied
database doesn't give away addresses to a dictionary and no tenant can choose a name that collides with another's.
The partition of anything is computed here and nowhere else: clients' defaults differ from each other.
"""

from __future__ import annotations

from hashlib import blake2b

from app.facts import CampaignKey, Identity, RecipientKey


def normalise_address(address: str) -> str:
    """The form in which addresses are compared: trimmed and lower-cased."""
    return address.strip().lower()


def campaign_key(secret: bytes, org: str, campaign: str) -> CampaignKey:
    org_bytes = org.encode()
    data = len(org_bytes).to_bytes(2, "big") + org_bytes + campaign.encode("utf-8", "surrogatepass")
    return CampaignKey(blake2b(data, digest_size=8, key=secret[:64], person=b"campaign").digest())


def recipient_key(secret: bytes, campaign: CampaignKey, address: str) -> RecipientKey:
    """`address` as `normalise_address` gives it. The campaign's key stands for organisation and campaign."""
    data = campaign + address.encode("utf-8", "surrogatepass")
    return RecipientKey(blake2b(data, digest_size=16, key=secret[:64], person=b"recipient").digest())


def person_id(secret: bytes, org: str, address: str) -> int:
    """64 bits: the same person in all campaigns of an organisation. `address` as `normalise_address` gives it."""
    org_bytes = org.encode()
    data = len(org_bytes).to_bytes(2, "big") + org_bytes + address.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8, key=secret[:64], person=b"person").digest(), "big")


def text_id(text: str) -> int:
    """64-bit hash of a text; never 0, which stands for "none"."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1


def content_id(encoded: bytes) -> int:
    """64-bit hash of an encoded entry (`Fact.content`)."""
    return int.from_bytes(blake2b(encoded, digest_size=8, person=b"content").digest(), "big")


def identity(recipient: RecipientKey, type_number: int, *parts: str) -> Identity:
    """16 bytes of the recipient, the type and what the ESP's module says makes an event the same event again."""
    data = bytearray(recipient)
    data.append(type_number)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        data += len(encoded).to_bytes(4, "big")
        data += encoded
    return Identity(blake2b(data, digest_size=16, person=b"identity").digest())


def recipient_partition(recipient: RecipientKey, partitions: int) -> int:
    """The partition of topic `facts` that a recipient lives in."""
    return int.from_bytes(recipient[:8], "big") % partitions


def campaign_partition(campaign: CampaignKey, partitions: int) -> int:
    """The partition of topic `facts` that a campaign's own record lives in."""
    return int.from_bytes(campaign, "big") % partitions


def secret_fingerprint(secret: bytes) -> str:
    """Tells installations' secrets apart without giving them away; stored with the state."""
    return blake2b(b"", digest_size=8, key=secret[:64], person=b"fingerprint").hexdigest()
