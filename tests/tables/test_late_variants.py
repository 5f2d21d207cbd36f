"""A/B with three fields: a late `sent` that names the variant moves the whole recipient, and all sums stay equal."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from app import facts as f
from app.facts import Entry, encode
from app.keys import text_id
from app.summary import Count, summary
from app.variants import variants
from tests.support.databases import databases
from tests.support.databases_view import view
from tests.support.facts import CAMPAIGN, START_MS, detail_of, entry

COUNTS: tuple[Count, ...] = ("all", "people")
FIELDS = {"subject": "AB", "content": "123", "sender": "xy"}
NUMBERS = (
    "sent", "delivered", "opened", "clicked", "bounced", "complained", "unsubscribed", "total_opens", "total_clicks",
)  # fmt: skip

Variant = dict[str, str]


class Journey(NamedTuple):
    """What happened to one recipient, and what their `sent` says once it comes."""

    kinds: list[int]
    told: Variant | None
    """The variant that the later facts name, rightly or not."""
    sent: Variant | None


combinations = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in FIELDS.items()})
journeys = st.builds(
    Journey,
    st.lists(
        st.sampled_from([f.DELIVERED, f.OPENED, f.OPENED, f.CLICKED, f.BOUNCED, f.UNSUBSCRIBED]), max_size=5
    ),
    st.none() | combinations,
    st.none() | combinations,
)


def named(kind: int, at_ms: int, address: str, variant: Variant | None) -> Entry:
    detail, numbers = detail_of()
    detail = type(detail)("generic", variant=variant)
    if variant is not None:
        numbers["variant"] = text_id("\0".join(f"{name}={value}" for name, value in sorted(variant.items())))
    return entry(kind, at_ms, address=address, campaign=CAMPAIGN, detail=encode(detail), **numbers)


def first_variant(journey: Journey, *, sent: bool) -> Variant | None:
    if sent and journey.sent is not None:
        return journey.sent
    return journey.told if journey.kinds else None


@settings(max_examples=60)
@given(st.lists(journeys, min_size=1, max_size=12))
def test_whole_recipients_move_and_sums_stay(several: list[Journey]) -> None:
    late = [
        named(f.SENT, START_MS, f"r{number}@example.com", journey.sent)
        for number, journey in enumerate(several)
    ]
    early = [
        named(kind, START_MS + 60_000 * (place + 1), f"r{number}@example.com", journey.told)
        for number, journey in enumerate(several)
        for place, kind in enumerate(journey.kinds)
    ]
    with databases() as world:
        for line, sent in ((early, False), (late, True)):
            world.write(line)
            if not early and not sent:
                continue
            seen = view(world, CAMPAIGN)
            assert seen.sections is not None
            for count in COUNTS:
                shown: Any = variants(seen.sections, {}, count)
                whole: Any = summary(seen.patterns, seen.totals, count)
                found = {tuple(sorted(row["variant"].items())): row["recipients"] for row in shown["rows"]}
                expected: dict[tuple[tuple[str, str], ...], int] = {}
                without = 0
                for journey in several:
                    variant = first_variant(journey, sent=sent)
                    if variant is not None:
                        key = tuple(sorted(variant.items()))
                        expected[key] = expected.get(key, 0) + 1
                    elif sent or journey.kinds:
                        without += 1
                assert found == expected
                assert shown["without"] == without
                if not without:
                    for name in NUMBERS:
                        assert sum(row["summary"][name] for row in shown["rows"]) == whole[name], name


def test_a_recipient_goes_from_one_variant_to_another() -> None:
    first, second = (cast(Variant, {"subject": s, "content": "1", "sender": "x"}) for s in "AB")
    with databases() as world:
        world.write([named(f.OPENED, START_MS + 1, "a@example.com", first)])
        before = view(world, CAMPAIGN)
        world.write([named(f.SENT, START_MS, "a@example.com", second)])
        after = view(world, CAMPAIGN)
    for seen, wanted in ((before, first), (after, second)):
        assert seen.sections is not None
        rows = cast(list[dict[str, Any]], variants(seen.sections, {}, "all")["rows"])
        assert [(row["variant"], row["summary"]["opened"]) for row in rows] == [(wanted, 1)]
