"""Who made an open or a click: a person, a mailbox provider's proxy, or a scanner.

Rules:
1. What a fact says of itself goes first (`own_verdict`): the user agent, the network, a hidden link, the ESP's flag.
2. Of what is left, a scanner's is what belongs to a burst (`app.bursts`), and a machine's is what came sooner after the
   delivery than a person can be. So a verdict may change when a later fact comes: all facts of one recipient are seen.
3. Delivery and click are told by different machines, often in whole seconds. Only a click that surely came after the
   delivery, and surely too soon, is judged by it: one of the same second or before the delivery says nothing. Neither
   does a time that the ESP didn't give (UNTIMED, CLAMPED).
4. The verdicts depend on the values of the facts alone, not on how they came, nor on the order of equal times.
5. An unsubscription gets no verdict and stays counted; the same evidence makes it suspected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from app import facts as f
from app.bursts import NO_TIME, in_bursts
from app.facts import CLICKED, DELIVERED, OPENED, UNSUBSCRIBED, Fact

RULES_VERSION: Final = 2

HUMAN: Final = 0
PROXY: Final = 1
SCANNER: Final = 2
VERDICT_NAMES: Final = ("human", "proxy", "scanner")

REASONS: Final = {
    "nothing": "nothing speaks against a person",
    "agent_scanner": "the user agent of a scanner or script",
    "network_scanner": "an address in a network of scanners",
    "hidden_link": "a link that no person can see",
    "agent_proxy": "the user agent of a mailbox provider's proxy",
    "network_proxy": "an address in a network of a mailbox provider's proxy",
    "esp_flag": "the ESP says that a machine did it",
    "burst": "one of several links, or beside a hidden one, followed within seconds by the same machine",
    "too_soon": "sooner after the delivery than a person can be",
    "unsubscribe_in_burst": "unsubscribed in the middle of a burst of clicks",
    "not_judged": "neither an open nor a click",
}
"""Code → words. The codes are stable: they stand in answers of the API."""


class Rules(msgspec.Struct, frozen=True, array_like=True):
    """The thresholds. A burst or an age of 0 turns its rule off."""

    version: int = RULES_VERSION
    burst_links: int = 3
    """Different links that make a burst. People open two at once (a title and the picture beside it); a scanner all."""
    burst_ms: int = 2_000
    """In what time: to follow three links, a person has to come back twice."""
    click_after_ms: int = 2_000
    """A click this soon after delivery is a machine's. The mail has still to reach the mailbox, be noticed, opened and
    read, which takes a person five seconds and more; the rest is left to clocks that disagree."""
    open_after_ms: int = 1_000
    """The same for opens. Less, because a mail program may show a new mail by itself to the person before it."""


DEFAULT_RULES: Final = Rules()

_HIGHEST: Final = {"burst_links": 100, "burst_ms": 60_000, "click_after_ms": 60_000, "open_after_ms": 60_000}

# (bits, code, verdict of an open, verdict of a click), the first that holds. What a machine says of itself is surer
# than what the ESP concludes. A machine's open is privacy protection or prefetch, its click a check.
_OWN: Final = (
    (f.AGENT_SCANNER, "agent_scanner", SCANNER, SCANNER),
    (f.NETWORK_SCANNER, "network_scanner", SCANNER, SCANNER),
    (f.HIDDEN_LINK, "hidden_link", SCANNER, SCANNER),
    (f.AGENT_PROXY, "agent_proxy", PROXY, PROXY),
    (f.NETWORK_PROXY, "network_proxy", PROXY, PROXY),
    (f.MACHINE, "esp_flag", PROXY, SCANNER),
)
_JUDGED: Final = (CLICKED, OPENED)
_TOO_SOON: Final = {OPENED: PROXY, CLICKED: SCANNER}
SUSPICIOUS: Final = f.MACHINE | f.AGENT_SCANNER | f.NETWORK_SCANNER | f.HIDDEN_LINK
"""Evidence that makes an unsubscription suspected."""

_BITS: Final = 10
_MASK: Final = (1 << _BITS) - 1


def _own(kind: int, evidence: int) -> tuple[int, str]:
    if kind in _JUDGED:
        for bit, code, of_open, of_click in _OWN:
            if evidence & bit:
                return (of_open if kind == OPENED else of_click), code
        return HUMAN, "nothing"
    if kind == UNSUBSCRIBED and evidence & SUSPICIOUS:
        return HUMAN, next(code for bit, code, _, _ in _OWN if evidence & bit & SUSPICIOUS)
    return HUMAN, "not_judged"


# By type and evidence.
_TABLE: Final = [_own(kind, bits) for kind in range(len(f.TYPE_NAMES)) for bits in range(_MASK + 1)]
_VERDICTS: Final = bytes(verdict for verdict, _ in _TABLE)
_CODES: Final = tuple(code for _, code in _TABLE)


def own_verdict(fact: Fact) -> int:
    """By the fact's own evidence alone: of what fell out of a recipient's state, and in sketches."""
    return _VERDICTS[fact.type << _BITS | fact.evidence & _MASK]


def own_reason(fact: Fact) -> str:
    """The code of that in `REASONS`."""
    return _CODES[fact.type << _BITS | fact.evidence & _MASK]


def judge(facts: Sequence[Fact], rules: Rules = DEFAULT_RULES) -> list[int]:
    """A recipient's facts in order of (at_ms, identity) → a verdict for each (HUMAN for what is no open or click)."""
    # It runs for every recipient that is touched, so it finds out on the way whether other facts may have a say.
    verdicts: list[int] = []
    clicks = 0
    soon_until_ms = -1
    by_others = False
    for fact in facts:
        kind = fact.type
        if kind in _JUDGED:
            evidence = fact.evidence
            verdict = _VERDICTS[kind << _BITS | evidence & _MASK] if evidence else HUMAN
            if kind == CLICKED:
                clicks += 1
            if verdict == SCANNER or fact.at_ms <= soon_until_ms:
                by_others = True  # it may be a hidden link's click, or too soon
            verdicts.append(verdict)
        else:
            if kind == DELIVERED:
                soon_until_ms = fact.at_ms + rules.click_after_ms + rules.open_after_ms
            verdicts.append(HUMAN)
    if by_others or (clicks > 1 and clicks >= rules.burst_links > 0):
        for place, (verdict, _) in _by_others(facts, rules).items():
            verdicts[place] = verdict
    return verdicts


