"""The service without a socket: its application, called in the event loop of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from app.lifecycle import Lifecycle
from app.settings import Settings


def without_models(settings: Settings | None = None) -> Lifecycle:
    """Make a service that must not load anything; without its models it answers 503."""
    return Lifecycle(settings or Settings(), lambda: pytest.fail("nothing is to be loaded"))


def client_of(app: FastAPI, peer: tuple[str, int] | None = ("127.0.0.1", 1234)) -> httpx.AsyncClient:
    """Make a client of an application that is not started; `peer` is None as behind a Unix socket."""
    transport = httpx.ASGITransport(app=app, client=peer)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application until the end of the block; yields a client of it."""
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client
