from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import facts as f
from app.esps import documents
from app.facts import Detail, Entry
from app.keys import campaign_key, normalise_address, recipient_key, recipient_partition, text_id
from app.normalize import MAX_RECORD_BYTES, PLAIN_BYTES, Normalized, find_source, normalize
from app.organisations import Organisation, Organisations, Source
from app.topics import Webhook
from app.user_agents import agent_id, look_up_agent

SECRET = b"an installation's secret"
RECEIVED = 1_790_000_000_000
PARTITIONS = 8

SOURCE = Source(
    org="acme",
    name="news",
    esp="sendgrid",
    campaign=("{metadata.campaign_id}-{metadata.run}", "{metadata.campaign_id}", "{tag}"),
    strip_query=("utm_*", "rid"),
    hidden_links=("https://example.com/trap*", "*/invisible?id=?"),
)
GENERIC = Source(org="acme", name="own", esp="generic")
ACME = Organisation(
    id="acme",
    name="Acme",
    timezone="UTC",
    exclude=("*@acme.example", "Seed-*"),
    proxy_networks=("203.0.113.0/25",),
    scanner_networks=("198.51.100.128/25", "2001:db8:5::/48"),
    sources={"news": SOURCE},
)
PLACES = {"192.0.2.7": ("DE", "Berlin"), "192.0.2.8": ("NP", None)}


def run(
    body: bytes,
    source: Source = SOURCE,
    *,
    received_at_ms: int = RECEIVED,
    headers: tuple[tuple[str, str], ...] = (),
    partitions: int = PARTITIONS,
) -> Normalized:
    webhook = Webhook(
        org="acme",
        source=source.name,
        esp=source.esp,
        received_at_ms=received_at_ms,
        headers=headers,
        body=body,
    )
    return normalize(webhook, source, ACME, SECRET, partitions, look_up_agent, PLACES.get)


def sendgrid(**fields: object) -> dict[str, object]:
    return {
        "email": "ann@example.com",
        "event": "open",
        "timestamp": 1_789_999_000,
        "campaign_id": "spring",
        **fields,
    }


def generic(**fields: object) -> dict[str, object]:
    return {
        "type": "opened",
        "campaign": "spring",
        "recipient": "ann@example.com",
        "at": RECEIVED - 5,
        **fields,
    }


def entries(normalized: Normalized) -> list[Entry]:
    return [entry for _, record in normalized.records for entry in record.entries]


def one(**fields: object) -> Entry:
    normalized = run(msgspec.json.encode([sendgrid(**fields)]))
    assert normalized.dead == []
    (entry,) = entries(normalized)
    return entry


def own(**fields: object) -> Entry:
    normalized = run(msgspec.json.encode({"events": [generic(**fields)]}), GENERIC)
    assert normalized.dead == []
    (entry,) = entries(normalized)
    return entry


def detail(entry: Entry) -> Detail:
    return f.decode_detail(entry.detail)


def campaign_of(source: Source = SOURCE, **fields: object) -> str:
    body = msgspec.json.encode([{"email": "a@example.com", "event": "open", **fields}])
    ((_, record),) = run(body, source).records
    return record.campaign


# Records


def test_facts_are_grouped_by_partition_and_campaign() -> None:
    people = [f"person{number}@example.com" for number in range(200)]
    body = msgspec.json.encode(
        [sendgrid(email=person, campaign_id=name) for person in people for name in ("spring", "summer")]
    )
    normalized = run(body)
    places = [(partition, record.campaign) for partition, record in normalized.records]
    assert len(places) == len(set(places)) == 2 * PARTITIONS
    for partition, record in normalized.records:
        assert (record.org, record.accepted_at_ms, record.version) == ("acme", RECEIVED, f.FACTS_VERSION)
        key = campaign_key(SECRET, "acme", record.campaign)
        for entry in record.entries:
            assert entry.recipient == recipient_key(SECRET, key, entry.address)
            assert partition == recipient_partition(entry.recipient, PARTITIONS)
    assert len(entries(normalized)) == 400


