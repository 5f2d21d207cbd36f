"""What a client takes, as it says it."""

from __future__ import annotations

import pytest

from api.negotiation import codings_of


@pytest.mark.parametrize(
    ("header", "accepted"),
    [("", False), ("gzip", True), ("GZIP", True), ("deflate, gzip", True), ("gzip;q=0", False), ("gzip;q=0.0", False),
     ("gzip; q=0.1", True), ("gzip;q=1.0", True), ("br", False), ("x-gzip", True), ("gzipped", False)],
)  # fmt: skip
def test_who_takes_gzip(header: str, accepted: bool) -> None:
    assert ("gzip" in codings_of(header)) is accepted
