"""POST /v1/upscale: a picture in, its upscaled version out."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from app.errors import BadRequest, Unprocessable
from app.http.accept import accepted_formats
from app.http.form import FIELD
from app.http.openapi import PICTURE_HEADERS, PREFER, UPSCALE, problems
from app.http.upload import Upload, UploadLimits, read_upload
from app.lifecycle import Lifecycle
from app.pictures.encode import FORMATS, AnswerFormat
from app.pictures.metadata import MetadataRule
from app.record import current_record
from app.service import Answer, UpscaleOptions, UpscaleService

Result = TypeVar("Result")


class Parameters(BaseModel):
    """Parameters of a request, in the query or as form fields."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="Name of the model; by default the service's default model.")
    scale: float | None = Field(
        default=None, ge=1, description="Factor of the answer, from 1 to the model's own, which is the default."
    )
    format: Literal["png", "webp", "jpeg"] | None = Field(
        default=None, description="Format of the answer; by default chosen from the `Accept` header."
    )
    quality: int | None = Field(
        default=None, ge=1, le=100, description="Quality of JPEG (default 95) and WebP (default, and 100: lossless)."
    )
    metadata: MetadataRule = Field(
        default="keep",
        description="EXIF, XMP and resolution: `keep` all but the location, `keep-gps` keep all, or `strip` them.",
    )
    fidelity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="For a model that is one of a pair: 1 invents nothing, 0 is sharpest; in steps of 0.05.",
    )
    colour_lock: bool = Field(default=False, description="Keep the colours of large areas exactly as in the upload.")
    ensemble: bool = Field(
        default=False, description="Return the mean over the picture's eight turns, at eight times the cost."
    )

    def with_form(self, upload: Upload) -> "Parameters":
        """Add the parameters of a form, which override those of the query.

        Raises:
            RequestValidationError: a form field is unknown or out of range.
        """
        try:
            return Parameters.model_validate(self.model_dump(exclude_unset=True) | dict(upload.parameters))
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM_FIELDS = {FIELD: _BINARY["schema"]} | Parameters.model_json_schema()["properties"]
_FORM = {"schema": {"type": "object", "required": [FIELD], "properties": _FORM_FIELDS}}
_ACCEPTED = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/tiff",
    "image/bmp",
    "image/gif",
    "image/avif",
    "image/heic",
)
_ANSWERS = {form.media_type: _BINARY for form in FORMATS.values()}


def upscale_routes(life: Lifecycle) -> APIRouter:
    """Make the endpoint that upscales."""
    routes = APIRouter(prefix="/v1", tags=["upscale"])
    limits = UploadLimits(
        max_bytes=life.settings.max_upload_bytes,
        whole_s=life.settings.upload_s,
        idle_s=life.settings.upload_idle_s,
        min_bytes_per_s=life.settings.upload_bytes_per_s,
    )

    @routes.post(
        "/upscale",
        summary="Upscale a picture",
        response_class=Response,
        responses={
            200: {"description": "The upscaled picture", "content": _ANSWERS, "headers": PICTURE_HEADERS},
            **problems(UPSCALE),
        },
        openapi_extra={
            "parameters": [PREFER],
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": _FORM} | dict.fromkeys(_ACCEPTED, _BINARY),
            },
        },
    )
    async def upscale(
        request: Request,
        query: Annotated[Parameters, Query()],
        scope: Annotated[AsyncExitStack, Depends(_request_scope)],
    ) -> Response:
        """Send the picture as the multipart field `image` or as the raw body; its format is read from its content."""
        _check_given_once(request)
        service = life.service
        reservation = scope.enter_context(service.uploads.reserve())
        upload = await read_upload(request, limits, reservation)
        parameters = query.with_form(upload)
        accept = ", ".join(request.headers.getlist("accept"))
        formats = [FORMATS[parameters.format]] if parameters.format else accepted_formats(accept)
        start = _start(scope, service, upload, parameters, formats, request.state.deadline_s)
        answer = await _while_connected(request, start)
        return await _while_connected(request, _response(answer, life.settings.max_buffered_bytes))

    return routes


async def _request_scope() -> AsyncIterator[AsyncExitStack]:
    """Provide a stack for everything that a request holds until the last byte of its answer has been sent."""
    async with AsyncExitStack() as stack:
        yield stack


async def _start(
    scope: AsyncExitStack,
    service: UpscaleService,
    upload: Upload,
    parameters: Parameters,
    formats: Sequence[AnswerFormat],
    deadline_s: float,
) -> Answer:
    """Start the work on a picture; cheap checks come first, so that only a picture can make a network load."""
    current_record().model = service.library.find(parameters.model).name
    header = await service.read_header(upload.picture)
    lease = service.library.lease(parameters.model, parameters.fidelity, deadline_s=deadline_s)
    network = await scope.enter_async_context(lease)
    model = network.info
    if parameters.scale and parameters.scale > model.scale:
        raise Unprocessable(
            f"scale = {parameters.scale:g}: {model.name} upscales by {model.scale}; ask for 1 to {model.scale}"
        )
    options = UpscaleOptions(
        scale=parameters.scale,
        formats=formats,
        quality=parameters.quality,
        metadata=parameters.metadata,
        colour_lock=parameters.colour_lock,
        ensemble=parameters.ensemble,
    )
    upscaling = service.upscale(upload.picture, header, network, options, deadline_s=deadline_s)
    return await scope.enter_async_context(upscaling)


def _check_given_once(request: Request) -> None:
    """Refuse a query with two values for one parameter, rather than guess which one counts."""
    names = [name for name, _ in request.query_params.multi_items()]
    if repeated := next((name for name, times in Counter(names).items() if times > 1), None):
        raise BadRequest(f"the parameter {repeated[:100]!r} is given more than once; give it once")


async def _response(answer: Answer, max_bytes: int) -> Response:
    """Return the whole answer with its length and ETag; or a stream as soon as it exceeds `max_bytes`."""
    pieces: list[bytes] = []
    size_bytes = 0
    async for piece in answer.pieces:
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            streamed = _chained(pieces, answer.pieces)
            return StreamingResponse(streamed, media_type=answer.format.media_type, headers=_headers(answer))
    body = b"".join(pieces)
    headers = _headers(answer) | {"ETag": f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'}
    return Response(body, media_type=answer.format.media_type, headers=headers)


def _headers(answer: Answer) -> dict[str, str]:
    timings = ", ".join(f"{stage};dur={seconds * 1000:.1f}" for stage, seconds in answer.timings_s().items())
    headers = {"X-Model": answer.model.version, "Server-Timing": timings, "Vary": "Accept"}
    return headers | ({"X-Frames": f"1 of {answer.frames}"} if answer.frames > 1 else {})


async def _chained(first: Sequence[bytes], more: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    for piece in first:
        yield piece
    async for piece in more:
        yield piece


async def _while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work, and cancel it when the caller disconnects, which FastAPI itself does not do.

    Raises:
        ClientDisconnect: the caller left.
    """
    task = asyncio.create_task(work)
    disconnect = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        disconnect.cancel()
        # Wait until both have really stopped, before what they use is released.
        await asyncio.gather(task, disconnect, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the caller has left; call it only after the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
