"""The table of jobs: accepted once, within limits, seen by their key, removed in time."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from app.access.keys import KeyLimits
from app.errors import IdempotencyMismatch, KeyLimit, NoSuchJob, QueueFull, ServiceError, StorageFull
from app.jobs import ledger, pages
from app.jobs.claims import renew
from app.jobs.database import Database
from app.jobs.job import JobState, NewPicture
from app.jobs.ledger import JobLimits
from app.jobs.submission import Submission
from app.upscaling import UpscaleRequest
from tests.app.jobs.rows import LEASE_S, TTL_S, added, claimed, ended, new_job, read, taken
from tests.clock import ManualClock

pytestmark = pytest.mark.anyio


async def test_a_job_is_read_as_it_was_accepted(database: Database) -> None:
    job = await added(database, new_job(key="shop", pictures=2))
    assert (job.state, job.key_name, len(job.pictures)) == (JobState.WAITING, "shop", 2)
    assert await read(database, job.id) == job


async def test_a_job_of_another_key_is_not_there(database: Database) -> None:
    job = await added(database, new_job(key="shop"))
    with pytest.raises(NoSuchJob, match=job.id):
        await database.read(partial(ledger.find, job_id=job.id, key_name="other"))


async def test_an_idempotency_key_returns_the_first_job_however_many_come_at_once(database: Database) -> None:
    jobs = [new_job(key="shop", idempotency="order-1", fingerprint="f") for _ in range(20)]
    stored = await asyncio.gather(*(added(database, job) for job in jobs))
    assert len({job.id for job in stored}) == 1
    assert len((await database.read(partial(pages.page, key_name="shop")))[0]) == 1


async def test_an_idempotency_key_with_another_request_is_refused(database: Database) -> None:
    first = await added(database, new_job(key="shop", idempotency="order-1", fingerprint="f"))
    with pytest.raises(IdempotencyMismatch, match=first.id):
        await added(database, new_job(key="shop", idempotency="order-1", fingerprint="g"))
    other = await added(database, new_job(key="other", idempotency="order-1", fingerprint="g"))
    assert other.id != first.id


@pytest.mark.parametrize(
    "change",
    [
        {"request": UpscaleRequest(fidelity=0.5)},
        {"pictures": [b"first", b"other"]},
        {"pictures": [b"second", b"first"]},
        {"sources": ["https://a.example/b.png"]},
        {"targets": ["https://a.example/b.png"]},
        {"webhook": "https://a.example/hook"},
        {"webhook_events": ["job.done"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_a_job_changes_its_fingerprint(change: dict[str, Any]) -> None:
    job = Submission(key_name="shop", request=UpscaleRequest(), pictures=[b"first", b"second"])
    assert replace(job, **change).fingerprint != job.fingerprint
    assert replace(job, request_id="2", idempotency_key="2", names=["a.png"]).fingerprint == job.fingerprint


@pytest.mark.parametrize(
    ("limits", "error", "text"),
    [
        (JobLimits(max_waiting=2, max_bytes=1000), QueueFull, "ESRGAN_JOBS_WAITING=2"),
        (JobLimits(max_waiting=9, max_bytes=25), StorageFull, "limit is 25"),
        (JobLimits(max_waiting=9, max_bytes=1000, of_key=KeyLimits(jobs=2)), KeyLimit, "jobs=2"),
        (JobLimits(max_waiting=9, max_bytes=1000, of_key=KeyLimits(job_bytes=25)), KeyLimit, "job_bytes=25"),
    ],
)
async def test_limits_hold_however_many_come_at_once(
    database: Database, limits: JobLimits, error: type[ServiceError], text: str
) -> None:
    adding = [added(database, new_job(key="shop"), limits) for _ in range(10)]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 8
    for refusal in refused:
        assert isinstance(refusal, error)
        assert text in str(refusal)


async def test_a_job_is_refused_where_no_result_would_have_room(database: Database) -> None:
    limits = JobLimits(max_waiting=9, max_bytes=1000)
    await added(database, new_job(size=990), limits)
    source = replace(new_job(), pictures=[NewPicture(source="https://a.example/b.png")])
    await added(database, source, limits)
    await added(database, new_job(size=1), limits)
    with pytest.raises(StorageFull, match="hold 991 bytes and this one needs 10; the limit is 1000"):
        await added(database, replace(source, id="job_later"), limits)


async def test_limits_of_a_key_leave_others_alone(database: Database) -> None:
    limits = JobLimits(max_waiting=9, max_bytes=1000, of_key=KeyLimits(jobs=1, job_bytes=15))
    await added(database, new_job(key="shop"), limits)
    await added(database, new_job(key="other"), limits)


async def test_pages_go_from_the_newest_to_the_oldest(database: Database) -> None:
    jobs = sorted([(await added(database, new_job(key="shop"))).id for _ in range(5)], reverse=True)
    first, more = await database.read(partial(pages.page, key_name="shop", limit=3))
    assert more
    rest, more = await database.read(partial(pages.page, key_name="shop", limit=3, before=first[-1].id))
    assert not more
    assert [job.id for job in [*first, *rest]] == jobs
    assert await database.read(partial(pages.page, key_name="shop", state=JobState.DONE)) == ([], False)


async def test_a_page_of_jobs_with_much_to_tell_is_shorter_but_never_empty(database: Database) -> None:
    many = [NewPicture(source="https://a.example/" + "b" * 4000)] * 100
    jobs = sorted([(await added(database, replace(new_job(), pictures=many))).id for _ in range(5)], reverse=True)
    read, more = list[str](), True
    while more:
        page, more = await database.read(partial(pages.page, key_name="", before=min(read, default="")))
        assert 1 <= len(page) <= 2
        read += [job.id for job in page]
    assert read == jobs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_BYTES", 1)
        page, more = await database.read(partial(pages.page, key_name=""))
    assert (len(page), more) == (1, True)


async def test_a_cancelled_job_is_never_claimed(database: Database) -> None:
    job = await added(database, new_job(pictures=2))
    files = await database.write(partial(ledger.cancel, job=job, ttl_s=TTL_S))
    assert (await read(database, job.id)).state is JobState.CANCELLED
    assert len(files) == 2
    assert await claimed(database) is None


async def test_cancelling_an_ended_job_removes_it(database: Database) -> None:
    job = await added(database)
    held = await taken(database)
    await ended(database, held)
    assert held.result_name in await database.write(partial(ledger.cancel, job=job, ttl_s=TTL_S))
    with pytest.raises(NoSuchJob):
        await read(database, job.id)


async def test_a_job_expires_only_some_time_after_its_end(database: Database, clock: ManualClock) -> None:
    job = await added(database)
    clock.now_s += 10 * TTL_S
    assert (await database.write(ledger.expire))[0] == 0
    held = await taken(database)
    await ended(database, held)
    clock.now_s += TTL_S - 1
    assert (await database.write(ledger.expire))[0] == 0
    clock.now_s += 2
    removed, files = await database.write(ledger.expire)
    assert removed == 1
    assert set(files) == {job.pictures[0].upload_name, held.result_name}
    assert await database.read(partial(ledger.known_files, job_ids=[job.id])) == set()


async def test_totals_tell_states_age_and_bytes(database: Database, clock: ManualClock) -> None:
    for _ in range(3):
        await added(database)
    await ended(database, await taken(database))
    clock.now_s += 7
    totals = await database.read(ledger.totals)
    assert totals.jobs == {"waiting": 2, "done": 1}
    assert totals.oldest_waiting_s == 7
    assert totals.stored_bytes == 2 * 10 + 40


async def test_what_is_ahead_of_a_job_is_what_came_before_it_or_runs(database: Database) -> None:
    jobs = [await added(database, new_job(pictures=2)) for _ in range(3)]
    jobs.sort(key=lambda job: job.id)
    ahead = await database.read(partial(ledger.ahead_of, job=jobs[1]))
    assert (ahead.pictures, ahead.px) == (2, {"": 400})


async def test_of_a_picture_that_runs_only_the_rest_is_ahead(database: Database) -> None:
    job = await added(database)
    held = await taken(database)
    await database.write(partial(renew, claim=held, lease_s=LEASE_S, progress=0.75))
    assert (await database.read(partial(ledger.ahead_of, job=job))).px == {"": 25}
