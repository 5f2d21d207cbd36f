"""The API is as it describes itself: every route, every answer, whatever is asked."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.routing import Route

from api import pages
from api.app import api_routes
from api.docs_page import page_of
from api.openapi import document_of
from api.operations import ApiRoute
from api.webhooks import WebhookRoute
from app.facts import Entry
from app.settings import Settings
from tests.api.reading import Reading, event, reading
from tests.api.serving import PARTITIONS, bearer
from tests.support.dead import bury, webhook
from tests.support.kafka import fresh_topics

DOCUMENT = document_of(api_routes())
START_MS = 1_790_000_000_000
Json = dict[str, Any]


def test_every_route_says_what_it_does() -> None:
    files = {route.path for route in pages.routes() if isinstance(route, Route)} | {"/docs.css"}
    silent = [
        route
        for route in [*api_routes(), *pages.routes()]
        if not isinstance(route, ApiRoute | WebhookRoute) and getattr(route, "path", None) not in files
    ]
    assert not silent


def test_the_document_is_openapi() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    ids = [
        operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()
    ]
    assert len(ids) == len(set(ids))
    names = DOCUMENT["components"]["schemas"].keys()
    assert {"Report", "Summary", "Timeline", "Links", "Recipients", "Event", "Lag", "Error"} <= names


def test_fields_are_described_also_those_of_the_shapes_beneath() -> None:
    described = DOCUMENT["components"]["schemas"]["Recipients"]["properties"]
    assert described["lag_ms"]["description"].startswith("Age of the oldest event")
    assert described["next"]["description"].startswith("The `cursor` of the next page")


def test_the_page_shows_every_operation_and_shape_as_a_reader_expects() -> None:
    page = page_of(DOCUMENT)
    for path, methods in DOCUMENT["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page
    for name in DOCUMENT["components"]["schemas"]:
        assert page.count(f'id="shape-{name}"') == 1
    assert "`" not in page and "<th></th>" not in page
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r'id="([^"]+)"', page))


def test_parameters_whose_names_go_on_are_spelled_as_they_are_sent() -> None:
    (one,) = (
        parameter
        for parameter in DOCUMENT["paths"]["/api/v1/campaigns/{campaign}/events"]["get"]["parameters"]
        if parameter["name"] == "variant"
    )
    assert (one["style"], one["explode"]) == ("form", True)
    assert list(one["schema"]["patternProperties"]) == ["^variant\\..+$"]


def streams(path: str) -> bool:
    """For ever: `test_live.py` and `test_ops.py` look at these."""
    return path.endswith("/live")


def closed(schema: Any) -> Any:
    """The same with nothing beyond what is said."""
    if isinstance(schema, dict):
        found = {name: closed(value) for name, value in schema.items()}
        if "properties" in found:
            found["additionalProperties"] = False
        return found
    return [closed(one) for one in schema] if isinstance(schema, list) else schema


def problems(document: Json, path: str, answer: httpx.Response, method: str = "get") -> Iterator[str]:
    """What an answer has that its operation doesn't say, or lacks."""
    said = document["paths"][path][method]["responses"]
    if str(answer.status_code) not in said:
        yield f"{path}: status {answer.status_code} is not described: {answer.text[:200]}"
        return
    content = said[str(answer.status_code)].get("content", {})
    media = answer.headers.get("content-type")
    if media not in content:
        yield f"{path}: media type {media} is not described"
        return
    if media == "application/json":
        schema = {**content[media]["schema"], "components": document["components"]}
        validator = jsonschema_rs.validator_for(schema)
        for error in validator.iter_errors(answer.json()):
            yield f"{path}: {error.message[:300]} at {error.instance_path}"


PATHS = {
    "campaign": "spring",
    "address": "a@example.com",
}
ASKED: dict[str, tuple[Json, ...]] = {
    "/api/v1/campaigns": ({}, {"search": "spring", "count": "people"}, {"limit": 1, "search": "none"}),
    "/api/v1/campaigns/{campaign}/variants": ({}, {"x": "subject", "y": "content"}, {"rate": "bounce_rate"}),
    "/api/v1/campaigns/{campaign}/timeline": (
        {},
        {"unit": "day"},
        {"from": START_MS, "to": START_MS + 3_600_000},
    ),
    "/api/v1/campaigns/{campaign}/uniques": ({}, {"from": START_MS}, {"from": START_MS, "count": "people"}),
    "/api/v1/campaigns/{campaign}/report": ({}, {"count": "people"}, {"sections": "summary,links"}),
    "/api/v1/compare": ({"campaign": ["spring", "summer"]}, {"campaign": "empty"}),
    "/api/v1/uniques": ({"campaign": ["spring", "summer"]}, {"campaign": "spring", "type": "clicked"}),
}


