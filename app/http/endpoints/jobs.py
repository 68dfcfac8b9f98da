"""/v1/jobs/...: read, watch, cancel and fetch jobs."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.access.keys import Role
from app.errors import NoSuchJob
from app.http.auth import key_of
from app.http.conditional import check_match
from app.http.events import event_stream
from app.http.middleware.paths import prefix_of
from app.http.openapi import (
    CHANGE,
    CONTENT_RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_RANGE,
    JOB,
    LAST_EVENT_ID,
    RANGE,
    RESULT,
    STORED_HEADERS,
    Responses,
    problems,
)
from app.http.receiving import BINARY, check_given_once
from app.http.results import result_response, zip_response
from app.jobs.job import JobState, StoredJob
from app.jobs.outbox import Delivery
from app.jobs.view import JobView
from app.lifecycle import Lifecycle
from app.pictures.encode import FORMATS
from app.record import current_record

ID = r"^[!-~]*$"
"""Pattern of ids: PostgreSQL does not support NUL in text."""

JobId = Annotated[str, Path(max_length=64, pattern=ID, description="Id of the job.")]
PictureNumber = Annotated[int, Path(ge=1, le=1000, description="Number of the picture in the job, from 1.")]
WebhookId = Annotated[str, Path(max_length=64, pattern=ID, description="Id of the webhook.")]
CONDITIONS = [IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE]
RESULTS = {form.media_type: BINARY for form in FORMATS.values()}
RESULT_ANSWERS: Responses = {
    200: {"description": "The upscaled picture", "content": RESULTS, "headers": STORED_HEADERS},
    206: {
        "description": "The part of it that `Range` asks for",
        "content": RESULTS,
        "headers": STORED_HEADERS | CONTENT_RANGE,
    },
    304: {"description": "`If-None-Match` names the result", "headers": STORED_HEADERS},
}
WITH_ZIP: Responses = {
    **RESULT_ANSWERS,
    200: {**RESULT_ANSWERS[200], "content": RESULTS | {"application/zip": BINARY}},
}


class PageQuery(BaseModel):
    """Which jobs are listed."""

    model_config = ConfigDict(extra="forbid")

    state: JobState | None = Field(default=None, description="Only jobs in this state are listed.")
    before: str = Field(default="", max_length=64, pattern=ID, description="Id of a job: only older ones are listed.")
    limit: int = Field(
        default=20, ge=1, le=100, description="Maximum jobs on a page; those with many pictures are fewer."
    )


class JobList(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobView] = Field(description="Without their places in the queue.")
    next: str | None = Field(description="Address of the next page; null on the last one.")


class AttemptView(BaseModel):
    """An attempt to deliver a webhook."""

    at: datetime
    status: int | None = Field(description="Of the receiver's answer; null where there was none.")
    error: str | None = Field(description="Why there was none.")
    seconds: float


class WebhookView(BaseModel):
    """A webhook and the attempts to deliver it."""

    id: str = Field(description="The header `webhook-id` of every attempt.")
    event: str
    state: str = Field(description="`waiting`, `delivered` or `failed`.")
    attempts: list[AttemptView]

    @classmethod
    def of(cls, delivery: Delivery) -> "WebhookView":
        """Describe a delivery."""
        attempts = [AttemptView.model_validate(attempt) for attempt in delivery.attempts]
        return cls(id=delivery.id, event=delivery.event, state=delivery.state, attempts=attempts)


class WebhookList(BaseModel):
    """The webhooks of a job, in order."""

    webhooks: list[WebhookView]


EVENT_ANSWERS: Responses = {
    200: {
        "description": "Server-sent events: `state` with the job, `progress` with its progress",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The job has ended, and `Last-Event-ID` names its last event"},
}


async def _counted(request: Request) -> AsyncIterator[None]:
    """Count a request that may last as long as the caller reads.

    Raises:
        KeyLimit: the key has too many such requests.
    """
    with request.state.long_lived():
        yield


def job_routes(life: Lifecycle) -> APIRouter:
    """Make the endpoints of accepted jobs."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @routes.get("", summary="List your jobs", responses=problems(JOB), dependencies=[Depends(_counted)])
    async def page(request: Request, query: Annotated[PageQuery, Query()]) -> JobList:
        """Lists the jobs of the caller's key; an operator's key lists all."""
        check_given_once(request)
        state, limit, prefix = query.state, query.limit, prefix_of(request)
        jobs, more = await life.jobs.page(_key_name(request), state=state, before=query.before, limit=limit)
        wanted = f"&state={state.value}" if state else ""
        address = f"{prefix}/v1/jobs?limit={limit}&before={jobs[-1].id}{wanted}" if more else None
        return JobList(jobs=[JobView.of(job, prefix) for job in jobs], next=address)

    @routes.get("/{job_id}", summary="Read a job", responses=problems(JOB))
    async def read(request: Request, job_id: JobId) -> JobView:
        """Returns state, progress, place in the queue, and results or problems of a job and of each of its pictures."""
        return await life.jobs.view(await _job_of(life, request, job_id), prefix_of(request))

    @routes.delete(
        "/{job_id}",
        summary="Cancel or remove a job",
        status_code=204,
        responses=problems(CHANGE),
        openapi_extra={"parameters": [IF_MATCH]},
    )
    async def remove(request: Request, job_id: JobId) -> None:
        """Cancels a job that has not ended, within one band of rows; removes one that has, with its results."""
        job = await _job_of(life, request, job_id)
        check_match(request)
        await life.jobs.cancel(job)

    @routes.get(
        "/{job_id}/events",
        summary="Watch a job",
        response_class=Response,
        responses={**EVENT_ANSWERS, **problems(JOB)},
        openapi_extra={"parameters": [LAST_EVENT_ID]},
        dependencies=[Depends(_counted)],
    )
    async def events(request: Request, job_id: JobId) -> Response:
        """Sends an event for each change until the job has ended; every event describes the whole job."""
        job = await _job_of(life, request, job_id)
        request.state.lift_deadline()
        return event_stream(life.jobs, job, request)

    _add_results(routes, life)
    _add_webhooks(routes, life)
    return routes


