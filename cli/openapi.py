"""`reports openapi`: prints the OpenAPI document without starting anything; the pages' types are made of it."""

from __future__ import annotations

import click
import msgspec

from api.app import api_routes
from api.openapi import document_of


@click.command()
def command() -> None:
    """Print the API's OpenAPI document."""
    click.echo(msgspec.json.format(msgspec.json.encode(document_of(api_routes())), indent=1).decode())
