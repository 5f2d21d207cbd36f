"""A campaign's names and section rows as its writer has them: any number of them, in bounded memory.

Rules:
- Of each section a `Ranking` is kept; rows that are not in it are read by their keys, those of a batch together.
- Names, and first and last clicks of links, are read when they are needed, and dropped together when they are many.
- Of a mailing with a link for each recipient nearly every link of a batch is new, and never comes again. So those of a
  batch are looked for together, by their names and rows: without a row, a link has no positions and no clicks. What is
  written of new ones is not kept in memory where a section is cut.
- What isn't there yet of a database that an earlier version wrote (the index of rows by weight, names of parts) is made
  when the campaign is first touched. So it is where such a version counted in between: a section's `CutRow` says as of
  which batch it is, and the campaign's row says which batch touched the section last.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, Final, cast

from rocksdict import Rdict, WriteBatch

from app import breakdown as b
from app import tally
from app.breakdown import AgentRows, PlaceRows, RowKey
from app.facts import CampaignKey, Entry, encode
from tables import layout
from tables.book import PARTS, KnownNames, Name, name_of, named, text_of
from tables.layout import scan, scan_keys
from tables.link_ends import NO_ENDS, Ends, ends_bytes, ends_of
from tables.ranking import Ops, Ranking, cut_decoder, key_of, read_ranking

NAMES_KEPT: Final = 20_000
"""Names and ends of links of one campaign and partition."""
_number_bytes = struct.Struct(">Q").pack
_name_bytes = struct.Struct(">BQ").pack


class CampaignBook(KnownNames):
    def __init__(self, db: Rdict, campaign: CampaignKey, generation: int, touched: Mapping[int, int]) -> None:
        """`touched`: section → offset of the batch that touched its rows last (`CampaignRow.sections`)."""
        super().__init__()
        self._db = db
        self._campaign = campaign
        self._generation = generation
        self._touched = dict(touched)
        self._ends: dict[int, Ends] = {}
        self._waiting: dict[tuple[int, int], Entry] = {}
        """Names that a batch came with and that aren't in memory, each with the first fact that has it."""
        self._new_links: set[bytes] = set()
        """Links without a row before this batch."""
        self._stored_parts: set[int] = set()
        self._smallest: dict[RowKey, int] = {}
        """The links with the smallest numbers, up to `_smallest_to`, and their tallies."""
        self._smallest_to = b""
        self._rankings = self._read(touched)

    @property
    def size(self) -> int:
        """Entries in memory."""
        return (
            len(self.texts)
            + len(self._ends)
            + len(self._smallest)
            + sum(len(ranking.rows) for ranking in self._rankings.values() if ranking.rows is not None)
        )

    def tidy(self) -> None:
        """Bounds names and ends. Not while a batch is being made."""
        if len(self.texts) > NAMES_KEPT:
            super().__init__()
        if len(self._ends) > NAMES_KEPT:
            self._ends.clear()

    # Names.

    def agent_rows(self, agent: int) -> AgentRows:
        if agent not in self._agents:
            self._find(b.AGENT, agent)
        return super().agent_rows(agent)

    def proxied_rows(self, agent: int) -> AgentRows:
        if agent not in self._proxied:
            self._find(b.AGENT, agent)
        return super().proxied_rows(agent)

    def place_rows(self, place: int) -> PlaceRows:
        if place not in self._places:
            self._find(b.CITY, place)
        return super().place_rows(place)

    def country(self, place: int) -> int:
        if place not in self._countries:
            self._find(b.CITY, place)
        return super().country(place)

    def text(self, section: int, number: int) -> str | None:
        if (section, number) not in self.texts:
            self._find(section, number)
        return super().text(section, number)

    def _find(self, section: int, number: int) -> bool:
        stored = self._db.get(layout.name_name(self._campaign, name_of((section, number, ""))))
        if stored is None:
            return False
        self._add(section, number, stored.decode("utf-8", "surrogatepass"))
        return True

    def learn(self, entry: Entry) -> list[Name]:
        """As `KnownNames` does, but of the names that counting doesn't need: `learn_rest` gives these."""
        fact, known = entry.fact, self._known
        if fact.link not in known[b.LINK]:
            self._waiting.setdefault((b.LINK, fact.link), entry)
        if fact.reason not in known[b.REASON]:
            self._waiting.setdefault((b.REASON, fact.reason), entry)
        if fact.provider not in known[b.PROVIDER]:
            self._waiting.setdefault((b.PROVIDER, fact.provider), entry)
        if fact.variant not in known[b.VARIANT]:
            self._waiting.setdefault((b.VARIANT, fact.variant), entry)
        if fact.agent in known[b.AGENT] and fact.place in known[b.CITY]:
            return []
        return self._learn(entry, ((b.AGENT, fact.agent), (b.CITY, fact.place)))

    def learn_rest(self, batch: WriteBatch) -> None:
        """Stores the other names of a batch, those that are new."""
        # One that was hidden meanwhile stays so.
        missing = [name for name in self._waiting if name[1] not in self._known[name[0]]]
        cut = {section for section, ranking in self._rankings.items() if ranking.cut}
        prefix = layout.name_name(self._campaign, b"")
        keys = [prefix + _name_bytes(section, number) for section, number in missing]
        for (section, number), key, stored in zip(missing, keys, self._get(keys), strict=True):
            if stored is not None:
                self._add(section, number, stored.decode("utf-8", "surrogatepass"))
                continue
            text = text_of(self._waiting[section, number], section)
            batch.put(key, text.encode("utf-8", "surrogatepass"))
            if section not in cut:
                self._add(section, number, text)
        self._waiting.clear()

    def know(self, names: Iterable[tuple[int, int]]) -> None:
        """Reads names of `tables.book.NAMED` that will be needed, together."""
        missing = [name for name in names if name not in self.texts]
        keys = [layout.name_name(self._campaign, name_of((*name, ""))) for name in missing]
        for (section, number), stored in zip(missing, self._get(keys), strict=True):
            if stored is not None:
                self._add(section, number, stored.decode("utf-8", "surrogatepass"))

    def names_of(self, section: int, keys: Sequence[RowKey]) -> list[str | None]:
        """The names of rows, None where a row has none of its own. Not while a batch is being made."""
        wanted = [named(section, key) for key in keys]
        missing = [name for name in wanted if name and name[1] > b.OVERFLOW and name not in self.texts]
        if missing and missing[0][0] in PARTS:
            self._know_parts(missing)
        elif missing:
            self.know(missing)
        return [self.texts.get(name) if name else None for name in wanted]

    def _know_parts(self, names: Sequence[tuple[int, int]]) -> None:
        keys = [layout.part_name(self._campaign, name_of((*name, ""))) for name in names]
        found = self._get(keys)
        for name, stored in zip(names, found, strict=True):
            if stored is not None:
                self.texts[name] = stored.decode("utf-8", "surrogatepass")
        section = PARTS[names[0][0]]
        if None in found and section not in self._stored_parts:
            # Of a time before names of parts were kept: they are made of the names that they are parts of.
            self._stored_parts.add(section)
            self._store_parts(section)

    def _store_parts(self, section: int) -> None:
        names = KnownNames()
        batch = WriteBatch(raw_mode=True)
        for name, stored in scan(self._db, layout.name_name(self._campaign, bytes((section,)))):
            number, text = int.from_bytes(name[10:18], "big"), stored.decode("utf-8", "surrogatepass")
            for part in names._add(section, number, text):
                self.texts[part[0], part[1]] = part[2]
                put_name(batch, self._campaign, part)
        self._db.write(batch)

    # Rows.

    def ranking(self, section: int) -> Ranking:
        """With its rows. Not while a batch is being made."""
        ranking = self.known_ranking(section)
        if ranking.short:
            ranking = self._rankings[section] = self._read_all(section)
        if ranking.rows is None:
            keys = {
                key_of(section, name[10:])
                for name in scan_keys(self._db, layout.ranks_name(self._campaign, section))
            }
            ranking.rows = self._tallies(keys)
        return ranking

    def known_ranking(self, section: int) -> Ranking:
        """As it is in memory."""
        ranking = self._rankings.get(section)
        if ranking is None:
            ranking = self._rankings[section] = Ranking(section)
        return ranking

    def _read(self, touched: Mapping[int, int]) -> dict[int, Ranking]:
        rankings: dict[int, Ranking] = {}
        for name, stored in scan(self._db, layout.cuts_name(self._campaign)):
            section, cut = name[9], cut_decoder.decode(stored)
            if (cut.generation, cut.offset) == (self._generation, touched.get(section)):
                ranking = rankings[section] = Ranking(section)
                ranking.take(cut)
        if rankings:
            for section in touched:
                if section not in rankings:
                    rankings[section] = self._read_all(section)
        else:
            rows = scan(self._db, layout.row_name(self._campaign, b""))
            for section, some in groupby(rows, _section_of):
                rankings[section] = self._ranked(section, some, touched.get(section, 0))
        return rankings

    def _read_all(self, section: int) -> Ranking:
        rows = scan(self._db, layout.row_name(self._campaign, bytes((section,))))
        return self._ranked(section, rows, self._touched.get(section, 0))

    def _ranked(self, section: int, rows: Iterable[tuple[bytes, bytes]], offset: int) -> Ranking:
        """A section from all of its rows, and its index where it is cut."""
        ranking = read_ranking(section, ((name[9:], tally.from_bytes(value)) for name, value in rows))
        if ranking.cut:
            batch = WriteBatch(raw_mode=True)
            self._begin_index(section, batch)
            for entry in ranking.entries():
                batch.put(layout.ranks_name(self._campaign, section) + entry, b"")
            self._put_cut(ranking, offset, batch)
            self._db.write(batch)
        return ranking

    def add(self, differences: Mapping[RowKey, int], batch: WriteBatch) -> set[int]:
        """Adds a batch's differences to the rows; gives the sections that changed."""
        rankings, put, prefix = self._rankings, batch.put, layout.row_name(self._campaign, b"")
        changed: set[int] = set()
        beyond: dict[int, dict[RowKey, int]] = {}
        for key, difference in differences.items():
            if not difference:
                continue
            section = key[0]
            changed.add(section)
            ranking = rankings.get(section) or self.known_ranking(section)
            if ranking.cut:
                some = beyond.get(section)
                if some is None:
                    some = beyond[section] = {}
                some[key] = difference
                continue
            rows = ranking.rows
            assert rows is not None, "a section that is whole is in memory"
            before = rows.get(key)
            if before is None and section == b.LINK:
                self._new_links.add(key[1:9])
            value = (before or 0) + difference
            if value:
                rows[key] = value
                put(prefix + key, tally.to_bytes(value))
            else:
                rows.pop(key, None)
                batch.delete(prefix + key)
        # Links before their positions.
        for section in sorted(beyond):
            self._add_to_cut(rankings[section], beyond[section], batch)
        return changed

    def _add_to_cut(self, ranking: Ranking, differences: Mapping[RowKey, int], batch: WriteBatch) -> None:
        section = ranking.section
        if ranking.overgrown and (ranking := self.ranking(section)).overgrown:
            # Before anything of this batch, since it reads what is stored.
            self._move_index(ranking, batch)
        put, prefix = batch.put, layout.row_name(self._campaign, b"")
        known = ranking.rows or {}
        stored = self._stored_rows(section, [key for key in differences if key not in known])
        ops: Ops = []
        new: dict[int, list[RowKey]] = {}
        smallest: dict[RowKey, int] = {}
        for key, difference in differences.items():
            before = known.get(key) or stored.get(key)
            if not before:
                new.setdefault(difference, []).append(key)
                continue
            after = before + difference
            ranking.move(key, before, after, ops)
            smallest[key] = after
            if after:
                put(prefix + key, tally.to_bytes(after))
            else:
                batch.delete(prefix + key)
        for value, keys in new.items():
            data = tally.to_bytes(value)
            for key in keys:
                put(prefix + key, data)
        ranking.come(new, ops)
        if section == b.LINK:
            smallest.update((key, value) for value, keys in new.items() for key in keys)
            last = self._smallest_to
            self._smallest.update((key, value) for key, value in smallest.items() if key <= last)
        self._write_index(section, ops, batch)

    def _stored_rows(self, section: int, keys: list[RowKey]) -> dict[RowKey, int]:
        """Rows of a section that is cut → their tallies, those that are there."""
        if section == b.POSITION:
            keys = [key for key in keys if key[1:9] not in self._new_links]
        found = self._tallies(keys)
        if section == b.LINK:
            self._new_links.update([key[1:9] for key in keys if key not in found])
        return found

    def settle(self, changed: Iterable[int], offset: int, batch: WriteBatch) -> None:
        """What of the sections that a batch changed is stored beside their rows."""
        self._new_links.clear()
        for section in changed:
            ranking = self.known_ranking(section)
            self._touched[section] = offset
            if ranking.cut:
                self._put_cut(ranking, offset, batch)
            elif ranking.overgrown:
                self._begin_index(section, batch)
                self._move_index(ranking, batch)
                self._put_cut(ranking, offset, batch)

    def _move_index(self, ranking: Ranking, batch: WriteBatch) -> None:
        self._write_index(ranking.section, ranking.shrink(), batch)

    def _write_index(self, section: int, ops: Ops, batch: WriteBatch) -> None:
        prefix = layout.ranks_name(self._campaign, section)
        for puts, entry in ops:
            if puts:
                batch.put(prefix + entry, b"")
            else:
                batch.delete(prefix + entry)

    def _begin_index(self, section: int, batch: WriteBatch) -> None:
        prefix = layout.ranks_name(self._campaign, section)
        batch.delete_range(prefix, layout.after(prefix))

    def _put_cut(self, ranking: Ranking, offset: int, batch: WriteBatch) -> None:
        name = layout.cuts_name(self._campaign) + bytes((ranking.section,))
        batch.put(name, encode(ranking.stored(self._generation, offset)))

    def _tallies(self, keys: Collection[RowKey]) -> dict[RowKey, int]:
        prefix = layout.row_name(self._campaign, b"")
        stored = self._get([prefix + key for key in keys])
        return {
            key: tally.from_bytes(value) for key, value in zip(keys, stored, strict=True) if value is not None
        }

    def smallest_links(self, most: int) -> list[tuple[RowKey, int]]:
        """The links with the smallest numbers, and their tallies. Not while a batch is being made.

        Of a section that is cut they are kept up to date by `add`."""
        more = most + most // 2
        found = sorted((key, value) for key, value in self._smallest.items() if value)
        if len(found) < most or not self.known_ranking(b.LINK).cut:
            rows = scan(self._db, layout.row_name(self._campaign, bytes((b.LINK,))))
            found = [(name[9:], tally.from_bytes(value)) for name, value in islice(rows, more)]
            self._smallest_to = found[-1][0] if len(found) == more else b"\xff"
            self._smallest = dict(found)
        elif len(found) > 2 * most:
            found = found[:more]
            self._smallest_to = found[-1][0]
            self._smallest = dict(found)
        return found[:most]

    # First and last clicks.

    def know_ends(self, links: Iterable[int]) -> dict[int, Ends]:
        """First and last click of these links and others: `NO_ENDS` where there is none, or nothing."""
        prefix = layout.ends_prefix(self._campaign)
        ends, new = self._ends, self._new_links
        missing = [link for link in links if link not in ends and _number_bytes(link) not in new]
        stored = self._get([prefix + _number_bytes(link) for link in missing])
        for link, value in zip(missing, stored, strict=True):
            self._ends[link] = ends_of(value) if value is not None else NO_ENDS
        return self._ends

    def move_ends(self, moved: Mapping[int, Ends], batch: WriteBatch) -> None:
        prefix, keeps = layout.ends_prefix(self._campaign), not self.known_ranking(b.LINK).cut
        for link, pair in moved.items():
            if keeps or link in self._ends:
                self._ends[link] = pair
            if pair == NO_ENDS:
                batch.delete(prefix + _number_bytes(link))
            else:
                batch.put(prefix + _number_bytes(link), ends_bytes(pair))

    def ends_of(self, links: Sequence[int]) -> list[Ends]:
        ends = self.know_ends(links)
        return [ends[link] for link in links]

    def _get(self, keys: list[bytes]) -> list[bytes | None]:
        """Several at once; rocksdict says nothing for nothing."""
        return cast("list[bytes | None]", self._db.get(cast(Any, keys))) if keys else []


def _section_of(row: tuple[bytes, bytes]) -> int:
    return row[0][9]


def put_name(batch: WriteBatch, campaign: CampaignKey, name: Name) -> None:
    """Stores a name that `KnownNames.learn` gave."""
    key_of_name = layout.part_name if name[0] in PARTS else layout.name_name
    batch.put(key_of_name(campaign, name_of(name)), name[2].encode("utf-8", "surrogatepass"))