def test_a_record_stays_small_however_many_events_a_body_has() -> None:
    body = msgspec.json.encode(
        [sendgrid(email=f"p{number}@example.com", note="x" * 5_000) for number in range(300)]
    )
    normalized = run(body, partitions=1)
    assert len(entries(normalized)) == 300
    assert len(normalized.records) > 1
    assert max(len(f.encode(record)) for _, record in normalized.records) <= MAX_RECORD_BYTES


def test_a_compressed_body_is_inflated_and_its_dead_letters_are_not_compressed() -> None:
    body = gzip.compress(msgspec.json.encode([sendgrid(), {"event": "open"}]))
    headers = (("content-type", "application/json"), ("content-encoding", "gzip"))
    normalized = run(body, headers=headers)
    assert len(entries(normalized)) == 1
    (letter,) = normalized.dead
    assert letter.webhook.headers == headers[:1]
    assert letter.webhook.body == b'[{"event":"open"}]'


@pytest.mark.parametrize(
    "body",
    [
        bytes(8 << 20),
        b'[{"event":"open","x":"' + b"x" * (1 << 20) + b'"}]',
        b"[" + b",".join([b'{"event":"open"}'] * 400_000) + b"]",
        b'[{"event":"open","x":[' + b",".join([b"1e15"] * 200_000) + b"]}]",
        b'[{"event":"open","x":[' + b",".join(b"%de300" % (n * 7919 % 1000) for n in range(99_999)) + b"]}]",
    ],
)
@pytest.mark.parametrize("compressed", [True, False])
def test_no_dead_letter_is_larger_than_the_record_that_it_came_from(body: bytes, compressed: bool) -> None:
    """It could not be written, and normalize would stop at it for ever."""
    wire = zlib.compress(body) if compressed else body
    headers = (("content-encoding", "deflate"),) if compressed else ()
    normalized = run(wire, headers=headers)
    assert normalized.dead
    assert max(len(letter.webhook.body) for letter in normalized.dead) <= max(len(wire), PLAIN_BYTES)
    for letter in (normalized.dead[0], normalized.dead[-1]):
        again = run(letter.webhook.body, headers=letter.webhook.headers)
        assert again.dead[-1].reason in (letter.reason, "no recipient"), "it can be read again"


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (b"no gzip", "gzip", "broken gzip"),
        (b"[]", "br", "unsupported_encoding"),
        (b"x", "", documents.NOT_JSON),
    ],
)
def test_a_body_that_cannot_be_read_is_one_dead_letter_as_it_came(
    body: bytes, encoding: str, reason: str
) -> None:
    headers = (("content-encoding", encoding),)
    (letter,) = run(body, headers=headers).dead
    assert (letter.reason, letter.stage, letter.index) == (reason, "parse", None)
    assert (letter.webhook.body, letter.webhook.headers) == (body, headers)


def test_an_event_that_cannot_be_kept_is_a_dead_letter_that_can_be_sent_again() -> None:
    bad = sendgrid(campaign_id="x" * 300)
    body = msgspec.json.encode(
        [sendgrid(), bad, sendgrid(email="b" * 400), sendgrid(note="x" * 70_000), sendgrid()]
    )
    normalized = run(body)
    assert [(letter.reason, letter.stage, letter.index) for letter in normalized.dead] == [
        ("campaign: longer than 200 characters", "event", 1),
        ("recipient: longer than 320 characters", "event", 2),
        ("larger than 65536 bytes", "event", 3),
    ]
    assert len(entries(normalized)) == 2
    assert normalized.dead[0].webhook.body == msgspec.json.encode([bad])
    mended = normalized.dead[0].webhook.body.replace(b"x" * 300, b"spring")
    assert entries(run(mended))[0].fact.identity == entries(normalized)[0].fact.identity


def test_an_esp_that_is_not_known_is_a_dead_letter() -> None:
    assert run(b"[]", msgspec.structs.replace(SOURCE, esp="pigeon")).dead[0].reason == "unknown ESP"


# Campaign and variant


@pytest.mark.parametrize(
    ("fields", "campaign"),
    [
        ({"campaign_id": "spring", "run": "2", "category": "news"}, "spring-2"),
        ({"campaign_id": "spring", "run": 2}, "spring-2"),
        ({"campaign_id": "spring", "run": ""}, "spring"),
        ({"campaign_id": "spring"}, "spring"),
        ({"category": ["news", "autumn"]}, "news"),
        ({"run": "2"}, "unassigned"),
        ({"campaign_id": {"a": 1}}, "unassigned"),
    ],
)
def test_the_campaign_is_that_of_the_first_template_whose_fields_are_all_there(
    fields: dict[str, object], campaign: str
) -> None:
    assert campaign_of(SOURCE, **fields) == campaign


