"""GET /v1/models and the reload of a model."""

from collections.abc import Mapping
from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.http.openapi import RELOAD, problems
from app.library.entry import Entry, ModelState
from app.library.fidelity import Pair
from app.lifecycle import Lifecycle
from app.pictures.encode import writable_formats
from app.text import encodable


class FidelityRange(BaseModel):
    """The models at both ends of the parameter `fidelity`."""

    psnr: str = Field(description="Model of fidelity 1: invents nothing.")
    gan: str = Field(description="Model of fidelity 0: sharpest.")


class ModelEntry(BaseModel):
    """A model: facts from its weight file, and its state. Fields known only after loading are null before."""

    name: str
    state: ModelState
    reason: str | None = Field(description="Why it failed; or, for a ready model, why its last change was refused.")
    sha256: str | None
    scale: int | None
    licence: str | None
    metrics: dict[str, dict[str, float]] | None
    device: str | None
    precision: str | None
    memory_bytes: int = Field(description="Memory that it uses now, without open streams.")
    fidelity: FidelityRange | None = Field(description="The pair that `fidelity` blends, if any.")

    @classmethod
    def of(cls, entry: Entry, pair: Pair | None) -> Self:
        """Describe a model to callers."""
        info = entry.info
        return cls(
            name=entry.name,
            state=entry.state,
            reason=entry.reason and encodable(entry.reason),
            sha256=info and info.sha256,
            scale=info and info.scale,
            licence=info and (encodable(info.licence) or None),
            metrics=info and {encodable(name): _encodable(measures) for name, measures in info.metrics.items()},
            device=info and info.device,
            precision=info and info.precision,
            memory_bytes=entry.memory_bytes,
            fidelity=pair and FidelityRange(psnr=pair.psnr, gan=pair.gan),
        )


def _encodable(measures: Mapping[str, float]) -> dict[str, float]:
    return {encodable(name): value for name, value in measures.items()}


class ModelList(BaseModel):
    """All models, and the default one; the formats that answers may have; the limit on uploads."""

    default: str
    models: list[ModelEntry]
    formats: list[str] = Field(
        description="Values of `format`, apart from `same`, that this service has an encoder for."
    )
    max_upload_bytes: int = Field(description="Maximum bytes of a request to `/v1/upscale`, or of a picture of a job.")


def model_routes(life: Lifecycle) -> APIRouter:
    """Make the endpoint that lists models."""
    routes = APIRouter(prefix="/v1", tags=["models"])

    @routes.get("/models", summary="List the models")
    async def models() -> ModelList:
        library = life.service.library
        entries = [ModelEntry.of(entry, library.pair_of(entry.name)) for entry in library.entries()]
        formats = [form.name for form in writable_formats()]
        limit = life.service.settings.max_upload_bytes
        return ModelList(default=library.default, models=entries, formats=formats, max_upload_bytes=limit)

    return routes


def reload_routes(life: Lifecycle) -> APIRouter:
    """Make the endpoint for operators."""
    routes = APIRouter(prefix="/v1", tags=["models"])

    @routes.post("/models/{name}/reload", summary="Reload a model's file", responses=problems(RELOAD))
    async def reload(name: str) -> ModelEntry:
        """Respond once the new version serves; or with 422 and the reason, while the loaded version keeps serving."""
        library = life.service.library
        return ModelEntry.of(await library.reload(name), library.pair_of(name))

    return routes
