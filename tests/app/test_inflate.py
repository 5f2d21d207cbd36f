from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import PoisonEvent, RejectRequest
from app.inflate import check_inflated, inflate

BODY = b'[{"email":"a@example.com"}]' * 50


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("encoding", "wire"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        (" GZIP ", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY[:10]) + gzip.compress(BODY[10:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
    ],
)
def test_known_encodings(encoding: str, wire: bytes) -> None:
    assert inflate(wire, encoding) == BODY
    check_inflated(wire, encoding)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip,deflate", "é", "gzip\n, x"])
def test_other_and_nested_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(RejectRequest) as refused:
        check_inflated(BODY, encoding)
    assert refused.value.status == 415


@pytest.mark.parametrize("encoding", ["gzip", "deflate", ""])
def test_a_bomb_is_refused_at_the_limit(encoding: str) -> None:
    zeros = bytes(30 * 1024 * 1024)
    wire = {"gzip": gzip.compress(zeros), "deflate": zlib.compress(zeros), "": zeros}[encoding]
    reads: tuple[Callable[[bytes, str], object], ...] = (inflate, check_inflated)
    for read in reads:
        with pytest.raises(RejectRequest) as refused:
            read(wire, encoding)
        assert refused.value.status == 413


@pytest.mark.parametrize(
    "wire", [b"", b"no gzip", gzip.compress(BODY)[:-9], gzip.compress(BODY) + b"x", gzip.compress(b"") * 100]
)
def test_broken_data_are_poison(wire: bytes) -> None:
    reads: tuple[Callable[[bytes, str], object], ...] = (inflate, check_inflated)
    for read in reads:
        with pytest.raises(PoisonEvent):
            read(wire, "gzip")


@given(st.binary(max_size=100), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_inflate_or_are_poison(wire: bytes, encoding: str) -> None:
    with contextlib.suppress(PoisonEvent, RejectRequest):
        inflate(wire, encoding, 10_000)
