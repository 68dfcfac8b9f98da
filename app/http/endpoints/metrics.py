"""GET /metrics, for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from app.http.fields import members, parameter, split
from app.telemetry.metrics import Metrics

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
TEXT = {"schema": {"type": "string"}}


def metrics_routes(metrics: Metrics) -> APIRouter:
    """Make the endpoint that Prometheus scrapes."""
    routes = APIRouter(tags=["health"])

    @routes.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": dict.fromkeys(("text/plain", "application/openmetrics-text"), TEXT)}},
    )
    async def read(request: Request) -> Response:
        """Return metrics in Prometheus's text format, or in OpenMetrics where `Accept` asks for it."""
        encode, media_type = choose_encoder(OPEN_METRICS if _accepts_open_metrics(request) else "")
        return Response(encode(metrics.registry), headers={"Content-Type": media_type})

    return routes


def _accepts_open_metrics(request: Request) -> bool:
    # Checked here because prometheus_client raises TypeError for a version that is not a number.
    for member in members(request.headers, "accept"):
        media_type, *parameters = split(member, ";")
        version = dict(map(parameter, parameters)).get("version", "1.0.0")
        if (media_type.lower(), version) == ("application/openmetrics-text", "1.0.0"):
            return True
    return False
