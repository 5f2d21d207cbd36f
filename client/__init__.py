"""The API from Python: `Client` and `AsyncClient` send what `client.calls` describes, and decode it into `app.shapes`.

    from client import Client, calls

    with Client("http://127.0.0.1:8000", KEY) as api:
        print(api.send(calls.summary("spring", count="people"))["summary"]["open_rate"])
        for one in api.items(calls.recipients("spring", status="opened")):
            print(one["recipient"])

Errors: `client.errors`. Needs httpx and msgspec, and of this project only `app.shapes` and `app.shapes_operations`.
"""

from __future__ import annotations

from client import calls
from client.clients import AsyncClient, Client
from client.errors import ApiError, ClientError, Unreachable, Unreadable
from client.events import LiveEvent

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "ClientError",
    "LiveEvent",
    "Unreachable",
    "Unreadable",
    "calls",
]
