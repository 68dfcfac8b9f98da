"""Requests that schemathesis generates from the OpenAPI document, against a running service."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.core.result import Ok

from app.build import build_service
from app.http.application import create_app
from app.lifecycle import Lifecycle
from app.lifecycle import Phase as LifePhase
from app.server import Server, listen
from app.settings import Settings

checks.load_all_checks()
CHECKED = checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
EXAMPLES = 8
"""Examples for each operation and each way to generate requests."""


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    """Run a service in another thread, because schemathesis blocks while it waits for an answer."""
    listener = listen(settings.model_copy(update={"port": 0}))
    life = Lifecycle(settings, lambda: build_service(settings))
    server = Server(create_app(life), life)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    try:
        while life.phase is LifePhase.LOADING:
            thread.join(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.end()
        thread.join()


@pytest.mark.filterwarnings("ignore")  # schemathesis raises some about other packages
def test_valid_requests_get_an_answer_that_the_document_describes(address: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    ask_all(schema, address, schemathesis.GenerationMode.POSITIVE)


@pytest.mark.filterwarnings("ignore")
def test_invalid_requests_get_an_answer_that_the_document_describes(address: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    ask_all(schema.include(method="POST"), address, schemathesis.GenerationMode.NEGATIVE)  # others have no body


def ask_all(schema: schemathesis.BaseSchema, address: str, mode: schemathesis.GenerationMode) -> None:
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)

        @given(case=found.ok().as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(base_url=address, checks=CHECKED, timeout=30)  # type: ignore[arg-type]  # it accepts both

        ask()
