"""What a report that is shared by a link leaves out: addresses that stand in the texts of its rows.

Links and bounce reasons are texts of others: a link may carry its recipient (`?email=a%40example.com`), a reason quote
the mailbox. In their names every piece around an `@`, encoded or not, becomes `HIDDEN`. The ids of such links are
replaced too: an id is a hash of the link, by which whoever guesses an address could find out that it was clicked.
What stands in a link in another form (a hash, base64) can't be told from anything else: `strip_query` is for that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

import msgspec

from app import breakdown as b
from app.sections import Rows

HIDDEN: Final = "(hidden)"

_AT: Final = re.compile(r"@|\uff20|%(?:25)*40", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"""([\s/?#&=<>"'(),;:\[\]]+)""")


def without_addresses(text: str) -> str:
    """The text, with `HIDDEN` in place of each piece that holds an `@`."""
    if not _AT.search(text):
        return text
    return "".join(HIDDEN if _AT.search(piece) else piece for piece in _BETWEEN.split(text))


def shared_rows(sections: Mapping[int, Rows], secret: bytes) -> dict[int, Rows]:
    """A view's rows as a shared report shows them."""
    found = dict(sections)
    if (links := found.get(b.LINK)) is not None:
        names = {key: without_addresses(name) for key, name in links.names.items()}
        moved = {key[0]: _other_id(key[0], secret) for key in names if names[key] != links.names[key]}
        found[b.LINK] = _moved(msgspec.structs.replace(links, names=names), moved)
        if (positions := found.get(b.POSITION)) is not None:
            found[b.POSITION] = _moved(positions, moved)
    if (reasons := found.get(b.REASON)) is not None:
        found[b.REASON] = msgspec.structs.replace(
            reasons, names={key: without_addresses(name) for key, name in reasons.names.items()}
        )
    return found


def _other_id(link: int, secret: bytes) -> int:
    data = link.to_bytes(8, "big")
    return int.from_bytes(
        blake2b(data, digest_size=8, key=secret[:64], person=b"shared link").digest(), "big"
    )


def _moved(rows: Rows, moved: Mapping[int, int]) -> Rows:
    """The rows with other numbers for some links."""
    if not moved:
        return rows
    return msgspec.structs.replace(
        rows,
        tallies={(moved.get(link, link), other): tally for (link, other), tally in rows.tallies.items()},
        names={(moved.get(link, link), other): name for (link, other), name in rows.names.items()},
        ends={moved.get(link, link): ends for link, ends in rows.ends.items()},
        short={(moved.get(link, link), other) for link, other in rows.short},
        people_short={(moved.get(link, link), other) for link, other in rows.people_short},
    )
