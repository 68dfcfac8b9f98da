"""POST /v1/upscale: a picture in, its upscaled PNG out."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from app.errors import Unprocessable
from app.http.upload import FIELD, Upload, read_upload
from app.lifecycle import Lifecycle
from app.service import Answer, UpscaleService

Result = TypeVar("Result")


class Parameters(BaseModel):
    """What a caller may ask for, in the query or as form fields."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="Which model; the service's default one if absent.")
    scale: int | None = Field(default=None, description="The model's own scale, if given.")
    format: Literal["png"] = Field(default="png", description="Format of the answer.")

    def with_form(self, upload: Upload) -> "Parameters":
        """These parameters of the query, and those of the form over them.

        Raises:
            RequestValidationError: a form field is unknown or out of its range.
        """
        try:
            return Parameters.model_validate(self.model_dump(exclude_unset=True) | dict(upload.parameters))
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM_FIELDS = {FIELD: _BINARY["schema"]} | Parameters.model_json_schema()["properties"]
_FORM = {"schema": {"type": "object", "required": [FIELD], "properties": _FORM_FIELDS}}
_ACCEPTED = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/bmp", "image/gif")


def upscale_routes(life: Lifecycle) -> APIRouter:
    """The endpoint that upscales."""
    routes = APIRouter(prefix="/v1", tags=["upscale"])

    @routes.post(
        "/upscale",
        summary="Upscale a picture",
        response_class=Response,
        responses={200: {"description": "The upscaled picture", "content": {"image/png": _BINARY}}},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": _FORM} | dict.fromkeys(_ACCEPTED, _BINARY),
            }
        },
    )
    async def upscale(request: Request, query: Annotated[Parameters, Query()]) -> Response:
        """Send the picture as the multipart field `image` or as the raw body; its format is told by its content."""
        service = life.service
        upload = await read_upload(request, service.settings.max_upload_bytes)
        asked = query.with_form(upload)
        return _response(await _while_connected(request, _upscaled(service, upload, asked)))

    return routes


async def _upscaled(service: UpscaleService, upload: Upload, asked: Parameters) -> Answer:
    async with service.library.lease(asked.model) as network:
        model = network.info
        if asked.scale not in (None, model.scale):
            raise Unprocessable(f"scale = {asked.scale}: {model.name} upscales by {model.scale}; leave scale out")
        return await service.upscale(upload.picture, network)


def _response(answer: Answer) -> Response:
    timings = ", ".join(f"{stage};dur={seconds * 1000:.1f}" for stage, seconds in answer.timings_s.items())
    headers = {"X-Model": answer.model.version, "Server-Timing": timings}
    return Response(answer.png, media_type="image/png", headers=headers)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work, and cancel it when the caller leaves: FastAPI itself would go on.

    Raises:
        ClientDisconnect: the caller left.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the caller has left; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
