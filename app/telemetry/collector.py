"""Decides whether there are traces: a collector must be set in the environment, and the extra `otel` installed."""

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.telemetry.traces import Traces

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

log = logging.getLogger(__name__)


def open_traces() -> "Traces | None":
    """Send traces to the collector of the standard OTEL_ variables; without one the SDK is not imported."""
    if not any(os.environ.get(name) for name in ENDPOINTS) or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    try:
        from app.telemetry.traces import Traces
    except ImportError:
        log.warning("%s is set, but the extra `otel` is not installed: no traces are sent", ENDPOINTS[1])
        return None
    return Traces.to_collector()
