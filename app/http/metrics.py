"""GET /metrics: for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from app.telemetry.metrics import Metrics


def metrics_routes(metrics: Metrics) -> APIRouter:
    """The endpoint that Prometheus scrapes."""
    routes = APIRouter(tags=["health"])

    @routes.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def read(request: Request) -> Response:
        """In Prometheus's text format, or in OpenMetrics' where `Accept` asks for it."""
        encode, media_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(metrics.registry), headers={"Content-Type": media_type})

    return routes
