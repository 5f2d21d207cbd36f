"""The fold: a recipient's state and new entries of the log → the new state. Pure, total, and free of order.

Rules:
1. A fact is kept once by its identity. Of copies that differ, the newest reading stays, and of one reading the one with
   the smallest (at_ms, content).
2. Of each type the state keeps the `KEPT` facts with the smallest identities, and of each class within a type (hard and
   soft bounces, opens by verdict, excluded ones …) the first and the last. What falls out is counted in `overflow` by
   its class. Which facts those are depends on the set of facts alone.
3. Whether a fact that is not kept was seen before is asked of what is stored (`Fallen`) by its identity, whatever its
   time is now, and only where something of its type has fallen out.
4. A copy that takes the place of a fact may make another one the first or last of a class. So a fact that fell out can
   come back, and it is looked for where the one that was replaced stood at an end of its class.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from app import facts as f
from app.facts import Entry, Fact, Identity
from app.state import STATE_VERSION, UNCOUNTED, RecipientState
from app.verdicts import SUSPICIOUS, own_verdict

KEPT: Final = 200

LogKey = tuple[int, Identity]
"""A fact's place in the event log of its campaign: (at_ms, identity)."""
LogChanges = dict[LogKey, Entry | None]
"""Log entries to put (an entry) and to delete (None)."""


class Place(NamedTuple):
    """Where a fact that fell out of the state stands."""

    type: int
    of: int
    """Its class, as in `RecipientState.overflow`."""
    at_ms: int
    identity: Identity


class Fallen(Protocol):
    """What is stored of one recipient's facts that fell out of the state."""

    def find(self, identity: Identity) -> Fact | None: ...

    def places(self) -> Iterable[Place]: ...

    def address(self, at: LogKey) -> str:
        """As the log's entry at this place spells it."""


class Changes:
    """What a fold changes beside the state."""

    __slots__ = ("fallen", "log", "replaced")

    def __init__(self) -> None:
        self.log: LogChanges = {}
        self.fallen: dict[Identity, Fact | None] = {}
        """Facts that fell out of the state; None: those that came back."""
        self.replaced: list[Fact] = []
        """Facts whose place a copy took."""


def log_key(fact: Fact) -> LogKey:
    return fact.at_ms, fact.identity


def empty_state() -> RecipientState:
    return RecipientState(STATE_VERSION, "", [])


def fold(state: RecipientState, entries: Sequence[Entry], fallen: Fallen, changes: Changes) -> bool:
    """Adds a recipient's entries to its state, in place, and to `changes` what changes beside it.

    Returns whether anything changed. `fallen` answers from what is stored; what `changes` has goes before it.
    """
    facts = state.facts
    changed = False
    for entry in entries:
        fact = entry.fact
        identity = fact.identity
        for kept in facts:
            if kept.identity == identity:
                changed |= _merge_kept(state, kept, entry, fallen, changes)
                break
        else:
            if state.overflow and _has_fallen(state, fact.type):
                before = _find(identity, fallen, changes)
                if before is not None:
                    changed |= _merge_fallen(state, before, entry, changes)
                    continue
            changed = True
            changes.log[fact.at_ms, identity] = entry
            if facts and fact.at_ms > facts[-1].at_ms:
                facts.append(fact)
            else:
                _insert(state, entry)
            if len(facts) > KEPT:
                _bound(state, fact.type, changes)
    return changed


def places(fallen: Fallen, changes: Changes) -> Iterator[Place]:
    """Where the facts stand that are not in the state, as of `changes`."""
    moved = changes.fallen
    for place in fallen.places():
        if place.identity not in moved:
            yield place
    for fact in moved.values():
        if fact is not None:
            yield place_of(fact)


def place_of(fact: Fact) -> Place:
    return Place(fact.type, class_of(fact), fact.at_ms, fact.identity)


def _insert(state: RecipientState, entry: Entry) -> None:
    facts, fact = state.facts, entry.fact
    insort(facts, fact, key=log_key)
    if facts[0] is fact:
        state.address = entry.address


