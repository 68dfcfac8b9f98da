"""POST /v1/upscale: upscale a picture while the caller waits."""

from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from app.answer import Answer
from app.errors import Unprocessable
from app.http.endpoints.submit import accepted, submit
from app.http.fields import preferences
from app.http.openapi import APPLIED, IDEMPOTENCY_KEY, PICTURE_HEADERS, PREFER, SUBMIT, problems
from app.http.receiving import BINARY, check_given_once, pictures_in, request_scope, upload_limits
from app.http.results import disposition
from app.http.submission import JobParameters
from app.http.upload import FORM, media_type, read_upload
from app.jobs.file_names import name_of_result
from app.lifecycle import Lifecycle
from app.pictures.encode import FORMATS, PNG
from app.pictures.size import Size
from app.pools import Pools
from app.sizing import Urgency
from app.upscaling import UpscaleRequest
from app.waiting import done_before

Result = TypeVar("Result")


ANSWER = "The upscaled picture, in the format that the parameter `format` or else the header `Accept` chooses"
_ANSWERS = {form.media_type: BINARY for form in FORMATS.values()}


def upscale_routes(life: Lifecycle) -> APIRouter:
    """Make the endpoint that upscales."""
    routes = APIRouter(prefix="/v1", tags=["upscale"])
    limits = upload_limits(life.settings)

    @routes.post(
        "/upscale",
        summary="Upscale a picture",
        response_class=Response,
        responses={
            200: {"description": ANSWER, "content": _ANSWERS, "headers": PICTURE_HEADERS},
            202: accepted("The picture was accepted as a job, as `Prefer: respond-async` asked", APPLIED),
            **problems(SUBMIT),
        },
        openapi_extra={
            "parameters": [PREFER, IDEMPOTENCY_KEY],
            "requestBody": {"required": True, "content": pictures_in(JobParameters)},
        },
    )
    async def upscale(
        request: Request,
        query: Annotated[JobParameters, Query()],
        scope: Annotated[AsyncExitStack, Depends(request_scope)],
    ) -> Response:
        """Send the picture as the multipart field `image` or as the raw body; its format is read from its content.

        With `Prefer: respond-async` it becomes a job, which alone has webhooks and an Idempotency-Key.
        """
        if "respond-async" in preferences(request.headers):
            response = await submit(life, request, query, scope, one_picture=True)
            response.status_code = 202  # even if the job was accepted before: 200 means a picture
            response.headers["Preference-Applied"] = "respond-async"
            return response
        check_given_once(request)
        service = life.service
        if media_type(request) != FORM:
            _wanted(request, query).check_model(service)  # before the body is read
        work = await scope.enter_async_context(AsyncExitStack())
        reservation = work.enter_context(service.uploads.reserve())
        upload = await read_upload(request, limits, reservation)
        wanted = _wanted(request, JobParameters.of(query, upload.parameters))
        start = wanted.start(work, service, upload.picture, Urgency(deadline_s=request.state.deadline_s))
        answer = await _while_connected(request, start)
        making = _response(answer, life.settings.max_buffered_bytes, service.pools)
        response = await _while_connected(request, making)
        name = _file_name(upload.name, answer, wanted.options.size)
        response.headers["Content-Disposition"] = disposition("inline", name)
        if not isinstance(response, StreamingResponse):  # the caller may read it slowly
            scope.enter_context(service.pictures.hold(len(response.body)))
            await work.aclose()
        return response

    return routes


def _wanted(request: Request, parameters: JobParameters) -> UpscaleRequest:
    """Return the request of a caller that waits for the picture.

    Raises:
        Unprocessable: a parameter is only possible for jobs, or parameters contradict each other.
        NotAcceptable: the header Accept rules out every format.
    """
    if only := {"webhook", "webhook_events"} & parameters.model_fields_set:
        raise Unprocessable(f"{min(only)}: only jobs have webhooks; send Prefer: respond-async, or use /v1/jobs")
    return parameters.request(", ".join(request.headers.getlist("accept")))


async def _response(answer: Answer, max_bytes: int, pools: Pools) -> Response:
    """Return the whole answer with its length and ETag; or a stream, if a PNG exceeds `max_bytes`."""
    pieces: list[bytes] = []
    size_bytes = 0
    async for piece in answer.pieces:
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > max_bytes and answer.format is PNG:  # other files are encoded as a whole
            streamed = _chained(pieces, answer.pieces)
            return StreamingResponse(streamed, media_type=answer.format.media_type, headers=_headers(answer))
    body = b"".join(pieces)
    digest = await pools.digest(body)
    headers = _headers(answer) | {"ETag": f'"{digest}"'}
    return Response(body, media_type=answer.format.media_type, headers=headers)


def _headers(answer: Answer) -> dict[str, str]:
    timings = ", ".join(f"{stage};dur={seconds * 1000:.1f}" for stage, seconds in answer.timings_s().items())
    headers = {"X-Model": answer.model.version, "Server-Timing": timings, "Vary": "Accept"}
    return {**headers, **answer.notes}


def _file_name(upload: str, answer: Answer, size: Size) -> str:
    """Return the name for saving an answer, which for an upload without one is `picture_x4.png`."""
    return name_of_result(upload, answer, size) or name_of_result("picture", answer, size)


async def _chained(first: Sequence[bytes], more: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    for piece in first:
        yield piece
    async for piece in more:
        yield piece


async def _while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work, and cancel it when the caller disconnects, which FastAPI does not do.

    Raises:
        ClientDisconnect: the caller has left.
    """
    done = await done_before(_disconnected(request), work)
    if done is None:
        raise ClientDisconnect
    return done.result()


async def _disconnected(request: Request) -> None:
    """Return when the caller has left; call it only after the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
