"""GET /v1/models: what can be asked for."""

from fastapi import APIRouter
from pydantic import BaseModel

from app.lifecycle import Lifecycle


class ModelEntry(BaseModel):
    """One model that serves."""

    name: str
    sha256: str
    scale: int
    state: str
    device: str
    precision: str
    metrics: dict[str, dict[str, float]]


class ModelList(BaseModel):
    """All models, and which one serves requests that name none."""

    default: str
    models: list[ModelEntry]


def model_routes(life: Lifecycle) -> APIRouter:
    """The endpoint that lists models."""
    routes = APIRouter(prefix="/v1", tags=["models"])

    @routes.get("/models", summary="List the models")
    async def models() -> ModelList:
        service = life.service
        entries = [
            ModelEntry(
                name=model.name,
                sha256=model.sha256,
                scale=model.scale,
                state="ready",
                device=model.device,
                precision=model.precision,
                metrics={name: dict(measures) for name, measures in model.metrics.items()},
            )
            for model in service.models.values()
        ]
        return ModelList(default=service.settings.default_model, models=entries)

    return routes
