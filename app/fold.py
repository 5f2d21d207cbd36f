"""The fold: a recipient's state and new entries of the log → the new state. Pure, total, and free of order.

Rules:
1. A fact is kept once by its identity. Of copies that differ, the one with the smallest (at_ms, content) stays.
2. Of each type the state keeps the `KEPT` facts with the smallest identities, and of each class within a type (hard and
   soft bounces, opens by verdict, excluded ones …) the first and the last. What falls out is counted in `overflow` by
   its class. Which facts those are depends on the set of facts alone: a fact that falls out can never come back in,
   whatever follows.
3. Whether a fact that is not kept was seen before is asked of the log (`logged`), and only where something of its type
   has fallen out.
Known bound: of a class with more than `KEPT` facts of one recipient, a copy that moves a fact to an earlier time (only
facts without a time of their own have such copies) or to another class (an edited dead letter, a newer reading of the
user agent) may leave an earlier fact as the last one kept. Counts stay exact.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from typing import Final

from app import facts as f
from app.facts import Entry, Fact, Identity
from app.state import STATE_VERSION, UNCOUNTED, RecipientState
from app.verdicts import SUSPICIOUS, own_verdict

KEPT: Final = 200

LogKey = tuple[int, Identity]
"""A fact's place in the event log of its campaign: (at_ms, identity)."""
Logged = Callable[[int, Identity], Entry | None]
"""What the log holds at a place."""
LogChanges = dict[LogKey, Entry | None]
"""Log entries to put (an entry) and to delete (None)."""


def log_key(fact: Fact) -> LogKey:
    return fact.at_ms, fact.identity


def empty_state() -> RecipientState:
    return RecipientState(STATE_VERSION, "", [])


def fold(state: RecipientState, entries: Sequence[Entry], logged: Logged, log: LogChanges) -> bool:
    """Adds a recipient's entries to its state, in place, and to `log` what changes in the event log.

    Returns whether anything changed. `logged` answers from what is stored; entries of this call are looked up in `log`.
    """
    facts = state.facts
    changed = False
    for entry in entries:
        fact = entry.fact
        identity = fact.identity
        for kept in facts:
            if kept.identity == identity:
                changed |= _merge_kept(state, kept, entry, log)
                break
        else:
            if state.overflow:
                merged = _merge_overflown(state, entry, logged, log)
                if merged is not None:
                    changed |= merged
                    continue
            changed = True
            log[fact.at_ms, identity] = entry
            if not facts:
                facts.append(fact)
                state.address = entry.address
            else:
                last = facts[-1]
                if fact.at_ms > last.at_ms:
                    facts.append(fact)
                else:
                    insort(facts, fact, key=log_key)
                    if facts[0] is fact:
                        state.address = entry.address
                if len(facts) > KEPT:
                    _bound(state, fact.type)
    return changed


def _merge_kept(state: RecipientState, kept: Fact, entry: Entry, log: LogChanges) -> bool:
    """A copy of a kept fact: the smaller one stays. It can only move to an earlier time."""
    fact = entry.fact
    if (fact.at_ms, fact.content) >= (kept.at_ms, kept.content):
        return False
    state.facts.remove(kept)
    insort(state.facts, fact, key=log_key)
    if state.facts[0] is fact:
        state.address = entry.address
    if fact.at_ms != kept.at_ms:
        log[kept.at_ms, kept.identity] = None
    log[fact.at_ms, fact.identity] = entry
    return True


def _merge_overflown(state: RecipientState, entry: Entry, logged: Logged, log: LogChanges) -> bool | None:
    """A copy of a fact that fell out of the state: whether it changed anything, None where it is no copy.

    The count follows the smaller copy.
    """
    fact = entry.fact
    if not any(kind == fact.type for kind, _, _ in state.overflow):
        return None
    place = fact.at_ms, fact.identity
    before = log[place] if place in log else logged(*place)
    if before is None:
        return None
    if fact.content >= before.fact.content:
        return False
    log[place] = entry
    _count(state, before.fact, -1)
    _count(state, fact, 1)
    return True


def _bound(state: RecipientState, kind: int) -> None:
    """Drops what is neither the first or last of its class nor among the smallest identities of its type."""
    of_type = [fact for fact in state.facts if fact.type == kind]
    if len(of_type) <= KEPT:
        return
    smallest = sorted(fact.identity for fact in of_type)[KEPT - 1]
    classes: dict[int, list[Fact]] = {}
    for fact in of_type:
        classes.setdefault(_class(fact), []).append(fact)
    for members in classes.values():
        for fact in members[1:-1]:
            if fact.identity > smallest:
                state.facts.remove(fact)
                _count(state, fact, 1)


def _class(fact: Fact) -> int:
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
    key = (fact.type, _class(fact))
    counts[key] = counts.get(key, 0) + by
    state.overflow = sorted((*key, count) for key, count in counts.items() if count)
