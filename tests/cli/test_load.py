"""The traffic: repeatable, realistic where it matters, and said in the ledger as the parsers will understand it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import msgspec
import pytest

from app.errors import ConfigError, RejectRequest
from app.esps import ESPS, sns
from app.esps import generic as generic_esp
from app.esps import sendgrid as sendgrid_esp
from app.esps.esp import CERTIFICATE, NOW
from app.facts import (
    AGENT_PROXY,
    AGENT_SCANNER,
    HIDDEN_LINK,
    TYPE_NAMES,
    Entry,
    Event,
    Poison,
    decode_detail,
)
from app.normalize import normalize
from app.organisations import Organisation, Source
from app.providers import provider_of
from app.source_rules import rules_of
from app.topics import Webhook
from app.user_agents import look_up_agent
from app.verdicts import VERDICT_NAMES, own_verdict
from cli.config import load_configuration
from cli.keys import Missing
from cli.traffic import plans, poison, world
from cli.traffic.client import Address, Connection, post_until_accepted
from cli.traffic.esps import WRITERS
from cli.traffic.esps.writer import Credentials, authorization
from cli.traffic.happening import Happening
from cli.traffic.ledger import AcceptedLine, FactLine, LedgerWriter, Line, PoisonLine
from cli.traffic.requests import Mixture, Request, RequestMaker, Senders, Target, renewed
from cli.traffic.schedule import CampaignPlan, Rhythm, happenings
from cli.traffic.sender import Counts, Refused, Sender
from cli.traffic.targets import access_of
from cli.verifier.ledger import identity_of
from cli.verifier.verdicts import suspected, verdicts_of
from tests.support.processes import ROOT, environment
from tests.support.sns import Signer as SnsSigner

NOW_MS = 1_790_000_000_000
NAMES = ("spring", "flash-sale")
_line: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def is_seed(address: str) -> bool:
    return address.lower().startswith("seed-")


SENDGRID = Target(org="acme", esp="sendgrid", path="/webhooks/acme/news", is_excluded=is_seed)
GENERIC = Target(org="acme", esp="generic", path="/api/v1/events", is_excluded=is_seed)
ALL = [*sorted(ESPS)]


def requests_of(
    facts: int, seed: int, targets: tuple[Target, ...] = (SENDGRID, GENERIC), **mixture: float
) -> list[Request]:
    rng = Random(seed)
    senders = Senders([targets])
    rhythm = Rhythm(until_ms=NOW_MS, seed_share=0.01, tells=senders.tells)
    known = plans.finite(plans.past(NAMES, facts * 3 // 10, NOW_MS), rhythm, rng, facts)
    chosen = msgspec.convert({"batch": 50, "run": "t-", **mixture}, Mixture)
    maker = RequestMaker(senders, chosen, rng)
    made = [request for _, happening in known for request in maker.add(happening)]
    return [*made, *maker.flush()]


def lines_of(request: Request) -> list[Line]:
    return [_line.decode(text) for text in request.lines.splitlines()]


def facts_of(requests: list[Request]) -> list[FactLine]:
    return [line for request in requests for line in lines_of(request) if isinstance(line, FactLine)]


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, again, other = requests_of(800, 7), requests_of(800, 7), requests_of(800, 8)
    assert [request.body for request in first] == [request.body for request in again]
    assert [request.body for request in first] != [request.body for request in other]


def test_as_many_facts_as_asked_for_and_duplicates_on_top() -> None:
    requests = requests_of(2000, 1, duplicate_share=0.1)
    lines = facts_of(requests)
    fresh = [line for line in lines if not line.duplicate]
    assert sum(request.facts for request in requests) == len(fresh) <= 2000
    # What nobody has a word for did not happen; only the end of the time cuts off a few.
    assert len(fresh) == 2000
    assert len(lines) > len(fresh)
    assert {identity_of(line) for line in lines} == {identity_of(line) for line in fresh}


def test_the_traffic_has_every_edge_of_the_definitions() -> None:
    lines = facts_of(requests_of(20_000, 3))
    types = Counter(line.type for line in lines)
    assert types.keys() >= {
        "queued", "sent", "delivered", "deferred", "bounced", "rejected", "opened", "clicked", "complained",
        "unsubscribed",
    }  # fmt: skip
    by_recipient: dict[tuple[str, str], list[FactLine]] = {}
    for line in lines:
        if not line.duplicate:
            by_recipient.setdefault((line.campaign, line.recipient), []).append(line)
    judged = [
        (line.type, line.verdict, verdict)
        for facts in by_recipient.values()
        for line, verdict in zip(facts, verdicts_of(facts), strict=True)
    ]
    kinds = Counter(judged)
    # By themselves, by a burst and too soon; and people beside a scanner.
    assert kinds.keys() >= {
        ("opened", "human", "human"), ("opened", "proxy", "proxy"), ("opened", "human", "proxy"),
        ("opened", "human", "scanner"), ("clicked", "human", "human"), ("clicked", "scanner", "scanner"),
        ("clicked", "human", "scanner"),
    }  # fmt: skip
    clicks = Counter(verdict for kind, _, verdict in judged if kind == "clicked")
    assert 0.15 < clicks["scanner"] / clicks.total() < 0.4
    assert any(suspected(facts) for facts in by_recipient.values())
    late = [facts for facts in by_recipient.values() if facts[0].variant is None and facts[-1].variant]
    assert late, "the word that names the variant never comes last"
    positions: dict[str, set[int]] = {}
    for line in lines:
        if line.link and line.position:
            positions.setdefault(line.link, set()).add(line.position)
    assert max(len(found) for found in positions.values()) == 2
    assert len({line.reason for line in lines if line.type == "bounced"}) > 3
    assert {line.provider for line in lines} > {"Gmail", world.OTHER_DOMAINS}
    assert {line.bounce for line in lines if line.type == "bounced"} == {"hard", "soft"}
    assert any(line.excluded for line in lines)
    assert all(line.at <= NOW_MS for line in lines)
    assert max(line.at for line in lines) - min(line.at for line in lines) > 24 * 3600 * 1000


# Every ESP


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Target, Source]]:
    """ESP → where its traffic goes by the example of all ESPs, and the source there."""
    data = tmp_path_factory.mktemp("data")
    found = load_configuration(
        environment(data, config=str(ROOT / "examples" / "all-esps.toml")), missing=Missing.MAKE
    )
    settings, organisations = found
    (access,) = access_of(settings, organisations, ())
    sources = {source.esp: source for source in organisations.by_id["acme"].sources.values()}
    return {target.esp: (target, sources[target.esp]) for target in access.targets}


def test_the_example_has_a_source_of_each_esp(targets: dict[str, tuple[Target, Source]]) -> None:
    assert set(targets) == set(ESPS) == set(WRITERS)
    assert [name for name, (_, source) in targets.items() if source.insecure] == ["amazon_ses"]


@pytest.mark.parametrize("name", ALL)
def test_the_parser_understands_what_the_ledger_says(
    name: str, targets: dict[str, tuple[Target, Source]]
) -> None:
    target, source = targets[name]
    requests = requests_of(1500, 5, (target,), poison_share=0.1, duplicate_share=0.05)
    assert {line.type for line in facts_of(requests)} <= WRITERS[name].types
    understood: Counter[str] = Counter()
    for request in requests:
        kept, body = WRITERS[name].sign(target.credentials, request.body, NOW_MS // 1000)
        parsed = ESPS[name].parse(body, kept)
        events = [event for event in parsed if isinstance(event, Event)]
        lines = lines_of(request)
        facts = [line for line in lines if isinstance(line, FactLine)]
        links = rules_of(source, ()).link
        assert [_said(event, links) for event in events] == [_meant(line) for line in facts]
        broken = [line for line in lines if isinstance(line, PoisonLine)]
        assert len(broken) == sum(isinstance(event, Poison) for event in parsed)
        assert {line.campaign for line in facts} <= set(NAMES)
        _check_verdicts(target, source, body, kept, facts)
        understood.update(line.type for line in facts)
    assert understood.total() > 1400
    assert understood.keys() >= {"delivered", "opened", "clicked", "bounced"}


def _said(event: Event, link_of: Callable[[str], str]) -> tuple[object, ...]:
    link = link_of(event.link) if event.link else event.link
    return (
        event.type, event.recipient, event.at_ms, event.event_id, link, event.position, event.ip,
        event.user_agent, event.country, event.city, event.bounce, event.reason, bool(event.machine),
    )  # fmt: skip


def _meant(line: FactLine) -> tuple[object, ...]:
    return (
        line.type, line.recipient, line.at, line.event_id, line.link, line.position, line.ip, line.user_agent,
        line.country, line.city, line.bounce, line.reason, line.machine,
    )  # fmt: skip


def _check_verdicts(
    target: Target, source: Source, body: bytes, kept: dict[str, str], facts: list[FactLine]
) -> None:
    """All that numbers are made of comes out as the ledger says it; and so does what is one fact."""
    webhook = Webhook(
        org="acme",
        source=source.name,
        esp=target.esp,
        received_at_ms=NOW_MS + 1,
        headers=tuple(kept.items()),
        body=body,
    )
    organisation = _organisation(source)
    made = normalize(webhook, source, organisation, b"secret", 1, look_up_agent, lambda ip: None)
    found = Counter(_judged(record.campaign, entry) for _, record in made.records for entry in record.entries)
    assert found == Counter(map(_expected, facts))
    entries = [entry for _, record in made.records for entry in record.entries]
    assert len({entry.fact.identity for entry in entries}) == len({identity_of(line) for line in facts})


def _organisation(source: Source) -> Organisation:
    return Organisation(id="acme", name="Acme", timezone="UTC", sources={source.name: source})


def _judged(campaign: str, entry: Entry) -> tuple[object, ...]:
    fact, detail = entry.fact, decode_detail(entry.detail)
    kind = TYPE_NAMES[fact.type]
    verdict = VERDICT_NAMES[own_verdict(fact)] if kind in ("opened", "clicked") else None
    return (
        campaign, entry.address, kind, fact.at_ms, verdict, bool(fact.evidence & HIDDEN_LINK), fact.position,
        detail.client, detail.device, detail.system, detail.browser, detail.country, detail.city, detail.provider,
        str(detail.variant),
    )  # fmt: skip


def _expected(line: FactLine) -> tuple[object, ...]:
    variant = dict(sorted(line.variant.items())) if line.variant else None
    return (
        line.campaign, line.recipient, line.type, line.at, line.verdict, line.hidden, line.position or 0,
        line.client, line.device, line.system, line.browser, line.country, line.city, line.provider, str(variant),
    )  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_our_own_check_accepts_the_signature_and_no_other(
    name: str, targets: dict[str, tuple[Target, Source]]
) -> None:
    target, source = targets[name]
    credentials, certificate = target.credentials, b""
    if name == "amazon_ses":
        signer = SnsSigner()
        credentials, certificate = Credentials(private_key=signer.private_pem()), signer.pem
        source = msgspec.structs.replace(source, insecure=False, topics=(credentials.topic,))
    elif name == "generic":  # reached through the API, with a key of its own
        source = msgspec.structs.replace(source, bearer=(credentials.bearer,))
    now_s = NOW_MS // 1000
    for request in requests_of(300, 6, (target,))[:20]:
        named, body = WRITERS[name].sign(credentials, request.body, now_s)
        named = {**named, **authorization(credentials)}
        headers = {key.lower().encode(): value.encode() for key, value in named.items()}
        headers |= {NOW: b"%d" % now_s, CERTIFICATE: certificate}
        ESPS[name].verify(source, headers, body)
        if name == "amazon_ses":
            assert sns.certificate_url(source, body)
        bad = msgspec.structs.replace(
            source, secrets=(b"other",), basic=(b"a:b",) if source.basic else (), bearer=(b"c",)
        )
        if name == "amazon_ses":
            bad = msgspec.structs.replace(source, topics=("arn:aws:sns:eu-west-1:210987654321:other",))
        with pytest.raises(RejectRequest):
            ESPS[name].verify(bad, headers, body)


@pytest.mark.parametrize("name", ALL)
def test_a_resend_with_new_ids_is_the_same_facts(
    name: str, targets: dict[str, tuple[Target, Source]]
) -> None:
    target, _ = targets[name]
    (happening,) = [each for each in _happenings() if each.type == "clicked"][:1]
    said = WRITERS[name].event(happening, "one")
    line = FactLine(
        request=1, id="one", org="acme", esp=name, campaign="spring", type="clicked", recipient="a@example.com",
        at=said[1].at_ms, reported="",
    )  # fmt: skip
    again, _line_again = renewed((said[0], line), "again")
    assert (again != said[0]) == (WRITERS[name].renew is not None)
    first, second = (
        ESPS[name].parse(WRITERS[name].sign(target.credentials, WRITERS[name].body([event]), 1)[1], {})
        for event in (said[0], again)
    )
    assert [_without_ids(event) for event in first] == [_without_ids(event) for event in second]


def _without_ids(event: Event | Poison) -> object:
    assert isinstance(event, Event)
    return msgspec.structs.replace(event, esp_event_id=None)


def _happenings() -> list[Happening]:
    plan = CampaignPlan(name="spring", start_ms=NOW_MS, gap_ms=100.0, recipients=300)
    return [happening for _, happening in happenings([plan], Rhythm(), Random(4))]


def test_mixed_traffic_of_a_campaign_goes_through_all_sources(
    targets: dict[str, tuple[Target, Source]],
) -> None:
    lines = facts_of(requests_of(8000, 2, tuple(target for target, _ in targets.values())))
    for name in NAMES:
        assert {line.esp for line in lines if line.campaign == name} == set(ESPS)
    by_recipient: dict[str, set[str]] = {}
    for line in lines:
        by_recipient.setdefault(line.recipient, set()).add(line.esp)
    assert all(len(esps) == 1 for esps in by_recipient.values())


def test_links_carry_what_the_source_strips(targets: dict[str, tuple[Target, Source]]) -> None:
    target, _ = targets["mailgun"]
    requests = requests_of(3000, 5, (target,))
    assert any(b"rid=r" in request.body for request in requests)
    assert not any("rid=" in (line.link or "") for line in facts_of(requests))


def test_only_keys_that_were_made_here_are_played_with(tmp_path: Path) -> None:
    toml = tmp_path / "reports.toml"
    toml.write_text(
        '[orgs.acme.keys.loader]\nsecret = "file:{data}/keys/loader"\nscopes = ["read", "write"]\n'
        '[orgs.acme.sources.real]\nesp = "mailgun"\nsecrets = ["env:REAL"]\n'
        '[orgs.acme.sources.half]\nesp = "mailtrap"\nsecrets = ["file:{data}/keys/x", "env:REAL"]\n'
        '[orgs.acme.sources.own]\nesp = "generic"\n'
    )
    environ = environment(tmp_path / "var", config=str(toml)) | {"REAL": "a real one"}
    settings, organisations = load_configuration(environ, missing=Missing.MAKE)
    (access,) = access_of(settings, organisations, ())
    assert [target.esp for target in access.targets] == ["generic"]
    with pytest.raises(ConfigError, match="mailgun"):
        access_of(settings, organisations, (), "mailgun")


def test_campaigns_of_a_ledger_are_its_own() -> None:
    assert plans.names_of(NOW_MS, 1) != plans.names_of(NOW_MS + 1, 1)
    assert plans.names_of(NOW_MS, 1) != plans.names_of(NOW_MS, 2)
    assert all(
        name.startswith(plain)
        for name, plain in zip(plans.names_of(NOW_MS, 3), plans.DEFAULT_CAMPAIGNS, strict=True)
    )


@pytest.mark.parametrize("name", poison.BODIES)
def test_a_broken_body_is_one_dead_letter(name: str) -> None:
    parsed = sendgrid_esp.parse(poison.BODIES[name](b"word"), {})
    assert len(parsed) == 1
    assert isinstance(parsed[0], Poison)


@pytest.mark.parametrize("name", poison.EVENTS["sendgrid"])
def test_a_broken_event_is_one_dead_letter(name: str) -> None:
    good = {"email": "a@example.com", "event": "open", "timestamp": 1_700_000_000}
    parsed = sendgrid_esp.parse(
        msgspec.json.encode([good, poison.EVENTS["sendgrid"][name]("word", "sendgrid"), good]), {}
    )
    assert [isinstance(event, Poison) for event in parsed] == [False, True, False]


@pytest.mark.parametrize("name", poison.EVENTS["generic"])
def test_a_broken_generic_event_is_named_in_the_answer(name: str) -> None:
    checked = generic_esp.check_events(
        msgspec.json.encode({"events": [poison.EVENTS["generic"][name]("word", "generic")]})
    )
    assert checked.accepted == 0
    assert [refused.index for refused in checked.refused] == [0]


def test_happenings_are_given_as_they_become_known_and_some_late() -> None:
    plan = CampaignPlan(name="spring", start_ms=NOW_MS, gap_ms=100.0, recipients=2000)
    known = list(happenings([plan], Rhythm(), Random(4)))
    times = [known_ms for known_ms, _ in known]
    assert times == sorted(times)
    assert any(known_ms > happening.at_ms for known_ms, happening in known)
    assert [happening.at_ms for _, happening in known] != sorted(happening.at_ms for _, happening in known)


def test_endless_traffic_holds_back_only_what_has_not_happened() -> None:
    plan = CampaignPlan(name="spring", start_ms=NOW_MS, gap_ms=50.0, recipients=None, scale=plans.LIVE_SCALE)
    stream = happenings([plan], Rhythm(), Random(5))
    assert len({happening.mail.number for _, happening in (next(stream) for _ in range(5000))}) > 1000


class FlakyServer:
    """Answers with the statuses given, then 200; `None` closes the connection instead."""

    def __init__(self, statuses: list[int | None], ledger: Path | None = None) -> None:
        self.statuses = statuses
        self.bodies: list[bytes] = []
        self.in_ledger: list[bool] = []
        self._ledger = ledger

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                if self._ledger is not None:
                    self.in_ledger.append(b'"line":"fact"' in self._ledger.read_bytes())
                status = self.statuses.pop(0) if self.statuses else 200
                if status is None:
                    return
                self.bodies.append(body)
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\nok" % status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def start(self) -> tuple[asyncio.Server, Address]:
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        return server, Address("127.0.0.1", server.sockets[0].getsockname()[1], False)


async def test_a_request_is_repeated_until_it_is_accepted() -> None:
    flaky = FlakyServer([503, None, 429, 500])
    server, address = await flaky.start()
    async with server:
        connection = Connection(address)
        answer = await post_until_accepted(connection, "/x", {}, b"body")
        connection.close()
    assert (answer.status, answer.body, answer.tries) == (200, b"ok", 5)
    assert flaky.bodies == [b"body"] * 4


async def test_the_ledger_has_a_fact_before_it_is_sent_and_its_acceptance_after(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    flaky = FlakyServer([503], path)
    server, address = await flaky.start()
    wanted = [request for request in requests_of(300, 9) if request.target is SENDGRID][:3]
    seen: list[int] = []
    async with server:
        with LedgerWriter(path) as ledger:
            sender = Sender(address, ledger, connections=2, on_change=lambda c: seen.append(c.facts))
            await sender.run(_stream(wanted))
    assert all(flaky.in_ledger)
    lines = [_line.decode(text) for text in path.read_bytes().splitlines()]
    accepted = [line for line in lines if isinstance(line, AcceptedLine)]
    assert {line.request for line in accepted} == {request.number for request in wanted}
    assert sum(line.tries for line in accepted) == len(wanted) + 1
    assert seen[-1] == sum(request.facts for request in wanted)
    assert sender.counts == Counts(
        facts=seen[-1],
        events=sum(request.events for request in wanted),
        requests=len(wanted),
        repeats=1,
    )


async def test_an_answer_that_is_final_ends_the_run(tmp_path: Path) -> None:
    flaky = FlakyServer([401] * 50)
    server, address = await flaky.start()
    wanted = [request for request in requests_of(300, 9) if request.target is SENDGRID]
    async with server:
        with LedgerWriter(None) as ledger:
            sender = Sender(address, ledger, connections=2, on_change=lambda counts: None)
            with pytest.raises(ExceptionGroup) as caught:
                await asyncio.wait_for(sender.run(_stream(wanted)), 10)
    assert caught.group_contains(Refused, match="answered 401")


async def _stream(requests: list[Request]) -> AsyncIterator[Request]:
    for request in requests:
        yield request


@pytest.mark.parametrize(
    "agent", [*world.PEOPLE, *world.PROXIES, *world.SCANNERS], ids=lambda agent: agent.user_agent[:60]
)
def test_an_agent_means_what_the_ledger_says(agent: world.Agent) -> None:
    found = look_up_agent(agent.user_agent)
    evidence = found.evidence
    verdict = "scanner" if evidence & AGENT_SCANNER else "proxy" if evidence & AGENT_PROXY else "human"
    assert verdict == agent.verdict
    said = (agent.client, agent.device, agent.system, agent.browser)
    assert (found.client, found.device, found.system, found.browser) == said


def test_no_domain_of_the_traffic_is_a_providers() -> None:
    assert {provider_of(domain) for _, _, domain in world.PROVIDERS} == {world.OTHER_DOMAINS}