@contextlib.asynccontextmanager
async def whole(redis_db: str, kafka: str, folder: Path) -> AsyncIterator[Reading]:
    """An API with two campaigns, a dead letter and a shared link."""
    fresh_topics(Settings(kafka=kafka, partitions=PARTITIONS))
    bury(kafka, (webhook(b"broken"), "not JSON"))
    async with reading(redis_db, folder, kafka=kafka) as here:
        await here.world.count(*campaign_of_everything())
        await here.world.count(*campaign_of_everything("summer"), campaign="summer")
        yield here


async def test_answers_have_their_shapes_and_nothing_else(redis_db: str, kafka: str, tmp_path: Path) -> None:
    document = closed(copy.deepcopy(DOCUMENT))
    async with whole(redis_db, kafka, tmp_path) as here:
        link = (await here.get("/links"))["links"]["rows"][0]["id"]
        found: list[str] = []
        asked = 0
        for path, methods in document["paths"].items():
            if "get" not in methods or streams(path) or "{share" in path:
                continue
            url = path.format(**PATHS, link=link, id=1)
            for parameters in ASKED.get(path, ({},)):
                answer = await here.api.http.get(url, params=parameters, headers=bearer("acme-all"))
                found += problems(document, path, answer)
                asked += 1
        assert not found
        assert asked > 30


EXAMPLES = 6
MANY_EXAMPLES = 300


Check = Callable[[schemathesis.CheckContext, schemathesis.Response, schemathesis.Case[Any]], bool | None]


def unchecked(path: str) -> list[Check]:
    """A schema can't say which cursors, timezones, fields and times there are; events are refused one by one."""
    checks: list[Check] = [positive_data_acceptance]
    return [*checks, negative_data_rejection] if path == "/api/v1/events" else checks


def try_all(base_url: str, examples: int) -> None:
    """Every operation with parameters and bodies as they are described, and as they are not."""
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    tried = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if streams(operation.path):
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)

            @settings(
                max_examples=examples, deadline=None, database=None, derandomize=True,
                suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
            )  # fmt: skip
            @given(strategy)
            def check(case: schemathesis.Case[Any]) -> None:
                case.call_and_validate(
                    base_url=base_url,
                    headers=bearer("acme-all"),
                    excluded_checks=unchecked(case.path),
                    timeout=30,
                )

            with contextlib.suppress(Unsatisfiable):  # no negative data where nothing can be wrong
                check()
            tried += 1
    assert tried > 80


async def test_schemathesis_finds_nothing(redis_db: str, kafka: str, tmp_path: Path) -> None:
    async with whole(redis_db, kafka, tmp_path) as here:
        await asyncio.to_thread(try_all, here.api.address, EXAMPLES)


@pytest.mark.long
async def test_schemathesis_finds_nothing_for_long(redis_db: str, kafka: str, tmp_path: Path) -> None:
    async with whole(redis_db, kafka, tmp_path) as here:
        await asyncio.to_thread(try_all, here.api.address, MANY_EXAMPLES)


def campaign_of_everything(campaign: str = "spring") -> list[Entry]:
    entries = []
    for number, letter in enumerate("abcdefghijkl"):
        address = f"{letter}@example.com"
        variant = {"subject": "AB"[number % 2], "content": "12"[number % 3 > 0]}

        def said(
            kind: str, minutes: int, address: str = address, variant: Json = variant, **fields: Any
        ) -> Entry:
            return event(
                kind, address, START_MS + minutes * 60_000, campaign=campaign, variant=variant, **fields
            )

        entries.append(said("sent", 0))
        if number % 5 == 0:
            entries.append(said("bounced", 1, reason="mailbox full"))
            continue
        entries += (
            said("delivered", 1),
            said("opened", 10, client="Gmail", country="DE"),
            said("clicked", 15, link="https://example.com/a", country="DE"),
        )
    return entries
