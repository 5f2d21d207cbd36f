"""Per ESP: verified webhooks of one event a second through one API process, and events a second parsed and mapped."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from app.esps import ESPS
from app.normalize import normalize
from app.organisations import Organisation, Source
from app.topics import Webhook
from app.user_agents import look_up_agent
from bench.figure import Figure
from bench.traffic import bodies_of
from bench.webhooks import send
from cli.traffic.requests import Target
from cli.traffic.targets import access_of
from tests.support.processes import ROOT
from tests.support.simulators import signed_now
from tests.support.sns import Signer
from tests.support.stack import Stack

SECONDS = 4.0
WARM_UP_S = 1.0
SINGLE = 2_000
"""Different requests of each ESP, over and over."""
CONNECTIONS = 64
PARSED = 8_000
"""Events of each ESP that are parsed, in its own bodies."""
LEAST_S = 1.5


def run(folder: Path) -> list[Figure]:
    config = (ROOT / "examples" / "all-esps.toml").read_text()
    topic = '["arn:aws:sns:eu-west-1:123456789012:ses-events"]'
    config = config.replace(f"insecure = true\n# topics = {topic}", f"topics = {topic}")
    with Stack(folder / "stack", config=config) as stack:
        stack.start_servers()
        targets, sources = _targets(stack)
        found = _start_api(stack, targets)
        rates = {esp: _webhooks(stack, found[esp]) for esp in sorted(found)}
    mapped = {esp: _mapped(targets[esp], sources[esp]) for esp in sorted(targets)}
    return [*rates.values(), *mapped.values()]


def _targets(stack: Stack) -> tuple[dict[str, Target], dict[str, Source]]:
    settings, organisations = stack.configuration()
    sources = {source.esp: source for source in organisations.by_id["acme"].sources.values()}
    (access,) = access_of(settings, organisations, ())
    targets = {target.esp: target for target in access.targets}
    # Nothing here can sign as Amazon: see `_start_api`.
    example = targets["brevo"]
    targets["amazon_ses"] = Target(
        org="acme", esp="amazon_ses", path="/webhooks/acme/amazon_ses", is_excluded=example.is_excluded
    )
    return targets, sources


def _start_api(stack: Stack, targets: dict[str, Target]) -> dict[str, Target]:
    """The API with a certificate of our own in Amazon's place; gives the targets with the key that belongs to it."""
    now = datetime.datetime.now(datetime.UTC)
    signer = Signer(not_before=now - datetime.timedelta(days=1), not_after=now + datetime.timedelta(days=1))
    path = stack.folder / "sns.pem"
    path.write_bytes(signer.pem)
    with (stack.folder / "api.log").open("ab") as output:
        stack.processes["api"] = subprocess.Popen(
            [sys.executable, "-m", "bench.sns_api", str(path)],
            cwd=ROOT,
            env=stack.environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    stack.wait_ready()
    ses = targets["amazon_ses"]
    signed = msgspec.structs.replace(ses.credentials, private_key=signer.private_pem())
    return {**targets, "amazon_ses": msgspec.structs.replace(ses, credentials=signed)}


def _webhooks(stack: Stack, target: Target) -> Figure:
    wires = [_wire(stack, target, body) for body, _ in bodies_of(target, SINGLE, 1)]
    send(stack, wires, CONNECTIONS, WARM_UP_S)
    rate, p50, p99 = send(stack, wires, CONNECTIONS, SECONDS)
    return Figure(
        what=f"{target.esp}: verified single webhooks, one API process",
        value=rate,
        unit="/s",
        goal=3_000,
        note=f"{sum(map(len, wires)) / len(wires):.0f} bytes, p50 {p50:.1f} ms, p99 {p99:.1f} ms",
    )


def _wire(stack: Stack, target: Target, body: bytes) -> bytes:
    headers, body = signed_now(target, body)
    headers = {"host": stack.http, "content-length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _mapped(target: Target, source: Source) -> Figure:
    """Both the ESP's parser alone and all that normalize does: campaign, agent, variant, identity, detail."""
    now_ms = time.time_ns() // 1_000_000
    bodies = [body for body, _ in bodies_of(target, PARSED, 200)]
    webhooks = [
        Webhook(
            org="acme", source=source.name, esp=target.esp, received_at_ms=now_ms, headers=tuple(headers.items()),
            body=body,
        )
        for headers, body in (signed_now(target, body) for body in bodies)
    ]  # fmt: skip
    organisation = Organisation(id="acme", name="Acme", timezone="UTC", sources={source.name: source})
    parse = ESPS[target.esp].parse

    def parsed(webhook: Webhook) -> int:
        return len(parse(webhook.body, dict(webhook.headers)))

    def mapped(webhook: Webhook) -> int:
        made = normalize(webhook, source, organisation, b"secret", 8, look_up_agent, lambda ip: None)
        return sum(len(record.entries) for _, record in made.records)

    alone, whole = (_rate(webhooks, work) for work in (parsed, mapped))
    return Figure(
        what=f"{target.esp}: parsed and mapped, one process",
        value=whole,
        unit="events/s",
        goal=20_000,
        note=f"{PARSED / len(bodies):.0f} events a body; the parser alone {alone:,.0f}/s",
    )


def _rate(webhooks: list[Webhook], work: Callable[[Webhook], int]) -> float:
    began = time.perf_counter()
    events = 0
    while time.perf_counter() - began < LEAST_S:
        events += sum(map(work, webhooks))
    return events / (time.perf_counter() - began)
