"""POST /v1/jobs: accept pictures, answer at once, and upscale them later."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from app.http.middleware.paths import prefix_of
from app.http.openapi import IDEMPOTENCY_KEY, SUBMIT, problems, texts
from app.http.receiving import check_given_once, pictures_in, request_scope, upload_limits
from app.http.submission import JSON, JobDocument, JobParameters, read_submission
from app.jobs.job import StoredJob
from app.jobs.view import JobView
from app.lifecycle import Lifecycle
from app.record import TRACEPARENT, current_record

LOCATION = texts({"Location": "Address of the job."})
RETRY_AFTER = {"Retry-After": {"description": "Predicted seconds until its end.", "schema": {"type": "integer"}}}


def accepted(description: str, more: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Describe the answer to an accepted job for the OpenAPI document.

    Args:
        more: further headers.
    """
    return {"description": description, "model": JobView, "headers": LOCATION | RETRY_AFTER | dict(more)}


def submit_routes(life: Lifecycle) -> APIRouter:
    """Make the endpoint that accepts jobs."""
    routes = APIRouter(prefix="/v1", tags=["jobs"])

    @routes.post(
        "/jobs",
        summary="Send pictures to be upscaled later",
        status_code=202,
        response_class=Response,
        responses={
            202: accepted("The job was accepted, and survives a crash"),
            200: accepted("The job that was accepted before under the Idempotency-Key"),
            **problems(SUBMIT),
        },
        openapi_extra={
            "parameters": [IDEMPOTENCY_KEY],
            "requestBody": {
                "required": True,
                "content": pictures_in(JobParameters, several=True) | {JSON: {"schema": _document_schema()}},
            },
        },
    )
    async def create(
        request: Request,
        query: Annotated[JobParameters, Query()],
        scope: Annotated[AsyncExitStack, Depends(request_scope)],
    ) -> Response:
        """Send pictures as for /v1/upscale, or the URL of each in a JSON document; poll, watch or be called back."""
        return await submit(life, request, query, scope)

    return routes


async def submit(
    life: Lifecycle, request: Request, query: JobParameters, scope: AsyncExitStack, *, one_picture: bool = False
) -> Response:
    """Accept a job; the answer is sent once it is durable.

    Args:
        one_picture: True if the body is one picture; False if it may have several, or URLs.

    Raises:
        ServiceError: see `JobService.submit`.
    """
    check_given_once(request)
    _ = life.jobs.parts  # refuses before the body is read
    settings = life.settings
    limits = upload_limits(settings)
    if not one_picture:
        limits = replace(limits, max_bytes=settings.job_max_upload_bytes, max_pictures=settings.job_max_pictures)
    record = current_record()
    if not TRACEPARENT.fullmatch(record.trace_headers.get("traceparent", "")):
        # Starts a trace that the spans of the request and of the job's pictures share.
        record.trace_headers = {"traceparent": f"00-{uuid4().hex}-{uuid4().hex[:16]}-01"}
    reservation = scope.enter_context(life.service.uploads.reserve())
    submission = await read_submission(
        request, query, limits, reservation, documents=not one_picture, check=life.jobs.check
    )
    job, created = await life.jobs.submit(submission)
    record.job = job.id
    if created:
        record.accepted_px = sum(picture.cost_px for picture in job.pictures)
    return await _answer(life, job, prefix_of(request), status=202 if created else 200)


async def _answer(life: Lifecycle, job: StoredJob, prefix: str, *, status: int) -> Response:
    view = await life.jobs.view(job, prefix)
    headers = {"Location": f"{prefix}/v1/jobs/{job.id}"}
    if view.queue is not None and view.queue.predicted_end is not None:
        headers["Retry-After"] = str(max(1, round((view.queue.predicted_end - datetime.now(UTC)).total_seconds())))
    return JSONResponse(view.model_dump(mode="json"), status_code=status, headers=headers)


def _document_schema() -> dict[str, Any]:
    schema = JobDocument.model_json_schema()
    assert "$defs" not in schema
    return schema
