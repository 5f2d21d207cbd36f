"""The section `clients`: opens and clicks by mail client, device and system, clicks by browser.

Of a person what is read in the agent. A mailbox provider's proxy tells the client that the mail is read with, and
nothing of the device behind it; a scanner tells nothing of the person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

import msgspec

from cli.verifier import engagement
from cli.verifier.compare import Comparison
from cli.verifier.engagement import NOT_PROVIDED, PROXY, UNKNOWN, Name, Rows, quoted
from cli.verifier.rules import Act, Counted
from cli.verifier.shown import Json
from cli.verifier.verdicts import agent_of

PARTS: Final = ("client", "device", "system", "browser")


def of_recipients(recipients: Iterable[Counted]) -> dict[str, Rows]:
    recipients = list(recipients)
    return {part: engagement.rows_of(recipients, partial(_name, part)) for part in PARTS}


def _name(part: str, act: Act) -> Name | None:
    if part == "browser" and act.fact.type != "clicked":
        return None
    read = agent_of(act.fact)
    word = quoted(read[PARTS.index(part)] or "") if read is not None else ""
    if act.verdict == "human":
        return (NOT_PROVIDED,) if read is None else (word or UNKNOWN,)
    return (word or PROXY,) if act.verdict == "proxy" and part == "client" else (PROXY,)


def compare(
    result: Comparison, place: str, what: str, wanted: Mapping[str, Rows], section: object, count: str
) -> None:
    shown = msgspec.convert(section, dict[str, list[Json]])
    for part in PARTS:
        table = engagement.table(wanted[part], count)
        found = shown[f"{part}s"]
        engagement.compare_table(result, place, "clients", f"{what} {part}s", table, found, (part,))
