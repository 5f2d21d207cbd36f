"""`GET /openapi.json`: the API described, made of its routes (`api.operations`) and the shapes of their answers.

Made once and kept. `GET /docs` is the same for people (`api.docs_page`). Neither needs a key: they say nothing about
anybody. Docstrings of the shapes' fields are their descriptions here.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.auth import COOKIE
from api.docs_page import page_of
from api.negotiation import Kept, kept
from api.operations import CSV, EVENTS, HTML, JSON, TEXT, ApiRoute, Operation, Parameter
from api.viewers import SHARE_COOKIE
from api.webhooks import WebhookRoute
from app import shapes, shapes_lists, shapes_operations

VERSION: Final = "1"
_STYLE: Final = kept((Path(__file__).parent / "docs.css").read_bytes(), "text/css; charset=utf-8")
_PATH_NAMES: Final = {
    "campaign": "The campaign's name. A slash within it is written `%2F`.",
    "address": "The recipient's address.",
    "link": "Id of the link.",
    "id": "Number of the dead letter.",
    "share_id": "Id of the shared link.",
    "share": "Id of the shared link.",
    "org": "Id of the organisation.",
    "source": "Name of the source.",
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer"}}
}

Json = dict[str, Any]


def document_of(routes: Iterable[BaseRoute]) -> Json:
    """OpenAPI 3.1 of all routes that say what they do."""
    described = [route for route in routes if isinstance(route, ApiRoute)]
    paths: dict[str, Json] = {}
    types: dict[Any, None] = {shapes.Error: None}
    for route in described:
        operation = route.operation
        types |= {shape: None for shape in (operation.answer, operation.body) if shape is not None}
    refs, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    ref_of = dict(zip(types, refs, strict=True))
    for route in described:
        paths.setdefault(route.path_format, {})[route.method.lower()] = _operation(route, ref_of)
    if any(isinstance(route, WebhookRoute) for route in routes):
        paths["/webhooks/{org}/{source}"] = {"post": _webhook(ref_of)}
    components = _tuples(components)
    _describe(components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Campaign Reports",
            "version": VERSION,
            "summary": "Live campaign reports out of the webhooks of e-mail service providers.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key of reports.toml."},
                "session": {
                    "type": "apiKey", "in": "cookie", "name": COOKIE,
                    "description": "What `POST /session` gives, for the pages.",
                },
                "share": {
                    "type": "apiKey", "in": "cookie", "name": SHARE_COOKIE,
                    "description": "What `POST /api/v1/shared` gives, for one report.",
                },
            },
        },
    }  # fmt: skip


def _operation(route: ApiRoute, ref_of: Mapping[Any, Json]) -> Json:
    operation = route.operation
    names = re.findall(r"{(\w+)}", route.path_format)
    shared = "share" in names
    parameters = [
        {
            "name": n,
            "in": "path",
            "required": True,
            "description": _PATH_NAMES[n],
            "schema": {"type": "string"},
        }
        for n in names
    ] + [_parameter(one) for one in operation.parameters]
    answers: dict[str, Json] = {str(operation.status): _answer(operation, ref_of)}
    problems: dict[int, str] = {}
    if operation.parameters or operation.body is not None or operation.scope is not None:
        problems[400] = "A parameter or the body is wrong; the message names it."
    if operation.scope is not None:
        problems[401] = "No key, or an unknown one."
        problems[403] = f"The key has not the scope `{operation.scope}`, or a foreign page asked."
    if shared:
        problems[401] = "The cookie is missing or forged, or the link has been revoked or has expired."
        problems[403] = "A foreign page asked."
    if names:
        problems[404] = "There is no such thing."
    if operation.scope is not None or operation.media == TEXT or operation.body is not None:
        problems[503] = "Not now; try again."
    problems |= operation.others
    for status, about in sorted(problems.items()):
        answers[str(status)] = {
            "description": about,
            "content": {JSON: {"schema": ref_of[shapes.Error]}},
            **({"headers": _RETRY_AFTER} if status in (429, 503) else {}),
        }
    described: Json = {
        "operationId": _id_of(route),
        "summary": operation.about,
        "tags": [_tag_of(route.path_format)],
        "parameters": parameters,
        "responses": answers,
        "security": []
        if operation.scope is None
        else [{"share": []}]
        if shared
        else [{"key": []}, {"session": []}],
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {operation.body_media: {"schema": ref_of[operation.body]}},
        }
    if operation.scope is not None and not shared:
        described["description"] = f"Scope `{operation.scope}`."
    return described


def _answer(operation: Operation, ref_of: Mapping[Any, Json]) -> Json:
    if operation.status == 204:
        return {"description": "Done."}
    nothing_said = {"type": "object"} if operation.media == JSON else {"type": "string"}
    schema = nothing_said if operation.answer is None else ref_of[operation.answer]
    content: Json = {operation.media: {"schema": schema}}
    if operation.media == CSV:
        content["application/gzip"] = {"schema": {"type": "string", "contentMediaType": "application/gzip"}}
    return {"description": "Events." if operation.media == EVENTS else "The answer.", "content": content}


def _parameter(one: Parameter) -> Json:
    (schema,), _ = msgspec.json.schema_components([one.type])
    if one.default is not None:
        schema["default"] = one.default
    described: Json = {
        "name": one.name, "in": one.where, "required": one.required, "description": one.about, "schema": schema,
    }  # fmt: skip
    if one.example is not None:
        described["example"] = one.example
    if one.many:
        described |= {
            "schema": {"type": "array", "items": schema, "minItems": 1},
            "style": "form",
            "explode": True,
        }
    if one.fields:
        # An object that is written out as one parameter for each of its properties.
        described |= {
            "name": one.name.rstrip("."),
            "schema": {
                "type": "object",
                "patternProperties": {f"^{re.escape(one.name)}.+$": {"type": "string"}},
                "additionalProperties": False,
            },
            "style": "form",
            "explode": True,
        }
    return described


def _webhook(ref_of: Mapping[Any, Json]) -> Json:
    error = {"content": {JSON: {"schema": ref_of[shapes.Error]}}}
    return {
        "operationId": "post_webhook",
        "summary": "An e-mail service provider's webhook, checked as that provider defines it (docs/esps.md)",
        "tags": ["webhooks"],
        "parameters": [
            {
                "name": n,
                "in": "path",
                "required": True,
                "description": _PATH_NAMES[n],
                "schema": {"type": "string"},
            }
            for n in ("org", "source")
        ],
        "requestBody": {"required": True, "content": {"*/*": {"schema": {}}}},
        "responses": {
            "200": {"description": "It is in the log, and will be counted."},
            "401": {"description": "It is not verified.", **error},
            "404": {"description": "There is no such source.", **error},
            "413": {"description": "The body is too large.", **error},
            "503": {"description": "Not stored: send it again.", "headers": _RETRY_AFTER, **error},
        },
        "security": [],
    }


def _id_of(route: ApiRoute) -> str:
    words = [word for word in re.split(r"[/{}.:_-]+", route.path_format) if word not in ("", "api", "v1")]
    return "_".join([route.method.lower(), *words])


def _tag_of(path: str) -> str:
    first = path.removeprefix("/api/v1").strip("/").split("/")[0]
    return first if "." not in first else "about"


def _describe(components: dict[str, Json]) -> None:
    """Puts the docstrings of fields into the components of their shapes, with those they inherit."""
    described = _field_docs()
    for name, component in components.items():
        for field, text in described.get(name, {}).items():
            if field in component.get("properties", {}):
                schema = component["properties"][field]
                # Beside a reference nothing else is read by older tools.
                component["properties"][field] = (
                    {"allOf": [schema], "description": text}
                    if "$ref" in schema
                    else {**schema, "description": text}
                )


def _tuples(schema: Any) -> Any:
    """Tuples of one kind as lists of a fixed length: the tools that read such documents all know these."""
    if isinstance(schema, list):
        return [_tuples(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _tuples(value) for name, value in schema.items()}
    kinds = found.pop("prefixItems", None)
    if kinds:
        assert all(kind == kinds[0] for kind in kinds), "no shape has a tuple of several kinds"
        found["items"] = kinds[0]
    return found


@cache
def _field_docs() -> dict[str, dict[str, str]]:
    """Shape → field → docstring, with those of the shapes that it is made of."""
    found: dict[str, dict[str, str]] = {}
    # Each of them names shapes of those before it.
    for module in (shapes, shapes_lists, shapes_operations):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                bases = [found.get(base.id, {}) for base in node.bases if isinstance(base, ast.Name)]
                found[node.name] = {k: v for one in (*bases, dict(_documented(node))) for k, v in one.items()}
    return found


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            yield field.target.id, re.sub(r"\s+", " ", text.value.value)


class Described:
    """The document and its page, made at the first request for one of them."""

    def __init__(self, routes: list[BaseRoute]) -> None:
        self._routes = routes

    @cached_property
    def _document(self) -> Json:
        return document_of(self._routes)

    @cached_property
    def _json(self) -> Kept:
        return kept(msgspec.json.encode(self._document), JSON)

    @cached_property
    def _page(self) -> Kept:
        return kept(page_of(self._document).encode(), HTML)

    async def openapi(self, request: Request) -> Response:
        return self._json.answer(request)

    async def docs(self, request: Request) -> Response:
        return self._page.answer(request)


async def style(request: Request) -> Response:
    return _STYLE.answer(request)


def routes(others: list[BaseRoute]) -> list[BaseRoute]:
    """`others`: all that is described."""
    described = Described(others)
    return [
        Route("/docs.css", style, methods=["GET"]),
        ApiRoute("GET", "/openapi.json", described.openapi, Operation(about="This document")),
        ApiRoute("GET", "/docs", described.docs, Operation(about="This document, to read", media=HTML)),
    ]
