"""Reading a JSON body as a list of objects, with the smallest loss where it is broken.

Rules:
- The usual body is decoded in one go. Only one that can't be, or that says a name twice in an object, is cut into its
  elements by a scanner that looks at strings and brackets alone; each element then stands or falls by itself.
- RFC 8259 leaves open what a name said twice means; here it is poison, for which of two recipients is it?
- At most MAX_EVENTS elements are read. All behind them are one poison, whose raw bytes are a body of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from app.facts import Event, Poison
from app.topics import MAX_EVENTS

NOT_UTF8: Final = "not UTF-8"
NOT_JSON: Final = "not JSON"
TOO_DEEP: Final = "nested too deeply"
BIG_NUMBER: Final = "a number out of range"
CUT_SHORT: Final = "cut short"
NOT_AN_OBJECT: Final = "not an object"
TWICE: Final = "a name twice in one object"
NO_LIST: Final = "not a list of events"
TOO_MANY: Final = f"behind the first {MAX_EVENTS} events of its body"

JsonObject = dict[str, object]

_Objects = list[dict[str, Any]]


class _Wrapped(msgspec.Struct):
    events: _Objects


_decode_list = msgspec.json.Decoder(_Objects).decode
_decode_wrapped = msgspec.json.Decoder(_Wrapped).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_anything = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

# A string (up to the end where it is never closed) or a bracket or comma. The possessive quantifiers keep it linear.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
# A string, and the colon that makes it a name.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"([ \t\r\n]*+:)?', re.DOTALL)
_BLANK: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"


def read_list(body: bytes) -> list[JsonObject | Poison]:
    """A body that is `[{…}, …]`, or one object, which stands for a list of one."""
    try:
        objects: list[JsonObject] = [_decode_object(body)] if body[:1] == b"{" else _decode_list(body)
    except (ValueError, RecursionError):
        return _read_broken(body, wrapped=False)
    return _checked(body, objects, wrapped=False)


def read_wrapped(body: bytes) -> list[JsonObject | Poison]:
    """A body that is `{"events": [{…}, …]}`."""
    try:
        objects: list[JsonObject] = _decode_wrapped(body).events
    except (ValueError, RecursionError):
        return _read_broken(body, wrapped=True)
    return _checked(body, objects, wrapped=True)


def read_lines(body: bytes) -> list[JsonObject | Poison]:
    """A body that is JSON Lines. Its poison is wrapped, as for `read_wrapped`: an element then needs no line."""
    result: list[JsonObject | Poison] = []
    lines = [line for line in body.removeprefix(_BOM).split(b"\n") if line.strip(_BLANK)]
    if not lines:
        return [Poison(NOT_JSON, None, body)]
    for index, line in enumerate(lines[:MAX_EVENTS]):
        try:
            decoded: JsonObject = _decode_object(line)
        except (ValueError, RecursionError):
            result.append(_read_element(line, index, wrapped=True))
            continue
        names = _names_in(line)
        if len(decoded) == names or _count_names(decoded) == names:
            result.append(decoded)
        else:
            result.append(_read_element(line, index, wrapped=True))
    if len(lines) > MAX_EVENTS:
        result.append(Poison(TOO_MANY, MAX_EVENTS, body_of(lines[MAX_EVENTS:], wrapped=True)))
    return result


def read_by_user(body: bytes) -> list[JsonObject | Poison]:
    """A body that is `{"events_by_user": [{"events": [{…}, …]}, …]}`, or wrapped: so is its poison."""
    try:
        decoded: JsonObject = _decode_object(body)
    except (ValueError, RecursionError):
        return _read_broken_by_user(body)
    users = decoded.get("events_by_user")
    if type(users) is not list:
        return read_wrapped(body)
    if _count_names(decoded) != _names_in(body):
        return _read_broken_by_user(body)
    result: list[JsonObject | Poison] = []
    for user in users:
        events = user.get("events") if type(user) is dict else None
        if type(events) is not list:
            result.append(Poison(NO_LIST, None, body_of([_encode(user)], wrapped=True)))
            continue
        for event in events:
            result.append(
                event if type(event) is dict else poison(NOT_AN_OBJECT, len(result), event, wrapped=True)
            )
    return _bounded(result)


def _read_broken_by_user(body: bytes) -> list[JsonObject | Poison]:
    result: list[JsonObject | Poison] = []
    around: list[bytes] = []
    behind = 0
    for start in _starts_of_lists(body, depth=3):
        if start < behind:
            continue
        elements, end, closed = _cut(body, start)
        result += [
            _read_element(element, index, wrapped=True) for index, element in enumerate(elements, len(result))
        ]
        around.append(body[behind:start])
        behind = end
        if not closed:
            result.append(Poison(CUT_SHORT, len(result), body[end:]))
            return _bounded(result)
    if not behind:
        return _read_broken(body, wrapped=True)
    around.append(body[behind:])
    joined = b"".join(around).removeprefix(_BOM)
    reason = _why(joined)
    if reason is not None:
        result.append(Poison(reason, None, joined))
    return _bounded(result)


def _bounded(items: list[JsonObject | Poison]) -> list[JsonObject | Poison]:
    if len(items) <= MAX_EVENTS:
        return items
    rest = [_bare(item) for item in items[MAX_EVENTS:]]
    return [*items[:MAX_EVENTS], Poison(TOO_MANY, MAX_EVENTS, body_of(rest, wrapped=True))]


def _bare(item: JsonObject | Poison) -> bytes:
    """An element as it stands within a wrapped body's list."""
    if not isinstance(item, Poison):
        return _encode(item)
    return item.raw.removeprefix(b'{"events":[').removesuffix(b"]}")