def judge_with_reasons(facts: Sequence[Fact], rules: Rules = DEFAULT_RULES) -> list[tuple[int, str]]:
    """The verdicts of `judge` and why: codes of `REASONS`."""
    judged = [_TABLE[fact.type << _BITS | fact.evidence & _MASK] for fact in facts]
    for place, late in _by_others(facts, rules).items():
        judged[place] = late
    return judged


def suspected_unsubscribes(facts: Sequence[Fact], rules: Rules = DEFAULT_RULES) -> list[bool]:
    """Facts as for `judge` → for each whether it is an unsubscription that looks like a scanner's."""
    return [
        fact.type == UNSUBSCRIBED and code != "not_judged"
        for fact, (_, code) in zip(facts, judge_with_reasons(facts, rules), strict=True)
    ]


def _by_others(facts: Sequence[Fact], rules: Rules) -> dict[int, tuple[int, str]]:
    """Place → verdict and code of what is judged by the facts beside it."""
    changed: dict[int, tuple[int, str]] = {}
    for place in _too_soon(facts, rules):
        changed[place] = _TOO_SOON[facts[place].type], "too_soon"
    for place in in_bursts(facts, rules.burst_links, rules.burst_ms):
        fact = facts[place]
        if fact.type == UNSUBSCRIBED:
            if own_reason(fact) == "not_judged":
                changed[place] = HUMAN, "unsubscribe_in_burst"
        elif own_verdict(fact) == HUMAN:
            changed[place] = SCANNER, "burst"
    return changed


def _too_soon(facts: Sequence[Fact], rules: Rules) -> list[int]:
    """The places of opens and clicks, human by themselves, that came too soon after the first delivery."""
    places: list[int] = []
    delivered_at_ms: int | None = None
    for place, fact in enumerate(facts):
        if fact.evidence & NO_TIME:
            continue
        at_ms = fact.at_ms
        if delivered_at_ms is None:
            if fact.type == DELIVERED:
                delivered_at_ms = at_ms
            continue
        passed_ms = at_ms - delivered_at_ms
        if passed_ms > rules.click_after_ms and passed_ms > rules.open_after_ms:
            break
        if fact.type in _JUDGED and own_verdict(fact) == HUMAN:
            longest_ms = rules.click_after_ms if fact.type == CLICKED else rules.open_after_ms
            if passed_ms > _fraction_ms(delivered_at_ms) and passed_ms + _fraction_ms(at_ms) <= longest_ms:
                places.append(place)
    return places


def _fraction_ms(at_ms: int) -> int:
    """What a time may have lost when it was cut to whole seconds."""
    return 0 if at_ms % 1_000 else 999


def rules_of(settings: Mapping[str, object]) -> Rules:
    """Thresholds by their names in `Rules`, else the defaults. Raises ValueError that says what is wrong in a line."""
    values: dict[str, int] = {}
    for name, value in settings.items():
        highest = _HIGHEST.get(name)
        if highest is None:
            raise ValueError(f"{name}: unknown threshold (known: {', '.join(_HIGHEST)})")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
            raise ValueError(f"{name}: must be a whole number from 0 to {highest}")
        if name == "burst_links" and value == 1:
            raise ValueError(
                "burst_links: must be at least 2 (every click would be a burst), or 0 for no bursts"
            )
        values[name] = value
    return Rules(**values)
