"""What a command says that came upon a database that can't be read."""

from __future__ import annotations

import msgspec

from app.errors import ReportsError
from cli.addresses import wait_for_addresses
from cli.config import load_settings
from cli.identity import known_identity
from tables.broken import advice
from tables.completeness import lacking_of_published

ADDRESS_S = 3.0


def words(error: BaseException) -> str:
    """One line, with the way out."""
    return advice(error, _lacks)


def _lacks(partition: int) -> str | None:
    """What topic `facts` no longer has of the partition; None: that can't be asked."""
    try:
        settings = wait_for_addresses(load_settings(), ADDRESS_S)
        settings = msgspec.structs.replace(settings, installation=known_identity(settings).id)
        return lacking_of_published(settings, [partition]).get(partition)
    except ReportsError:
        return None