def events(
    items: list[JsonObject | Poison], read_event: Callable[[JsonObject], Event | str], *, wrapped: bool
) -> list[Event | Poison]:
    """What a reader gave, each object as what `read_event` makes of it: the event, or why it is none."""
    result: list[Event | Poison] = []
    for index, item in enumerate(items):
        if isinstance(item, Poison):
            result.append(item)
            continue
        event = read_event(item)
        result.append(event if isinstance(event, Event) else poison(event, index, item, wrapped=wrapped))
    return result


def read_object(words: str) -> JsonObject | None:
    """The object that a text within an event holds; None where it holds anything else."""
    if not words.lstrip().startswith("{"):
        return None
    try:
        decoded: JsonObject = _decode_object(words)
    except (ValueError, RecursionError):
        return None
    return decoded


def read_texts(words: str) -> list[object] | None:
    """The list that a text within an event holds; None where it holds anything else."""
    if not words.lstrip().startswith("["):
        return None
    try:
        decoded = _decode_anything(words)
    except (ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, list) else None


def body_of(elements: list[bytes], *, wrapped: bool) -> bytes:
    """The elements as a body of their own."""
    joined = b",".join(elements)
    return b'{"events":[' + joined + b"]}" if wrapped else b"[" + joined + b"]"


def split(items: list[JsonObject | Poison], *, wrapped: bool) -> list[bytes]:
    """What a reader gave as bodies of one event each; poison as the bytes that it has."""
    return [
        item.raw if isinstance(item, Poison) else body_of([_encode(item)], wrapped=wrapped) for item in items
    ]


def poison(reason: str, index: int, fields: object, *, wrapped: bool) -> Poison:
    """Poison of one event that was decoded well."""
    return Poison(reason, index, body_of([_encode(fields)], wrapped=wrapped))


def _checked(body: bytes, objects: list[JsonObject], *, wrapped: bool) -> list[JsonObject | Poison]:
    names = _names_in(body) - wrapped
    if sum(map(len, objects)) != names and _count_names(objects) != names:
        return _read_broken(body, wrapped=wrapped)
    if len(objects) > MAX_EVENTS:
        rest = body_of([_encode(item) for item in objects[MAX_EVENTS:]], wrapped=wrapped)
        return [*objects[:MAX_EVENTS], Poison(TOO_MANY, MAX_EVENTS, rest)]
    return objects  # type: ignore[return-value]  # a list of objects is one of objects or poison


