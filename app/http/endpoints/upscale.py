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
from app.service import Answer, UpscaleService, Wanted

Result = TypeVar("Result")


class Parameters(BaseModel):
    """Parameters of a request, in the query or as form fields."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="Which model; the service's default one if absent.")
    scale: float | None = Field(
        default=None, ge=1, description="Factor of the answer, at most the model's own, which it is if absent."
    )
    format: Literal["png", "webp", "jpeg"] | None = Field(
        default=None, description="Format of the answer; if absent, the header Accept chooses."
    )
    quality: int | None = Field(
        default=None, ge=1, le=100, description="Of JPEG (95 if absent) and WebP (lossless if absent or 100)."
    )
    metadata: MetadataRule = Field(
        default="keep", description="Whether EXIF, XMP and resolution stay; `keep` drops the place where it was taken."
    )
    fidelity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Where the model is one of a pair: 1 invents nothing, 0 is sharpest, steps of 0.05 between.",
    )
    colour_lock: bool = Field(default=False, description="Keep the colours of large areas exactly as in the upload.")
    ensemble: bool = Field(
        default=False, description="The mean over the picture's eight turns, at eight times the cost."
    )

    def with_form(self, upload: Upload) -> "Parameters":
        """Add the parameters of a form, which override those of the query.

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
    """The endpoint that upscales."""
    routes = APIRouter(prefix="/v1", tags=["upscale"])
    limits = UploadLimits(
        most_bytes=life.settings.max_upload_bytes,
        whole_s=life.settings.upload_s,
        idle_s=life.settings.upload_idle_s,
        bytes_per_s=life.settings.upload_bytes_per_s,
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
        until_answered: Annotated[AsyncExitStack, Depends(_until_answered)],
    ) -> Response:
        """Send the picture as the multipart field `image` or as the raw body; its content says which format it has."""
        _check_given_once(request)
        service = life.service
        with_upload = until_answered.enter_context(service.uploads.hold())
        upload = await read_upload(request, limits, with_upload)
        asked = query.with_form(upload)
        formats = [FORMATS[asked.format]] if asked.format else accepted_formats(_accept(request))
        beginning = _begun(until_answered, service, upload, asked, formats, request.state.deadline_s)
        answer = await _while_connected(request, beginning)
        return await _while_connected(request, _response(answer, life.settings.max_buffered_bytes))

    return routes


async def _begun(
    held: AsyncExitStack,
    service: UpscaleService,
    upload: Upload,
    asked: Parameters,
    formats: Sequence[AnswerFormat],
    deadline_s: float,
) -> Answer:
    """Put the picture to work; what that takes is held until the stack is closed."""
    network = await held.enter_async_context(service.library.lease(asked.model, asked.fidelity, deadline_s=deadline_s))
    model = network.info
    if asked.scale and asked.scale > model.scale:
        raise Unprocessable(
            f"scale = {asked.scale:g}: {model.name} upscales by {model.scale}; ask for 1 to {model.scale}"
        )
    wanted = Wanted(
        scale=asked.scale,
        formats=formats,
        quality=asked.quality,
        metadata=asked.metadata,
        colour_lock=asked.colour_lock,
        ensemble=asked.ensemble,
    )
    upscaling = service.upscale(upload.picture, network, wanted, deadline_s=deadline_s)
    return await held.enter_async_context(upscaling)


def _check_given_once(request: Request) -> None:
    """Refuse a query with two values for one parameter; which of them counts would be a guess."""
    names = [name for name, _ in request.query_params.multi_items()]
    if twice := next((name for name, times in Counter(names).items() if times > 1), None):
        raise BadRequest(f"the parameter {twice[:100]!r} is given more than once; give it once")


def _accept(request: Request) -> str:
    return ", ".join(request.headers.getlist("accept"))


async def _until_answered() -> AsyncIterator[AsyncExitStack]:
    """What is held for a request until the last byte of its answer has been sent."""
    async with AsyncExitStack() as held:
        yield held


async def _response(answer: Answer, most_bytes: int) -> Response:
    """The whole answer with its length and tag; or, as soon as it has more than so many bytes, as a stream."""
    pieces: list[bytes] = []
    size_bytes = 0
    async for piece in answer.pieces:
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > most_bytes:
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
        # What it holds can be let go of only when it has stopped.
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the caller has left; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