def test_a_template_may_have_text_around_its_fields() -> None:
    source = msgspec.structs.replace(SOURCE, campaign=("mail/{metadata.campaign_id} ({tag})",))
    assert campaign_of(source, campaign_id="7", category="news") == "mail/7 (news)"


def test_the_variant_is_read_from_metadata_with_the_prefix() -> None:
    entry = one(ab_subject="A", ab_content="2", ab_="x", abc="y")
    assert detail(entry).variant == {"content": "2", "subject": "A"}
    assert entry.fact.variant == text_id("content=2\0subject=A")
    assert own(variant={"subject": "A", "content": "2"}).fact.variant == entry.fact.variant
    assert one().fact.variant == 0


# Identity


def identity(entry: Entry) -> bytes:
    return entry.fact.identity


def test_a_resend_with_another_event_id_is_the_same_fact() -> None:
    assert identity(one(sg_event_id="one")) == identity(one(sg_event_id="two"))


@pytest.mark.parametrize(
    "other",
    [
        {"event": "click"},
        {"email": "bob@example.com"},
        {"timestamp": 1_789_999_001},
        {"url": "https://example.com/?rid=2"},
        {"ip": "192.0.2.9"},
        {"useragent": "x"},
        {"campaign_id": "summer"},
    ],
)
def test_what_makes_a_fact_another_one(other: dict[str, object]) -> None:
    base: dict[str, object] = {"url": "https://example.com/?rid=1", "ip": "192.0.2.7", "useragent": "curl/8"}
    assert identity(one(**base)) != identity(one(**{**base, **other}))


def test_the_same_webhook_read_again_by_changed_settings() -> None:
    """As docs/operate.md says of `renormalize`: another campaign is another fact, an exclusion is the same one."""
    body = msgspec.json.encode([sendgrid(run="7")])
    (then,) = entries(run(body))
    changed = msgspec.structs.replace(SOURCE, campaign=("x-{metadata.campaign_id}",))
    (now,) = entries(run(body, changed))
    assert (identity(then), then.recipient) != (identity(now), now.recipient)
    webhook = Webhook(
        org="acme", source="news", esp="sendgrid", received_at_ms=RECEIVED, headers=(), body=body
    )
    excluding = msgspec.structs.replace(ACME, exclude=("ann@*",))
    (excluded,) = entries(
        normalize(webhook, SOURCE, excluding, SECRET, PARTITIONS, look_up_agent, PLACES.get)
    )
    assert (identity(then), then.recipient) == (identity(excluded), excluded.recipient)


def test_copies_that_differ_elsewhere_are_the_same_fact_with_another_content() -> None:
    first, second = one(note="1"), one(note="2")
    assert identity(first) == identity(second)
    assert first.fact.content != second.fact.content
    assert one(a="1", b="2") == one(b="2", a="1"), "the order of metadata says nothing"


def test_the_spelling_of_an_address_is_shown_and_not_compared() -> None:
    entry = one(email="  Ann@Example.COM ")
    assert entry.address == "Ann@Example.COM"
    assert entry.recipient == one().recipient
    assert identity(entry) == identity(one())
    assert normalise_address(" Ann@Example.COM ") == "ann@example.com"


def test_an_id_of_the_sender_s_own_goes_before_everything_else() -> None:
    assert identity(own(id="7", at=RECEIVED - 9)) == identity(own(id="7"))
    assert identity(own(id="7")) != identity(own(id="8"))
    assert identity(own(id="7")) != identity(own(id="7", type="clicked"))
    assert identity(own(id="7")) != identity(own())


# Time


def test_a_time_in_seconds_and_the_same_in_milliseconds_are_one_fact() -> None:
    assert one(timestamp=1_789_999_000) == one(timestamp=1_789_999_000_000)