def _names_in(body: bytes) -> int:
    """How many names of members stand in a valid body: `":` outside of strings, where the quote is not escaped.

    Too few where other blanks than one space stand before the colon. A wrong number only costs the careful way.
    """
    count = body.count(b'":') + body.count(b'" :')
    return count - body.count(b'\\":') - body.count(b'\\" :')


def _count_names(value: object) -> int:
    count = 0
    inner: Iterable[object] = ()
    if type(value) is dict:
        count = len(value)
        inner = value.values()
    elif type(value) is list:
        inner = value
    for item in inner:
        if type(item) is dict or type(item) is list:
            count += _count_names(item)
    return count


def _read_broken(body: bytes, *, wrapped: bool) -> list[JsonObject | Poison]:
    start = _start_of_list(body, wrapped=wrapped)
    if start is None:
        stripped = body.removeprefix(_BOM).strip(_BLANK)
        if not wrapped and stripped[:1] == b"{":
            return [_read_element(stripped, 0, wrapped=wrapped)]
        return [Poison(_why(body) or NO_LIST, None, body)]
    elements, end, closed = _cut(body, start)
    result: list[JsonObject | Poison] = [
        _read_element(element, index, wrapped=wrapped) for index, element in enumerate(elements[:MAX_EVENTS])
    ]
    if len(elements) > MAX_EVENTS:
        result.append(Poison(TOO_MANY, MAX_EVENTS, body_of(elements[MAX_EVENTS:], wrapped=wrapped)))
    if not closed:
        result.append(Poison(CUT_SHORT, len(elements), body[end:]))
    else:
        around = body[:start].removeprefix(_BOM) + body[end:]
        reason = _why(around)
        if reason not in (None, NOT_AN_OBJECT):
            result.append(Poison(reason, None, around))
    return result


def _start_of_list(body: bytes, *, wrapped: bool) -> int | None:
    """The place behind the bracket that opens the list of events."""
    if wrapped:
        return next(_starts_of_lists(body, depth=1), None)
    for token in _TOKEN.finditer(body):
        before = body[: token.start()].removeprefix(_BOM).strip(_BLANK)
        return token.end() if token[0] == b"[" and not before else None
    return None


def _starts_of_lists(body: bytes, *, depth: int) -> Iterator[int]:
    """The places behind the brackets that open lists named `events` in objects that stand this deep."""
    level = 0
    name = False
    for token in _TOKEN.finditer(body):
        found = token[0]
        if found == b"[" and level == depth and name:
            yield token.end()
        name = level == depth and found == b'"events"'
        level += (found in b"[{") - (found in b"]}") if len(found) == 1 else 0


def _cut(body: bytes, start: int) -> tuple[list[bytes], int, bool]:
    """The elements of the list that starts here, where they end, and whether a bracket closes the list there."""
    elements: list[bytes] = []
    depth = 0
    for token in _TOKEN.finditer(body, start):
        found = token[0]
        if found == b"," and depth == 0:
            elements.append(body[start : token.start()])
            start = token.end()
        elif found in (b"[", b"{"):
            depth += 1
        elif found in (b"]", b"}"):
            if depth == 0:
                last = body[start : token.start()]
                if last.strip(_BLANK) or elements:
                    elements.append(last)
                return elements, token.start(), True
            depth -= 1
    return elements, start, False


def _read_element(element: bytes, index: int, *, wrapped: bool) -> JsonObject | Poison:
    reason = _why(element)
    if reason is None:
        decoded: JsonObject = _decode_object(element)
        if _count_names(decoded) == sum(1 for token in _STRING.finditer(element) if token[1]):
            return decoded
        reason = TWICE
    return Poison(reason, index, body_of([element.strip(_BLANK)], wrapped=wrapped))


def _why(element: bytes) -> str | None:
    """Why it is not one JSON object; None where it is."""
    try:
        return None if type(_decode_anything(element)) is dict else NOT_AN_OBJECT
    except UnicodeDecodeError:
        return NOT_UTF8
    except RecursionError:
        return TOO_DEEP
    except msgspec.ValidationError:
        return BIG_NUMBER
    except ValueError:
        return NOT_JSON
