"""The OpenAPI document as a page to read: no script, no foreign host, everything on one page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any, Final

Json = dict[str, Any]

_HEAD: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Campaign Reports: the API</title><link rel="stylesheet" href="/docs.css"></head>
<body><header><h1>Campaign Reports: the API</h1>
<p>Authentication: <code>Authorization: Bearer KEY</code>. Errors: <code>{"error", "message"}</code>. Times: RFC 3339
in UTC. The same for programs: <a href="/openapi.json">/openapi.json</a>.</p></header>
"""


def page_of(document: Json) -> str:
    tags: dict[str, list[tuple[str, str, Json]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    return "".join(
        [
            _HEAD,
            '<nav aria-label="Parts"><ul>',
            *(f'<li><a href="#{escape(tag)}">{escape(tag)}</a></li>' for tag in tags),
            '<li><a href="#shapes">shapes</a></li></ul></nav><main>',
            *(part for tag, operations in tags.items() for part in _tag(tag, operations)),
            '<section id="shapes"><h2>Shapes</h2>',
            *(
                part
                for name, schema in document["components"]["schemas"].items()
                for part in _shape(name, schema)
            ),
            "</section></main></body></html>\n",
        ]
    )


def _tag(tag: str, operations: list[tuple[str, str, Json]]) -> Iterator[str]:
    yield f'<section id="{escape(tag)}"><h2>{escape(tag)}</h2>'
    for method, path, operation in operations:
        yield f'<article id="{escape(operation["operationId"])}"><h3><code>{method} {escape(path)}</code></h3>'
        yield f"<p>{_text(operation['summary'])}. {_text(operation.get('description', ''))}</p>"
        rows = [
            (
                f"<code>{escape(one['name'] + _more(one['schema']))}</code>",
                _type(one["schema"]),
                _text(one["description"]),
                one["required"],
            )
            for one in operation["parameters"]
        ]
        if rows:
            yield "<table><thead><tr><th>parameter</th><th>type</th><th>meaning</th></tr></thead><tbody>"
            for name, kind, about, required in rows:
                yield f"<tr><td>{name}{' (needed)' if required else ''}</td><td>{kind}</td><td>{about}</td></tr>"
            yield "</tbody></table>"
        if "requestBody" in operation:
            for media, content in operation["requestBody"]["content"].items():
                yield f"<p>Body: <code>{escape(media)}</code> {_type(content['schema'])}</p>"
        yield "<table><thead><tr><th>status</th><th>answer</th><th>when</th></tr></thead><tbody>"
        for status, answer in operation["responses"].items():
            kinds = ", ".join(
                f"<code>{escape(media)}</code> {_type(content['schema'])}"
                for media, content in answer.get("content", {}).items()
            )
            yield f"<tr><td>{escape(status)}</td><td>{kinds}</td><td>{_text(answer['description'])}</td></tr>"
        yield "</tbody></table></article>"
    yield "</section>"


def _shape(name: str, schema: Json) -> Iterator[str]:
    yield f'<article id="shape-{escape(name)}"><h3>{escape(name)}</h3>'
    if "description" in schema:
        yield f"<p>{_text(schema['description'])}</p>"
    if "properties" in schema:
        needed = schema.get("required", ())
        yield "<table><thead><tr><th>field</th><th>type</th><th>meaning</th></tr></thead><tbody>"
        for field, kind in schema["properties"].items():
            maybe = "" if field in needed else " (may be missing)"
            about = _text(kind.get("description", ""))
            yield f"<tr><td><code>{escape(field)}</code>{maybe}</td><td>{_type(kind)}</td><td>{about}</td></tr>"
        yield "</tbody></table>"
    else:
        yield f"<p>{_type(schema)}</p>"
    yield "</article>"


def _more(schema: Json) -> str:
    """What is written behind the names of parameters that go on."""
    return ".FIELD" if "patternProperties" in schema else ""


def _text(words: str) -> str:
    """What stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(words))


def _type(schema: Json) -> str:
    """A schema in a few words, linked to the shapes."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#shape-{name}">{name}</a>'
    if "allOf" in schema:
        return _type(schema["allOf"][0])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "patternProperties" in schema:
        return "string"
    kind = schema.get("type", "anything")
    if kind == "array":
        items = schema.get("items")
        return f"list of {_type(items)}" if items else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"text → {_type(schema['additionalProperties'])}"
    return escape(str(kind))
