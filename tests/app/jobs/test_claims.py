"""Pictures are claimed once, taken over when a worker dies, ended once, and given up after two deaths."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from app.access.keys import KeyLimits
from app.jobs import ledger
from app.jobs.claims import Claim, Hold, claim, recover, release, renew, reserve
from app.jobs.database import Database
from app.jobs.job import JobState, NewPicture, StoredPicture
from app.jobs.ledger import JobLimits
from tests.app.jobs.rows import LEASE_S, TTL_S, added, claimed, ended, new_job, read, taken
from tests.clock import ManualClock

pytestmark = pytest.mark.anyio

URL = "https://a.example/b.png"


async def recovered(database: Database) -> list[StoredPicture]:
    return await database.write(partial(recover, ttl_s=TTL_S))


async def test_a_picture_is_claimed_once_however_many_want_it(database: Database) -> None:
    for _ in range(10):
        await added(database, new_job(pictures=2))
    claims = await asyncio.gather(*(claimed(database, f"owner{n}") for n in range(30)))
    pictures = [(held.job.id, held.picture.number) for held in claims if held is not None]
    assert len(pictures) == len(set(pictures)) == 20


async def test_jobs_are_claimed_in_the_order_of_their_arrival(database: Database) -> None:
    jobs = sorted([(await added(database)).id for _ in range(5)])
    assert [(await taken(database)).job.id for _ in jobs] == jobs


async def test_jobs_are_claimed_though_the_clock_was_set_back_since_they_arrived(
    database: Database, clock: ManualClock
) -> None:
    job = await added(database)
    clock.now_s -= 3600
    assert (await taken(database)).job.id == job.id


async def test_a_key_with_one_job_does_not_wait_behind_the_many_of_another(database: Database) -> None:
    for _ in range(5):
        await added(database, new_job(key="crowd"))
    await added(database, new_job(key="single"))
    keys = [(await taken(database)).job.key_name for _ in range(3)]
    assert keys == ["crowd", "single", "crowd"]


@pytest.mark.parametrize("picture", [NewPicture(source=URL), NewPicture(upload_name="x", target=URL)])
async def test_pictures_with_urls_wait_where_only_uploads_are_taken(database: Database, picture: NewPicture) -> None:
    await added(database, replace(new_job(key="slow"), pictures=[picture] * 2))
    assert (await taken(database)).uses_urls
    take = partial(claim, owner="a", lease_s=LEASE_S, ttl_s=TTL_S, idle=False, uploads_only=True)
    assert await database.write(take) is None
    await added(database, new_job(key="slow"))
    held = await database.write(take)
    assert held is not None
    assert not held.uses_urls


async def test_a_job_ends_when_its_last_picture_does(database: Database) -> None:
    job = await added(database, new_job(pictures=2))
    first, second = await taken(database), await taken(database)
    await ended(database, first)
    assert (await read(database, job.id)).state is JobState.RUNNING
    await ended(database, second, JobState.FAILED)
    read_again = await read(database, job.id)
    assert read_again.state is JobState.FAILED
    assert [picture.state for picture in read_again.pictures] == [JobState.DONE, JobState.FAILED]
    assert read_again.expires is not None


async def test_a_lease_that_is_renewed_is_kept(database: Database, clock: ManualClock) -> None:
    job = await added(database)
    held = await taken(database)
    for progress in (0.25, 0.5, 0.75):
        clock.now_s += LEASE_S * 0.9
        hold = await database.write(partial(renew, claim=held, lease_s=LEASE_S, progress=progress))
        assert hold is Hold.KEPT
    assert await recovered(database) == []
    assert (await read(database, job.id)).progress == 0.75


async def test_who_asks_for_the_pictures_of_the_dead_is_alive(database: Database, clock: ManualClock) -> None:
    await added(database)
    await taken(database, "a")
    clock.now_s += LEASE_S + 1
    assert await database.write(partial(recover, ttl_s=TTL_S, owner="a")) == []
    assert len(await database.write(partial(recover, ttl_s=TTL_S, owner="b"))) == 1


async def test_the_picture_of_a_dead_worker_is_taken_over_and_the_dead_changes_nothing_more(
    database: Database, clock: ManualClock
) -> None:
    job = await added(database)
    dead = await taken(database, "dead")
    clock.now_s += LEASE_S + 1
    assert len(await recovered(database)) == 1
    alive = await taken(database, "alive")
    assert await database.write(partial(renew, claim=dead, lease_s=LEASE_S, progress=0.5)) is Hold.LOST
    assert await ended(database, dead) is None
    assert not await database.write(partial(release, claim=dead, wait_s=0, ttl_s=TTL_S))
    assert await ended(database, alive) is JobState.DONE
    done = await read(database, job.id)
    assert done.pictures[0].result is not None
    assert done.pictures[0].result.name == alive.result_name != dead.result_name


async def test_a_worker_that_comes_back_late_under_its_own_name_changes_nothing(
    database: Database, clock: ManualClock
) -> None:
    await added(database)
    first = await taken(database, "same")
    clock.now_s += LEASE_S + 1
    await recovered(database)
    second = await taken(database, "same")
    assert await ended(database, first) is None
    assert await ended(database, second) is JobState.DONE


async def test_a_picture_whose_worker_died_runs_alone(database: Database, clock: ManualClock) -> None:
    await added(database)
    await taken(database)
    clock.now_s += LEASE_S + 1
    await recovered(database)
    await added(database)
    assert await claimed(database, idle=False) is None
    assert (await taken(database)).is_suspect


async def test_a_picture_that_killed_two_workers_is_failed_and_its_neighbours_are_done(
    database: Database, clock: ManualClock
) -> None:
    killer, *others = sorted([(await added(database)).id for _ in range(4)])
    for _ in range(4):
        await taken(database)
    clock.now_s += LEASE_S + 1
    assert len(await recovered(database)) == 4
    assert (await taken(database)).job.id == killer
    clock.now_s += LEASE_S + 1
    await recovered(database)
    for _ in others:
        await ended(database, await taken(database))
    assert await claimed(database) is None
    failed = await read(database, killer)
    assert failed.state is JobState.FAILED
    assert failed.pictures[0].problem is not None
    assert failed.pictures[0].problem.type == "job-gave-up"
    assert [(await read(database, job)).state for job in others] == [JobState.DONE] * 3


async def test_results_hold_no_more_bytes_than_the_limits_allow(database: Database) -> None:
    await added(database, new_job(key="shop", pictures=3, size=10))
    first, second, third = [await taken(database) for _ in range(3)]

    async def refusal(held: Claim, size_bytes: int, *, max_bytes: int = 1000, key_bytes: int | None = None) -> str:
        limits = JobLimits(max_waiting=9, max_bytes=max_bytes, of_key=KeyLimits(job_bytes=key_bytes))
        change = partial(reserve, claim=held, size_bytes=size_bytes, limits=limits)
        return type(await database.write(change)).__name__

    assert await refusal(first, 41, key_bytes=60) == "KeyLimit"
    assert await refusal(first, 41, max_bytes=60) == "StorageFull"
    for _ in range(2):  # it is safe to repeat
        assert await refusal(first, 40, key_bytes=60) == "NoneType"
    assert await refusal(second, 11, key_bytes=60) == "KeyLimit"  # although the first has not ended yet
    assert await refusal(second, 10, key_bytes=60) == "NoneType"
    await database.write(partial(release, claim=first, wait_s=0, ttl_s=TTL_S))
    assert await refusal(third, 40, key_bytes=60) == "NoneType"


async def test_a_result_of_a_dead_worker_holds_no_bytes(database: Database, clock: ManualClock) -> None:
    await added(database, new_job(size=10))
    held = await taken(database)
    await database.write(partial(reserve, claim=held, size_bytes=40, limits=JobLimits(max_waiting=9, max_bytes=1000)))
    assert (await database.read(ledger.totals)).stored_bytes == 40
    clock.now_s += LEASE_S + 1
    await recovered(database)
    assert (await database.read(ledger.totals)).stored_bytes == 10


async def test_a_picture_that_is_given_back_waits_and_counts_no_death(database: Database, clock: ManualClock) -> None:
    job = await added(database)
    held = await taken(database)
    await database.write(partial(release, claim=held, wait_s=30, ttl_s=TTL_S))
    assert await claimed(database) is None
    assert (await read(database, job.id)).state is JobState.WAITING
    clock.now_s += 31
    again = await taken(database)
    assert (again.picture.attempts, again.picture.crashes) == (2, 0)


async def test_a_job_that_is_cancelled_while_it_runs_has_no_result(database: Database) -> None:
    job = await added(database)
    held = await taken(database)
    await database.write(partial(ledger.cancel, job=job, ttl_s=TTL_S))
    assert await database.write(partial(renew, claim=held, lease_s=LEASE_S, progress=0.5)) is Hold.CANCELLED
    assert await ended(database, held) is JobState.CANCELLED
    assert (await read(database, job.id)).state is JobState.CANCELLED
    assert (await read(database, job.id)).pictures[0].result is None


async def give_back(database: Database, held: Claim, clock: ManualClock) -> None:
    await database.write(partial(release, claim=held, wait_s=0, ttl_s=TTL_S))


async def die(database: Database, held: Claim, clock: ManualClock) -> None:
    clock.now_s += LEASE_S + 1
    await recovered(database)


async def end_it(database: Database, held: Claim, clock: ManualClock) -> None:
    await ended(database, held)


@pytest.mark.parametrize("leave", [give_back, die, end_it])
async def test_a_picture_whose_job_was_cancelled_ends_however_its_worker_leaves_it(
    database: Database, clock: ManualClock, leave: Callable[[Database, Claim, ManualClock], Awaitable[None]]
) -> None:
    job = await added(database)
    held = await taken(database)
    await database.write(partial(ledger.cancel, job=job, ttl_s=TTL_S))
    await leave(database, held, clock)
    cancelled = await read(database, job.id)
    (picture,) = cancelled.pictures
    assert cancelled.state is picture.state is JobState.CANCELLED
    assert picture.ended == cancelled.ended == clock.now_s
    assert (picture.result, picture.upload_bytes) == (None, 0)
    assert await database.read(partial(ledger.known_files, job_ids=[job.id])) == set()


async def test_an_end_that_is_recorded_again_stays_as_it_was(database: Database) -> None:
    for state in (JobState.DONE, JobState.FAILED):
        await added(database)
        held = await taken(database)
        assert await ended(database, held, state) is state
        assert await ended(database, held, state) is state