def _merge_kept(state: RecipientState, kept: Fact, entry: Entry, fallen: Fallen, changes: Changes) -> bool:
    """A copy of a kept fact: the better one stays, at its own time."""
    if not _is_better(entry.fact, kept):
        return False
    first = state.facts[0]
    state.facts.remove(kept)
    _insert(state, entry)
    _replace(kept, entry, changes)
    if state.overflow and _has_fallen(state, kept.type):
        _restore_ends(state, kept, fallen, changes)
    if len(state.facts) > KEPT:
        _bound(state, kept.type, changes)
    if state.facts[0] is not first and state.facts[0] is not entry.fact:
        # The first one moved to a later time: another one spells the address now.
        state.address = _address(log_key(state.facts[0]), fallen, changes)
    return True


def _merge_fallen(state: RecipientState, before: Fact, entry: Entry, changes: Changes) -> bool:
    """A copy of a fact that fell out: the better one stays, in the state where it is an end of its class now."""
    if not _is_better(entry.fact, before):
        return False
    _replace(before, entry, changes)
    _count(state, before, -1)
    changes.fallen[before.identity] = None
    _insert(state, entry)
    _bound(state, before.type, changes)
    return True


def _is_better(fact: Fact, than: Fact) -> bool:
    """Whether a copy takes the place of another one (rule 1)."""
    if fact.reading != than.reading:
        return fact.reading > than.reading
    return (fact.at_ms, fact.content) < (than.at_ms, than.content)


def _replace(before: Fact, entry: Entry, changes: Changes) -> None:
    fact = entry.fact
    if fact.at_ms != before.at_ms:
        changes.log[before.at_ms, before.identity] = None
    changes.log[fact.at_ms, fact.identity] = entry
    changes.replaced.append(before)


def _has_fallen(state: RecipientState, kind: int) -> bool:
    return any(of_type == kind for of_type, _, _ in state.overflow)


def _find(identity: Identity, fallen: Fallen, changes: Changes) -> Fact | None:
    return changes.fallen[identity] if identity in changes.fallen else fallen.find(identity)


def _address(at: LogKey, fallen: Fallen, changes: Changes) -> str:
    entry = changes.log.get(at)
    return entry.address if entry is not None else fallen.address(at)


def _restore_ends(state: RecipientState, replaced: Fact, fallen: Fallen, changes: Changes) -> None:
    """Brings back what is the first or last of its class, now that the one that was replaced is not."""
    kind, of, at = replaced.type, class_of(replaced), log_key(replaced)
    members = [log_key(fact) for fact in state.facts if fact.type == kind and class_of(fact) == of]
    if members and members[0] < at < members[-1]:
        return
    beyond = [
        (place.at_ms, place.identity)
        for place in places(fallen, changes)
        if place.type == kind and place.of == of
    ]
    if not beyond:
        return
    for at_ms, identity in {min(beyond), max(beyond)}:
        if members and members[0] < (at_ms, identity) < members[-1]:
            continue
        fact = _find(identity, fallen, changes)
        if fact is not None:
            insort(state.facts, fact, key=log_key)
            changes.fallen[identity] = None
            _count(state, fact, -1)


def _bound(state: RecipientState, kind: int, changes: Changes) -> None:
    """Drops what is neither the first or last of its class nor among the smallest identities of its type."""
    of_type = [fact for fact in state.facts if fact.type == kind]
    if len(of_type) <= KEPT:
        return
    smallest = sorted(fact.identity for fact in of_type)[KEPT - 1]
    classes: dict[int, list[Fact]] = {}
    for fact in of_type:
        classes.setdefault(class_of(fact), []).append(fact)
    for members in classes.values():
        for fact in members[1:-1]:
            if fact.identity > smallest:
                state.facts.remove(fact)
                changes.fallen[fact.identity] = fact
                _count(state, fact, 1)


def class_of(fact: Fact) -> int:
    """What counts a fact that is not kept (`RecipientState.overflow`), so that no number needs more of it than that."""
    if fact.evidence & f.EXCLUDED:
        return UNCOUNTED
    if fact.type == f.BOUNCED:
        return 1 if fact.evidence & f.SOFT_BOUNCE else 0
    if fact.type == f.UNSUBSCRIBED:
        return 1 if fact.evidence & SUSPICIOUS else 0
    return own_verdict(fact) if fact.type in (f.OPENED, f.CLICKED) else 0


def _count(state: RecipientState, fact: Fact, by: int) -> None:
    counts = {(kind, of): count for kind, of, count in state.overflow}
    key = (fact.type, class_of(fact))
    counts[key] = counts.get(key, 0) + by
    state.overflow = sorted((*key, count) for key, count in counts.items() if count)
