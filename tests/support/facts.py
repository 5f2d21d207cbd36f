"""Makes entries of the log for tests: small worlds in which copies, ties and disorder are likely."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from app import facts as f
from app import keys
from app.facts import Detail, Entry, Fact
from app.user_agents import agent_id
from tables.book import Book

SECRET = b"secret of the tests"
ORG = "acme"
CAMPAIGN = "spring"
KEY = keys.campaign_key(SECRET, ORG, CAMPAIGN)
START_MS = 1_790_000_000_000


LINKS = ("https://example.com/a", "https://example.com/b", "https://example.com/c")
PLACES = (("DE", "Berlin"), ("DE", None), ("FR", "Paris"))
AGENTS = (
    ("Gmail", None, None, None),
    (None, "mobile", "iOS", "Mobile Safari"),
    ("Outlook", "desktop", "Windows", None),
)
REASONS = ("mailbox full", "no such user")
PROVIDERS = ("Gmail", "other domains")
VARIANTS = ({"subject": "A"}, {"subject": "B", "content": "1"})


def detail_of(
    *, link: int = 0, place: int = 0, agent: int = 0, reason: int = 0, provider: int = 0, variant: int = 0
) -> tuple[Detail, dict[str, int]]:
    """Places in the tables above, from 1, 0 for none → a detail, and the numbers of its fact."""
    url = LINKS[link - 1] if link else None
    country, city = PLACES[place - 1] if place else (None, None)
    client, device, system, browser = AGENTS[agent - 1] if agent else (None, None, None, None)
    why = REASONS[reason - 1] if reason else None
    who = PROVIDERS[provider - 1] if provider else None
    fields = VARIANTS[variant - 1] if variant else None
    numbers = {
        "link": keys.text_id(url) if url else 0,
        "place": keys.text_id(f"{country}\0{city or ''}") if country else 0,
        "agent": agent_id(client, device, system, browser) if agent else 0,
        "reason": keys.text_id(why) if why else 0,
        "provider": keys.text_id(who) if who else 0,
        "variant": keys.text_id("\0".join(f"{k}={v}" for k, v in fields.items())) if fields else 0,
    }
    detail = Detail(
        "generic", link=url, reason=why, client=client, device=device, system=system, browser=browser,
        country=country, city=city, provider=who, variant=fields,
    )  # fmt: skip
    return detail, numbers


def entry(
    kind: int,
    at_ms: int,
    *,
    address: str = "a@example.com",
    evidence: int = 0,
    number: int = 0,
    content: int = 1,
    campaign: str = CAMPAIGN,
    detail: bytes = b"\x90",
    **fields: int,
) -> Entry:
    """`number` tells facts apart that are otherwise equal; `content` tells copies of one fact apart."""
    recipient = keys.recipient_key(
        SECRET, keys.campaign_key(SECRET, ORG, campaign), keys.normalise_address(address)
    )
    # The identity of a fact that is untimed has no time in it, of a clamped one the reported time: its copies move.
    parts = (str(number),) if evidence & (f.UNTIMED | f.CLAMPED) else (str(number), str(at_ms))
    identity = keys.identity(recipient, kind, *parts)
    return Entry(recipient, address, Fact(identity, at_ms, kind, evidence, content, **fields), detail)


_CLASSES: tuple[tuple[int, ...], ...] = ((), (), (), (), (f.MACHINE,), (f.SOFT_BOUNCE,), (f.EXCLUDED,))
_TEXTS = ("link", "place", "agent", "reason", "provider", "variant")


def entries(
    *,
    addresses: tuple[str, ...] = ("a@example.com",),
    campaigns: tuple[str, ...] = (CAMPAIGN,),
    steady: bool = False,
    few: bool = False,
) -> st.SearchStrategy[tuple[str, Entry]]:
    """(campaign, entry) of a small world. `steady`: copies of a fact agree in time, evidence and reading; `few`: many
    facts of few types and classes, most of them with copies that don't."""
    bits = [f.MACHINE, f.AGENT_PROXY, f.AGENT_SCANNER, f.SOFT_BOUNCE, f.EXCLUDED, f.HIDDEN_LINK]
    if not steady:
        bits += [f.UNTIMED, f.CLAMPED]

    def build(
        kind: int,
        step: int,
        address: str,
        evidence: set[int],
        number: int,
        content: int,
        campaign: str,
        texts: tuple[int, int, int, int, int, int],
        reading: int,
    ) -> tuple[str, Entry]:
        if steady:
            evidence = {bit for place, bit in enumerate(bits) if (kind + 3 * step + 7 * number) % 11 == place}
        if few and number:
            evidence = evidence | {f.UNTIMED}
        detail, numbers = detail_of(**dict(zip(_TEXTS, texts, strict=True)))
        spelled = address.upper() if content == 2 else address
        return campaign, entry(
            kind,
            START_MS + step * 400_000,
            address=spelled,
            evidence=sum(evidence),
            number=number,
            # As a hash does: anything else, another content.
            content=keys.content_id(repr((content, sorted(evidence), texts, spelled)).encode()),
            campaign=campaign,
            detail=f.encode(detail),
            reading=reading,
            **numbers,
        )

    return st.builds(
        build,
        st.sampled_from(
            (f.OPENED, f.OPENED, f.CLICKED, f.OPENED, f.BOUNCED) if few else range(len(f.TYPE_NAMES))
        ),
        st.integers(0, 6),
        st.sampled_from(addresses),
        st.sampled_from(_CLASSES).map(set) if few else st.sets(st.sampled_from(bits), max_size=2),
        st.integers(0, 12 if few else 3),
        st.integers(1, 3),
        st.sampled_from(campaigns),
        st.tuples(*(st.integers(0, most) for most in (3, 3, 3, 2, 2, 2))),
        st.integers(0, 0 if steady else 2),
    )


def book_of(line: Iterable[Entry]) -> Book:
    """The names of these entries."""
    book = Book()
    for one in line:
        book.learn(one)
    return book