def _add_results(routes: APIRouter, life: Lifecycle) -> None:
    @routes.get(
        "/{job_id}/result",
        summary="Fetch the result",
        response_class=Response,
        responses={**WITH_ZIP, **problems(RESULT)},
        openapi_extra={"parameters": CONDITIONS},
        dependencies=[Depends(_counted)],
    )
    async def result(request: Request, job_id: JobId) -> Response:
        """Returns the upscaled picture; of several pictures, a zip file of those that are done."""
        job = await _job_of(life, request, job_id)
        request.state.lift_deadline()
        if len(job.pictures) == 1:
            return await result_response(life.jobs, request, job, 1)
        return await zip_response(life.jobs, request, job)

    @routes.get(
        "/{job_id}/results/{number}",
        summary="Fetch the result of one picture",
        response_class=Response,
        responses={**RESULT_ANSWERS, **problems(RESULT)},
        openapi_extra={"parameters": CONDITIONS},
        dependencies=[Depends(_counted)],
    )
    async def one_result(request: Request, job_id: JobId, number: PictureNumber) -> Response:
        """Returns an upscaled picture as soon as it is done, before the other pictures if need be."""
        job = await _job_of(life, request, job_id)
        request.state.lift_deadline()
        if number > len(job.pictures):
            raise NoSuchJob(f"the job {job.id} has {len(job.pictures)} pictures, and none with the number {number}")
        return await result_response(life.jobs, request, job, number)


def _add_webhooks(routes: APIRouter, life: Lifecycle) -> None:
    @routes.get("/{job_id}/webhooks", summary="Read the log of a job's webhooks", responses=problems(JOB))
    async def webhooks(request: Request, job_id: JobId) -> WebhookList:
        """Returns every webhook with the latest attempts to deliver it."""
        job = await _job_of(life, request, job_id)
        return WebhookList(webhooks=[WebhookView.of(it) for it in await life.jobs.deliveries(job.id)])


def redelivery_routes(life: Lifecycle) -> APIRouter:
    """Make the endpoint that delivers a webhook again; unlike those that read, it counts as a request of the key."""
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @routes.post(
        "/{job_id}/webhooks/{webhook_id}/redeliver",
        summary="Deliver a webhook again",
        status_code=202,
        responses=problems(CHANGE),
        openapi_extra={"parameters": [IF_MATCH]},
    )
    async def redeliver(request: Request, job_id: JobId, webhook_id: WebhookId) -> WebhookView:
        """Delivers a webhook again now; its id stays the same. One that is just being delivered is refused."""
        job = await _job_of(life, request, job_id)
        check_match(request)
        return WebhookView.of(await life.jobs.redeliver(job.id, webhook_id))

    return routes


async def _job_of(life: Lifecycle, request: Request, job_id: str) -> StoredJob:
    """Return a job that the caller may see, and note it in the request's record."""
    current_record().job = job_id[:64]
    return await life.jobs.get(job_id, _key_name(request))


def _key_name(request: Request) -> str | None:
    """Return the name of the caller's key, or None if it may see all jobs."""
    key = key_of(request)
    if key is None:
        return ""
    return None if key.role is Role.OPERATOR else key.name
