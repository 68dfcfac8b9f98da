"""Jobs for tests of the table."""

from functools import partial

from app.jobs import ledger
from app.jobs.claims import Claim, claim, end
from app.jobs.database import Database
from app.jobs.job import JobState, NewJob, NewPicture, Result, StoredJob, new_job_id
from app.jobs.ledger import JobLimits

TTL_S = 100.0
LEASE_S = 10.0
NO_LIMITS = JobLimits(max_waiting=10**6, max_bytes=10**12)


def new_job(
    *, key: str = "", pictures: int = 1, idempotency: str = "", fingerprint: str = "", webhook: str = "", size: int = 10
) -> NewJob:
    job_id = new_job_id()
    names = [f"{job_id}/upload-{number}" for number in range(1, pictures + 1)]
    return NewJob(
        id=job_id,
        key_name=key,
        request={"model": None},
        pictures=[NewPicture(upload_name=name, upload_bytes=size, cost_px=100) for name in names],
        idempotency_key=idempotency,
        fingerprint=fingerprint,
        webhook=webhook,
        webhook_events=["job.done", "job.failed", "job.cancelled"],
    )


async def added(database: Database, job: NewJob | None = None, limits: JobLimits = NO_LIMITS) -> StoredJob:
    stored, _ = await database.write(partial(ledger.add, job=job or new_job(), limits=limits))
    return stored


async def claimed(database: Database, owner: str = "a", *, idle: bool = True) -> Claim | None:
    return await database.write(partial(claim, owner=owner, lease_s=LEASE_S, ttl_s=TTL_S, idle=idle))


async def taken(database: Database, owner: str = "a") -> Claim:
    held = await claimed(database, owner)
    assert held is not None
    return held


async def ended(database: Database, held: Claim, state: JobState = JobState.DONE) -> JobState | None:
    result = Result(name=held.result_name, size_bytes=40, etag='"e"', media_type="image/png", model="tiny@1")
    change = partial(end, claim=held, state=state, ttl_s=TTL_S, result=result if state is JobState.DONE else None)
    return await database.write(change)


async def read(database: Database, job_id: str) -> StoredJob:
    return await database.read(partial(ledger.find, job_id=job_id))
