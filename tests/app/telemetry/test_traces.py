"""Spans of real requests, collected in memory and by a collector."""

import http.server
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.http.application import create_app
from app.lifecycle import Lifecycle
from app.record import STAGES, RequestRecord
from app.telemetry.collector import open_traces
from app.telemetry.observers import Telemetry
from app.telemetry.traces import Traces
from tests.app.conftest import encoded, noise

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def app(life: Lifecycle, exporter: InMemorySpanExporter) -> AsyncIterator[FastAPI]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield create_app(life, Telemetry(life, Traces(provider)))
    provider.shutdown()


def spans(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, dict[str, ReadableSpan]]:
    """Return the span of the only request, and those of its stages by name."""
    *stages, request = exporter.get_finished_spans()
    return request, {span.name: span for span in stages}


async def test_a_request_is_a_span_below_the_callers_with_one_for_each_stage(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "order-1"}
    await client.post("/v1/upscale", content=encoded(noise(12, 9)), headers=headers)
    request, stages = spans(exporter)
    assert (request.name, request.kind) == ("POST /v1/upscale", SpanKind.SERVER)
    assert request.parent is not None
    assert (f"{request.parent.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, PARENT)
    assert request.attributes is not None
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["esrgan.request_id"] == "order-1"
    assert set(stages) == set(STAGES)
    assert request.start_time is not None
    assert request.end_time is not None
    for span in stages.values():
        assert span.parent == request.context
        assert span.start_time is not None
        assert span.end_time is not None
        slack_ns = 5_000_000  # the two clocks are read one after the other
        assert request.start_time - slack_ns <= span.start_time <= span.end_time <= request.end_time + slack_ns


async def test_encoding_precedes_sending(client: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
    await client.post("/v1/upscale", content=encoded(noise(50, 40)))
    _, stages = spans(exporter)
    assert (stages["infer"].start_time or 0) < (stages["encode"].end_time or 0) <= (stages["send"].start_time or 0)


@pytest.mark.parametrize("traceparent", ["", "rubbish", f"00-{'0' * 32}-{PARENT}-01"])
async def test_without_a_valid_traceparent_a_trace_starts(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter, traceparent: str
) -> None:
    await client.get("/v1/models", headers={"traceparent": traceparent})
    request, _ = spans(exporter)
    assert request.parent is None


async def test_a_caller_that_is_not_sampled_is_not_traced(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter
) -> None:
    await client.get("/v1/models", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    await client.get("/livez")
    assert not exporter.get_finished_spans()


async def test_a_fault_of_the_service_is_an_error_and_one_of_the_caller_is_not(
    client: httpx.AsyncClient, exporter: InMemorySpanExporter, life: Lifecycle
) -> None:
    await client.post("/v1/upscale", content=b"rubbish")
    assert spans(exporter)[0].status.status_code is StatusCode.UNSET
    exporter.clear()
    life.drain()
    await client.post("/v1/upscale", content=encoded(noise(5, 5)))
    assert spans(exporter)[0].status.status_code is StatusCode.ERROR


class Collector(http.server.BaseHTTPRequestHandler):
    """Records posted spans."""

    posts: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.posts.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes]]]:
    """A collector set in the environment; yields its received spans."""
    posts: list[tuple[str, bytes]] = []
    server = http.server.HTTPServer(("127.0.0.1", 0), type("Kept", (Collector,), {"posts": posts}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield posts
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_go_to_the_collector_of_the_environment(collector: list[tuple[str, bytes]]) -> None:
    traces = open_traces()
    assert traces is not None
    record = RequestRecord(id="order-2", method="GET", route="/v1/models", answered=200, complete=True)
    record.ended_s = record.began_s + 1
    traces.observe(record)
    traces.close()
    (path, body), *_ = collector
    assert path == "/v1/traces"
    for part in (b"esrgan-serve", b"GET /v1/models", b"order-2"):
        assert part in body
    traces._provider.shutdown()


def test_without_a_collector_the_sdk_is_not_imported() -> None:
    code = """
import sys, app.__main__, app.http.application
from app.telemetry.collector import open_traces
assert open_traces() is None
assert not [name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))]
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=300)


def test_without_the_extra_a_warning_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "app.telemetry.traces", None)
    assert open_traces() is None
    assert "the extra `otel` is not installed" in caplog.text
