"""Parts of partitions add up to what adding row by row gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app import breakdown as b
from app.tally import pack, to_bytes
from tables.link_ends import NO_ENDS
from tables.section_merge import merge_parts, unpack_part
from tables.section_parts import SectionPart, pack_part

COUNTS = st.lists(st.integers(0, 2**30), max_size=5).map(pack)
TIMES = st.integers(-1, 2**42)
KEYS = st.tuples(st.integers(0, 3), st.integers(0, 2))
ROWS = st.dictionaries(
    KEYS,
    st.tuples(COUNTS, st.sampled_from([None, "name"]), st.tuples(TIMES, TIMES, TIMES, TIMES)),
    max_size=8,
)


def part_of(rows: dict[tuple[int, int], tuple[int, str | None, tuple[int, int, int, int]]]) -> SectionPart:
    part = SectionPart([])
    for (first, second), (value, name, ends) in rows.items():
        key = first.to_bytes(8, "big") + second.to_bytes(8, "big")
        part.rows.append((key, to_bytes(value), name))
        part.ends.append(ends)
    return part


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_sums_names_and_ends(
    several: list[dict[tuple[int, int], tuple[int, str | None, tuple[int, int, int, int]]]],
) -> None:
    for rows in several:  # one end of each link, whatever its position
        ends = {key[0]: found[2] for key, found in rows.items()}
        rows.update({key: (value, name, ends[key[0]]) for key, (value, name, _) in rows.items()})
    parts = [(place, b.LINK, unpack_part(pack_part(part_of(rows)))) for place, rows in enumerate(several)]
    found = merge_parts(parts)[b.LINK]
    keys = {key for rows in several for key in rows}
    assert found.tallies == {key: sum(rows[key][0] for rows in several if key in rows) for key in keys}
    assert found.names == {
        key: "name" for key in keys if any(rows.get(key, (0, None))[1] for rows in several)
    }
    assert not found.cut and not found.short
    for key in keys:
        if sum(other[0] == key[0] for other in keys) == 1:
            all_ends = [rows[key][2] for rows in several if key in rows]
            assert found.ends[key[0]] == (
                min((ends[0] for ends in all_ends if ends[0] >= 0), default=-1),
                max(ends[1] for ends in all_ends),
                min((ends[2] for ends in all_ends if ends[2] >= 0), default=-1),
                max(ends[3] for ends in all_ends),
            )


def test_what_is_cut_is_told() -> None:
    whole, cut = part_of({(1, 0): (5, None, NO_ENDS)}), part_of({(2, 0): (7, None, NO_ENDS)})
    cut.rest, cut.rest_rows, cut.least = to_bytes(3), 2, 1
    found = merge_parts(
        [(0, b.CITY, unpack_part(pack_part(whole))), (1, b.CITY, unpack_part(pack_part(cut)))]
    )[b.CITY]
    assert found.tallies == {(1, 0): 5, (2, 0): 7}
    assert (found.cut, found.rest, found.rest_rows) == (1, 3, 2)
    assert found.short == found.people_short == {(1, 0)}
