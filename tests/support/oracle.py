"""Lines of a ledger out of a small world, and what the engine makes of the same facts: for tests of the verifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import strategies as st

from app import facts as f
from app.contribution import METRICS, NOTHING, contribution
from app.facts import Detail, Entry, Fact, Identity, RecipientKey
from app.keys import text_id
from app.networks import networks_of
from app.state import STATE_VERSION, RecipientState
from app.user_agents import agent_id
from cli.traffic.ledger import FactLine
from cli.verifier.stored import Sums
from tables.book import Book
from tables.link_ends import NO_ENDS, Ends
from tables.section_merge import merge_parts, unpack_part
from tables.section_parts import PUBLISHED, pack_part, section_part
from tables.sums import Sums as Differences
from tables.views import Labels, View

CAMPAIGN = ("acme", "spring")
START_MS = 1_774_700_000_000  # a day before Europe's clocks go forward

LINKS = (
    None,
    "https://example.com/a",
    "https://example.com/b",
    "https://example.com/c",
    "https://example.com/d",
)
ADDRESSES = (None, "192.0.2.1", "192.0.2.77", "198.51.100.3", "2001:db8::1", "2001:db8:0:5::1")
AGENTS = (
    None,
    ("a", None, None, None, None),
    ("b", "Outlook", "desktop", "Windows", None),
    ("c", None, "mobile", "Android", "Chrome Mobile"),
    ("d", "Gmail", None, None, None),
    ("e", "unknown", "other", None, None),
)
PLACES = ((None, None), (None, None), ("DE", "Berlin"), ("DE", None), ("FR", "Paris"), ("other", "unknown"))
VARIANTS = (None, {"subject": "A"}, {"subject": "B", "content": "1"})
REASONS = (None, "mailbox full", "no such user", "not provided by the ESP")
PROVIDERS = ("Gmail", "other domains", "other")
SIGNS = (
    0, 0, 0, 0, f.MACHINE, f.AGENT_PROXY, f.AGENT_SCANNER, f.NETWORK_PROXY, f.NETWORK_SCANNER, f.HIDDEN_LINK,
    f.MACHINE | f.AGENT_PROXY, f.NETWORK_SCANNER | f.AGENT_PROXY,
)  # fmt: skip

_networks = networks_of((), ())


def verdict_of(kind: str, signs: int) -> str | None:
    """By what the fact shows of itself, as the table in docs/report.md has it."""
    scanner = signs & (f.AGENT_SCANNER | f.NETWORK_SCANNER | f.HIDDEN_LINK)
    if kind == "unsubscribed":
        return "scanner" if scanner else None
    if kind not in ("opened", "clicked"):
        return None
    if scanner:
        return "scanner"
    if signs & (f.AGENT_PROXY | f.NETWORK_PROXY):
        return "proxy"
    if signs & f.MACHINE:
        return "proxy" if kind == "opened" else "scanner"
    return "human"


@st.composite
def signed_lines(draw: st.DrawFn, recipient: str = "r1@example.com") -> tuple[FactLine, int]:
    """A line, and the signs that the engine sees in its fact. Acts are likely, near to each other or hours apart."""
    kind = draw(st.one_of(st.sampled_from(f.TYPE_NAMES), st.sampled_from(("clicked", "opened", "delivered"))))
    engaged = kind in ("opened", "clicked", "unsubscribed")
    signs = draw(st.sampled_from(SIGNS)) if engaged else 0
    if kind == "opened":
        signs &= ~f.HIDDEN_LINK
    at = START_MS + draw(st.one_of(st.integers(0, 30).map(lambda n: n * 250), st.integers(0, 60).map(_far)))
    agent = draw(st.sampled_from(AGENTS)) if engaged else None
    words = agent[1:] if agent else (None, None, None, None)
    country, city = draw(st.sampled_from(PLACES)) if engaged else (None, None)
    line = FactLine(
        request=1, id="", org=CAMPAIGN[0], esp="generic", campaign=CAMPAIGN[1], type=kind, recipient=recipient, at=at,
        reported="", link=draw(st.sampled_from(LINKS)) if kind == "clicked" else None,
        position=draw(st.sampled_from((None, 1, 2))) if kind == "clicked" else None,
        ip=draw(st.sampled_from(ADDRESSES)) if engaged else None, user_agent=agent[0] if agent else None,
        client=words[0], device=words[1], system=words[2], browser=words[3], country=country, city=city,
        provider=draw(st.sampled_from(PROVIDERS)), variant=draw(st.sampled_from(VARIANTS)),
        verdict=verdict_of(kind, signs), machine=bool(signs & f.MACHINE), hidden=bool(signs & f.HIDDEN_LINK),
        bounce=draw(st.sampled_from(("hard", "soft", None))) if kind == "bounced" else None,
        reason=draw(st.sampled_from(REASONS)) if kind in ("bounced", "deferred", "rejected") else None,
    )  # fmt: skip
    return line, signs


def _far(number: int) -> int:
    return number * 20 * 60_000


@st.composite
def campaigns(draw: st.DrawFn) -> list[list[tuple[FactLine, int]]]:
    """Of each recipient the lines with their signs."""
    count = draw(st.integers(1, 5))
    return [
        draw(st.lists(signed_lines(f"r{number}@example.com"), min_size=1, max_size=9))
        for number in range(count)
    ]


def entry_of(line: FactLine, signs: int, number: int) -> Entry:
    """`number`: facts of one time stand in its order."""
    evidence = signs | (f.SOFT_BOUNCE if line.bounce == "soft" else 0)
    agent = (line.client, line.device, line.system, line.browser)
    variant = dict(sorted(line.variant.items())) if line.variant else None
    fact = Fact(
        Identity(number.to_bytes(16, "big")), line.at, f.TYPE_NUMBERS[line.type], evidence, 0,
        link=text_id(line.link) if line.link else 0,
        position=line.position or 0,
        place=text_id(f"{line.country}\0{line.city or ''}") if line.country else 0,
        agent=agent_id(*agent) if line.user_agent else 0,
        network=_networks.find(line.ip).text_id if line.ip else 0,
        reason=text_id(line.reason) if line.reason else 0,
        provider=text_id(line.provider) if line.provider else 0,
        variant=text_id("\0".join(f"{k}={v}" for k, v in variant.items())) if variant else 0,
    )  # fmt: skip
    detail = Detail(
        "generic", link=line.link, reason=line.reason, ip=line.ip, user_agent=line.user_agent, client=line.client,
        device=line.device, system=line.system, browser=line.browser, country=line.country, city=line.city,
        provider=line.provider, variant=variant,
    )  # fmt: skip
    return Entry(RecipientKey(bytes(16)), line.recipient, fact, f.encode(detail))


class Engine:
    """What the engine holds of a campaign, over several partitions, without a database."""

    def __init__(self, recipients: Sequence[Sequence[tuple[FactLine, int]]], *, partitions: int = 2) -> None:
        self.sums = Sums(Counter(), [0] * METRICS, {})
        self.books = [Book() for _ in range(partitions)]
        moved = [Differences() for _ in range(partitions)]
        ends: list[dict[int, list[Ends]]] = [{} for _ in range(partitions)]
        for place, lines in enumerate(recipients):
            partition = place % partitions
            book = self.books[partition]
            entries = [entry_of(line, signs, number) for number, (line, signs) in enumerate(lines)]
            for entry in entries:
                book.learn(entry)
            facts = sorted((entry.fact for entry in entries), key=lambda fact: (fact.at_ms, fact.identity))
            adds = contribution(RecipientState(STATE_VERSION, lines[0][0].recipient, facts), book)
            moved[partition].move(NOTHING, adds)
            for link in adds.clicks:
                ends[partition].setdefault(link.link, []).append(
                    Ends(link.first_at_ms, link.last_at_ms, link.people_first_at_ms, link.people_last_at_ms)
                )
            self.sums.patterns[adds.pattern] += 1
            self.sums.as_of_ms = max(self.sums.as_of_ms, adds.last_at_ms)
            for cell in adds.cells:
                self.sums.totals[cell >> 32] += 1
                self.sums.quarters.setdefault(cell & 0xFFFFFFFF, [0] * METRICS)[cell >> 32] += 1
        for book, differences, found in zip(self.books, moved, ends, strict=True):
            book.rows = {key: tally for key, tally in differences.rows.items() if tally}
            book.ends = {link: _widest(several) for link, several in found.items()}

    def view(self, labels: Labels) -> View:
        parts = [
            (partition, section, unpack_part(pack_part(section_part(book, section))))
            for partition, book in enumerate(self.books)
            for section in PUBLISHED
        ]
        return View(
            org=CAMPAIGN[0], campaign=CAMPAIGN[1], epoch="e", version=1, complete=True, as_of_ms=self.sums.as_of_ms,
            patterns=dict(self.sums.patterns), totals=list(self.sums.totals), overflow=[0] * METRICS, labels=labels,
            quarters={quarter: list(counts) for quarter, counts in self.sums.quarters.items()},
            sections=merge_parts(parts), loaded=frozenset(PUBLISHED),
        )  # fmt: skip


def _widest(several: Sequence[Ends]) -> Ends:
    people = [ends for ends in several if ends.people_first_at_ms >= 0]
    return Ends(
        min(ends.first_at_ms for ends in several),
        max(ends.last_at_ms for ends in several),
        min((ends.people_first_at_ms for ends in people), default=NO_ENDS.people_first_at_ms),
        max((ends.people_last_at_ms for ends in people), default=NO_ENDS.people_last_at_ms),
    )
