from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.esps import forms

PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'


def test_an_urlencoded_form_keeps_order_and_repeated_names() -> None:
    body = b"a=1&b=%C3%A9+%2B&a=&=x&&c"
    assert forms.read(body) == [("a", "1"), ("b", "é +"), ("a", ""), ("c", "")]
    assert forms.read(body, {"b"}) == [("b", "é +")]


def test_a_multipart_form_keeps_values_as_they_are() -> None:
    body = PART % (b"a", b"1\r\n2") + PART % (b"b", "é +%2B".encode()) + b"--b--\r\n"
    assert forms.read(body) == [("a", "1\r\n2"), ("b", "é +%2B")]
    assert forms.read(body.replace(b"\r\n", b"\n")) == [("a", "1\n2"), ("b", "é +%2B")]


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="f"; filename="x"',
        b"Content-Disposition: form-data; name=\"f\"; filename*=utf-8''x",
        b"Content-Disposition: form-data",
        b"",
    ],
)
def test_a_file_and_a_part_without_name_are_passed_over(head: bytes) -> None:
    body = b"--b\r\n" + head + b"\r\n\r\nx\r\n" + PART % (b"a", b"1") + b"--b--"
    assert forms.read(body) == [("a", "1")]


def test_what_is_too_long_for_a_credential_is_not_even_decoded() -> None:
    long = b"x" * forms.MAX_CREDENTIAL_BYTES
    assert forms.read_credentials(b"a=1&b=" + long + b"&" + long + b"=1&c=") == [("a", "1"), ("c", "")]
    assert forms.read_credentials(b"--") == []


def test_what_is_no_utf8_is_dropped_alone() -> None:
    assert forms.read(b"a=%ff&b=\xff&%ff=1&c=1") == [("c", "1")]
    assert forms.read(PART % (b"a", b"\xff") + PART % (b"b", b"1") + b"--b--") == [("b", "1")]


def test_a_percent_sign_that_escapes_nothing() -> None:
    long = b"x" * forms.MAX_CREDENTIAL_BYTES
    assert forms.read(b"a=%zz%&b=%41%3d%0D%0A==&c=" + long + b"%2&d=" + long + b"%41%") == [
        ("a", "%zz%"),
        ("b", "A=\r\n=="),
    ]


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_the_library_encodes_is_read_back(name: str, value: str) -> None:
    found = forms.read(urlencode({name: value, "b": value * 50}).encode())
    assert found == ([(name, value)] if name else []) + [("b", value * 50)] or name == "b"


@pytest.mark.parametrize(
    "body",
    [
        b"a=1&" * forms.MAX_FIELDS,
        (PART % (b"a", b"1")) * (forms.MAX_FIELDS + 3),
        b"--",
        b"--\r\n",
        b"--" + b"b" * 5_000,
    ],
)
def test_too_many_fields_and_no_delimiter_are_no_form(body: bytes) -> None:
    assert forms.read(body) is None


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: b"--b\r\n" + rest))
def test_any_bytes_give_texts_or_nothing(body: bytes) -> None:
    for name, value in forms.read(body) or []:
        assert name.encode() is not None
        assert value.encode() is not None