def test_a_time_more_than_an_hour_ahead_is_clamped_and_flagged() -> None:
    hour = 3_600_000
    edge, ahead = own(at=RECEIVED + hour), own(at=RECEIVED + hour + 1)
    assert (edge.fact.at_ms, edge.fact.evidence & f.CLAMPED) == (RECEIVED + hour, 0)
    assert (ahead.fact.at_ms, ahead.fact.evidence & f.CLAMPED) == (RECEIVED, f.CLAMPED)
    assert identity(edge) != identity(ahead), "the identity goes by the time as reported"
    past = own(at=RECEIVED - 30 * 86_400_000)
    assert past.fact.at_ms == RECEIVED - 30 * 86_400_000


def test_an_event_without_a_time_happened_when_its_webhook_came_in() -> None:
    entry = one(timestamp=None)
    assert (entry.fact.at_ms, entry.fact.evidence & f.UNTIMED) == (RECEIVED, f.UNTIMED)
    assert one(timestamp=-5).fact.at_ms == RECEIVED


# What is attached


def test_place_agent_network_and_provider() -> None:
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
    entry = one(ip="192.0.2.7", useragent=agent, email="ann@gmail.com")
    shown = detail(entry)
    assert (shown.country, shown.city, shown.provider) == ("DE", "Berlin", "Gmail")
    assert (shown.browser, shown.device, shown.system) == ("Firefox", "desktop", "Linux")
    assert entry.fact.place == text_id("DE\0Berlin")
    assert entry.fact.agent == agent_id(None, "desktop", "Linux", "Firefox")
    assert entry.fact.provider == text_id("Gmail")
    assert entry.fact.network == one(ip="192.0.2.200").fact.network != one(ip="192.0.3.7").fact.network != 0
    assert one(ip="2001:db8:1:2::3").fact.network == one(ip="2001:db8:1:9::").fact.network
    assert one(ip="::ffff:192.0.2.1").fact.network == entry.fact.network


def test_what_is_not_known_is_told_from_what_is_not_provided() -> None:
    entry = one(ip="198.51.100.1", useragent="x")
    assert (entry.fact.place, entry.fact.network != 0) == (0, True)
    assert entry.fact.agent == text_id("\0\0\0") == agent_id(None, None, None, None) != 0
    entry = one()
    assert (entry.fact.place, entry.fact.network, entry.fact.agent, entry.fact.link) == (0, 0, 0, 0)
    assert one(ip="no address").fact.network == 0
    assert one(ip="192.0.2.8").fact.place == text_id("NP\0")


@pytest.mark.parametrize("nothing", ["", " ", "\t", None])
def test_what_is_blank_is_not_provided(nothing: str | None) -> None:
    fact = one(ip=nothing, useragent=nothing).fact
    assert (fact.agent, fact.network, fact.place) == (0, 0, 0)


def test_a_blank_country_is_looked_up() -> None:
    assert own(ip="192.0.2.7", country="").fact.place == text_id("DE\0Berlin")


def test_what_the_sender_knows_goes_before_what_we_look_up() -> None:
    entry = own(ip="192.0.2.7", country="AT", city="Wien", provider="House Mail")
    assert (detail(entry).country, detail(entry).city, detail(entry).provider) == ("AT", "Wien", "House Mail")


def test_links_lose_the_parameters_that_differ_per_recipient() -> None:
    strip: Callable[[str], str | None] = lambda url: detail(one(event="click", url=url)).link  # noqa: E731
    assert (
        strip("https://example.com/a?utm_source=x&id=1&rid=9#top?utm_a=1")
        == "https://example.com/a?id=1#top?utm_a=1"
    )
    assert strip("https://example.com/a?rid=9") == "https://example.com/a"
    assert strip("https://example.com/a?Rid=9&b=%26&%72id=1") == "https://example.com/a?Rid=9&b=%26"
    assert strip("https://example.com/a") == "https://example.com/a"
    entry = one(event="click", url="https://example.com/a?rid=9", url_offset={"index": 2, "type": "html"})
    assert (entry.fact.link, entry.fact.position) == (text_id("https://example.com/a"), 3)


