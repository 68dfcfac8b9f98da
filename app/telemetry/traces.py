"""OpenTelemetry traces: a span for each request and one for each of its stages. Needs the extra `otel`.

Spans are made from the record of a request that has ended, so tracing costs a running request nothing, and no other
part of the service depends on it.
"""

import time
from collections.abc import Mapping
from typing import Self

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app import VERSION
from app.record import RequestRecord
from app.telemetry.logs import PROBES

FLUSH_MS = 2000
"""Time limit for sending the last spans when the service stops."""


class Traces:
    """Turns finished requests into spans.

    Args:
        provider: receives the spans.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("app", VERSION)

    @classmethod
    def to_collector(cls) -> Self:
        """Send spans over HTTP to the collector of the standard OTEL_ variables, which also set sampling and names."""
        own = Resource({"service.name": "esrgan-serve", "service.version": VERSION})
        provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def observe(self, record: RequestRecord) -> None:
        """Make the spans of a request that has ended; probes have none."""
        if record.route in PROBES or record.ended_s is None:
            return
        parent = TraceContextTextMapPropagator().extract(dict(record.trace_headers))
        span = self._tracer.start_span(
            f"{record.method} {record.route}".strip(),
            context=parent,
            kind=SpanKind.SERVER,
            attributes=_attributes(record),
            start_time=_wall_ns(record.began_s),
        )
        inside = set_span_in_context(span)
        for name, stage in record.stages.items():
            part = self._tracer.start_span(
                name,
                context=inside,
                attributes={"esrgan.seconds": stage.seconds},
                start_time=_wall_ns(stage.began_s),
            )
            part.end(_wall_ns(stage.ended_s))
        if record.status >= 500 or not (record.complete or record.left):
            span.set_status(Status(StatusCode.ERROR, record.outcome))
        span.end(_wall_ns(record.ended_s))

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.force_flush(FLUSH_MS)


def _attributes(record: RequestRecord) -> Mapping[str, str | int]:
    attributes: dict[str, str | int] = {
        "http.request.method": record.method,
        "http.route": record.route,
        "url.path": record.path,
        "url.scheme": record.scheme,
        "client.address": record.client,
        "network.peer.address": record.peer or record.client,
        "http.response.status_code": record.status,
        "http.request.body.size": record.received_bytes,
        "http.response.body.size": record.sent_bytes,
        "esrgan.request_id": record.id,
        "esrgan.outcome": record.outcome,
        "esrgan.job": record.job,
        "esrgan.key": record.key,
        "esrgan.model": record.model,
        "esrgan.width_px": record.width_px,
        "esrgan.height_px": record.height_px,
        "esrgan.runs": record.network_passes if record.network_passes > 1 else 0,
    }
    return {name: value for name, value in attributes.items() if value not in ("", 0)}


def _wall_ns(monotonic_s: float) -> int:
    """Convert a time on the monotonic clock to nanoseconds since 1970."""
    return time.time_ns() - round((time.monotonic() - monotonic_s) * 1e9)
