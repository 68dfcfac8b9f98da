"""A job as server-sent events (WHATWG HTML, section 9.2)."""

import json
from collections.abc import AsyncGenerator

from fastapi import Request, Response

from app.errors import NoSuchJob
from app.http.fields import whole_number
from app.http.middleware.paths import prefix_of
from app.http.streaming import ClosedStream
from app.jobs.job import ENDED, StoredJob
from app.jobs.service import JobService

PING_S = 15.0
"""Interval between comments that keep proxies from closing a quiet stream."""

RECONNECT_MS = 1000


def event_stream(jobs: JobService, job: StoredJob, request: Request) -> Response:
    """Return the stream of a job's events; 204, which stops reconnecting, if the caller has seen the last one."""
    last = whole_number(request.headers.get("last-event-id", ""))
    is_seen = last is not None and last >= job.version
    if job.state in ENDED and is_seen:
        return Response(status_code=204)
    return ClosedStream(
        _events(jobs, job, prefix_of(request), is_seen=is_seen),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _events(jobs: JobService, job: StoredJob, prefix: str, *, is_seen: bool) -> AsyncGenerator[str, None]:
    """Yield events until the job has ended or the service stops.

    Events are not stored: each describes the whole job, so a watcher that missed some needs only the next one.
    """
    yield f"retry: {RECONNECT_MS}\n\n"
    sent = (job.state, job.progress) if is_seen else None
    with jobs.watch.changes(job.id) as event:
        while True:
            if sent is None or job.state is not sent[0]:
                view = await jobs.view(job, prefix)
                yield _event("state", job.version, view.model_dump(mode="json"))
            elif job.progress != sent[1]:
                yield _event("progress", job.version, {"id": job.id, "progress": round(job.progress, 4)})
            sent = (job.state, job.progress)
            if job.state in ENDED or jobs.watch.closed:
                return
            if not await jobs.changed(job, event, PING_S):
                yield ": still here\n\n"
            try:
                job = await jobs.get(job.id, None)
            except NoSuchJob:
                return  # it has ended, and was removed


def _event(name: str, version: int, data: object) -> str:
    return f"id: {version}\nevent: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
