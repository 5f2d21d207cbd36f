"""What happened to one mail, before any ESP has put it into words."""

from __future__ import annotations

import msgspec

from cli.traffic.world import Agent


class Mail(msgspec.Struct, gc=False):
    """One recipient's copy of a campaign's mail. `number` is unique within the campaign."""

    campaign: str
    number: int
    recipient: str
    variant: dict[str, str]
    provider: str
    country: str
    city: str
    ip: str
    agent: Agent


class Happening(msgspec.Struct, gc=False):
    """One fact as it was meant. `type` is one of `app.facts.TYPE_NAMES`; times in ms since 1970 UTC."""

    mail: Mail
    type: str
    at_ms: int
    verdict: str | None = None
    """`human`, `proxy` or `scanner`, by what it shows of itself; opens and clicks only."""
    ip: str | None = None
    agent: Agent | None = None
    link: str | None = None
    position: int | None = None
    bounce: str | None = None
    reason: str | None = None
    machine: bool = False
    serial: int = 0
    """Unique within a run: event ids are made of it."""

    @property
    def user_agent(self) -> str | None:
        return None if self.agent is None else self.agent.user_agent
