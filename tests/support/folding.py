"""The fold with a memory of its own, as the database has one; and what it must come to, by definition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app import fold as folding
from app.facts import Entry, Fact, Identity
from app.fold import Changes, LogKey, Place, class_of, empty_state, fold, log_key, place_of
from app.state import STATE_VERSION, RecipientState, encode_state


class Folded:
    """One recipient: the state, the log, and what fell out of the state."""

    def __init__(self, batches: Iterable[Sequence[Entry]] = ()) -> None:
        self.state = empty_state()
        self.log: dict[LogKey, Entry] = {}
        self.fallen: dict[Identity, Fact] = {}
        for batch in batches:
            self.add(batch)

    def find(self, identity: Identity) -> Fact | None:
        return self.fallen.get(identity)

    def places(self) -> list[Place]:
        return [place_of(fact) for fact in self.fallen.values()]

    def address(self, at: LogKey) -> str:
        return self.log[at].address

    def add(self, entries: Sequence[Entry]) -> Changes | None:
        """Folds a batch; None where nothing changed."""
        changes = Changes()
        if not fold(self.state, entries, self, changes):
            assert not (changes.log or changes.fallen or changes.replaced)
            return None
        for place, entry in changes.log.items():
            if entry is None:
                self.log.pop(place, None)  # put and deleted within one batch: never stored
            else:
                self.log[place] = entry
        for identity, fact in changes.fallen.items():
            if fact is None:
                self.fallen.pop(identity, None)
            else:
                self.fallen[identity] = fact
        return changes

    def everything(self) -> tuple[bytes, dict[LogKey, Entry], dict[Identity, Fact]]:
        return encode_state(self.state), self.log, self.fallen


def state_of(line: Sequence[Entry]) -> RecipientState:
    return Folded([line]).state


def by_definition(line: Iterable[Entry]) -> tuple[bytes, dict[LogKey, Entry], dict[Identity, Fact]]:
    """What `Folded.everything` must be of these entries, by rules 1 and 2 of `app.fold`."""
    best: dict[Identity, Entry] = {}
    for entry in sorted(line, key=lambda one: (-one.fact.reading, one.fact.at_ms, one.fact.content)):
        best.setdefault(entry.fact.identity, entry)
    entries = sorted(best.values(), key=lambda entry: log_key(entry.fact))
    kept: set[Identity] = set()
    for kind in {entry.fact.type for entry in entries}:
        of_type = [entry.fact for entry in entries if entry.fact.type == kind]
        kept.update(sorted(fact.identity for fact in of_type)[: folding.KEPT])
        for of in {class_of(fact) for fact in of_type}:
            of_class = [fact.identity for fact in of_type if class_of(fact) == of]
            kept |= {of_class[0], of_class[-1]}
    fallen = {entry.fact.identity: entry.fact for entry in entries if entry.fact.identity not in kept}
    counts: dict[tuple[int, int], int] = {}
    for fact in fallen.values():
        key = (fact.type, class_of(fact))
        counts[key] = counts.get(key, 0) + 1
    state = RecipientState(
        STATE_VERSION,
        entries[0].address if entries else "",
        [entry.fact for entry in entries if entry.fact.identity in kept],
        sorted((*key, count) for key, count in counts.items()),
    )
    return encode_state(state), {log_key(entry.fact): entry for entry in entries}, fallen