@pytest.mark.parametrize(
    ("fields", "bits"),
    [
        ({"event": "bounce", "type": "blocked"}, f.SOFT_BOUNCE),
        ({"event": "bounce", "type": "bounce"}, 0),
        ({"sg_machine_open": True}, f.MACHINE),
        ({"sg_machine_open": False}, 0),
        ({"useragent": "Mozilla/5.0"}, f.AGENT_PROXY),
        ({"useragent": "python-requests/2"}, f.AGENT_SCANNER),
        ({"ip": "203.0.113.127"}, f.NETWORK_PROXY),
        ({"ip": "203.0.113.128"}, 0),
        ({"ip": "198.51.100.128"}, f.NETWORK_SCANNER),
        ({"ip": "2001:db8:5:1::9"}, f.NETWORK_SCANNER),
        ({"ip": "66.249.84.1"}, f.NETWORK_PROXY),
        ({"ip": "40.107.1.2", "useragent": "Mozilla/5.0"}, f.NETWORK_SCANNER | f.AGENT_PROXY),
        ({"ip": "no address"}, 0),
        ({"event": "click", "url": "https://example.com/trap"}, f.HIDDEN_LINK),
        ({"event": "click", "url": "https://example.com/trap/a?b=c"}, f.HIDDEN_LINK),
        ({"event": "click", "url": "https://example.com/not/trap"}, 0),
        ({"event": "click", "url": "https://x.example/invisible?rid=5&id=7&utm_a=b"}, f.HIDDEN_LINK),
        ({"event": "click", "url": "https://x.example/invisible?id=78"}, 0),
        ({"email": "Someone@ACME.example"}, f.EXCLUDED),
        ({"email": "seed-17@example.com"}, f.EXCLUDED),
        ({"email": "a-seed-17@example.com"}, 0),
        ({"email": "x@acme.example.com"}, 0),
    ],
)
def test_evidence(fields: dict[str, object], bits: int) -> None:
    assert one(**fields).fact.evidence == bits


def test_the_source_of_a_record_is_found_by_its_names() -> None:
    found = Organisations({"acme": ACME})
    assert find_source(found, "acme", "news") == (ACME, SOURCE)
    assert find_source(found, "acme", "gone") is None
    assert find_source(found, "gone", "news") is None
    implicit = find_source(found, "acme", "api")
    assert implicit is not None
    assert implicit[1].esp == "generic"


# Any input

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
FIELDS = st.sampled_from(
    ["email", "event", "timestamp", "ip", "url", "useragent", "category", "campaign_id", "ab_x"]
)
EVENT = st.dictionaries(FIELDS, SCALARS, max_size=9)
KNOWN = st.fixed_dictionaries(
    {
        "email": st.sampled_from(["a@example.com", "B@example.com", "", "x\n@y"]),
        "event": st.sampled_from(["open", "click", "delivered", "bounce", "nonsense"]),
        "timestamp": st.integers(-5, 1 << 62),
    }
)


@given(
    st.binary(max_size=300),
    st.sampled_from([SOURCE, GENERIC]),
    st.sampled_from(["", "gzip", "deflate", "br"]),
)
def test_any_bytes_give_facts_or_dead_letters(body: bytes, source: Source, encoding: str) -> None:
    normalized = run(body, source, headers=(("content-encoding", encoding),))
    for _, record in normalized.records:
        assert f.decode_record(f.encode(record)) == record


@given(st.lists(EVENT | KNOWN, max_size=6))
def test_every_event_is_a_fact_or_a_dead_letter(items: list[dict[str, object]]) -> None:
    normalized = run(msgspec.json.encode(items))
    assert len(entries(normalized)) + len(normalized.dead) == len(items)
    assert all(letter.index is not None for letter in normalized.dead)
    assert run(msgspec.json.encode(items)) == normalized, "the same body gives the same bytes"


@given(st.lists(KNOWN, min_size=1, max_size=5), st.lists(st.text(max_size=9), min_size=5, max_size=5))
def test_resends_with_changed_ids_have_the_same_identities(
    items: list[dict[str, object]], ids: list[str]
) -> None:
    again = [{**item, "sg_event_id": new} for item, new in zip(items, ids, strict=False)]
    before, after = run(msgspec.json.encode(items)), run(msgspec.json.encode(again), received_at_ms=RECEIVED)
    assert [identity(entry) for entry in entries(before)] == [identity(entry) for entry in entries(after)]
