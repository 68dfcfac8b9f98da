"""The runner with a fake worker: the end of the work is recorded."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from app.access.keys import KeyLimits
from app.errors import DeadlinePassed, NoSuchModel, QueueFull, ServiceError, SourceRefused, StorageFull
from app.jobs import runner as runners
from app.jobs.addresses import AddressRules
from app.jobs.claims import Claim, Hold, claim, end, renew
from app.jobs.counters import JobCounters
from app.jobs.database import DatabaseDown, Session
from app.jobs.folder import FolderStore
from app.jobs.job import JobState, NewPicture, Result, StoredPicture
from app.jobs.ledger import JobLimits, cancel
from app.jobs.outgoing import Outgoing
from app.jobs.runner import Runner
from app.jobs.sqlite import SqliteDatabase
from app.jobs.store import StoreDown, one
from app.jobs.transfer import Transfer
from app.jobs.watch import Watch
from app.jobs.worker import BUSY_WAIT_S, MAX_REFUSALS, OTHER_VERSION_WAIT_S, GivenBack, Worker
from app.lists import hosts_of
from app.record import RequestRecord
from app.service import UpscaleService
from app.settings import Settings
from app.upscaling import OtherVersion, UpscaleRequest
from tests.app.jobs.peer import Peer, Reply, listening
from tests.app.jobs.rows import NO_LIMITS, added, claimed, new_job, read
from tests.app.live import until
from tests.clock import ManualClock

pytestmark = pytest.mark.anyio

LEASE_S = 0.6
Made = TypeVar("Made")


class UnsteadyDatabase(SqliteDatabase):
    """A database that cannot be reached while `down`, hangs until it `answers`, and commits claims once it `may_claim`.

    Its clock is `ahead_s` ahead.
    """

    down = False
    ahead_s = 0.0

    def __init__(self, path: Path) -> None:
        super().__init__(path, lambda: self.clock() + self.ahead_s)
        self.clock: Callable[[], float] = time.time
        self.answers = asyncio.Event()
        self.answers.set()
        self.hanging = 0
        self.may_claim, self.claiming = threading.Event(), threading.Event()
        self.may_claim.set()
        self.done, self.refused = Counter[str](), Counter[str]()
        """Numbers of transactions by the names of their functions."""

    async def write(self, call: Callable[[Session], Made]) -> Made:
        name = cast(Any, call.func if isinstance(call, partial) else call).__name__
        if self.down:
            self.refused[name] += 1
            raise DatabaseDown("gone")
        self.hanging += 1
        await self.answers.wait()
        self.hanging -= 1

        def slowly(session: Session) -> Made:
            made = call(session)
            if isinstance(made, Claim):
                self.claiming.set()
                assert self.may_claim.wait(60)
            return made

        made = await super().write(slowly)
        self.done[name] += 1
        return made

    async def write_by_another(self, call: Callable[[Session], Made]) -> Made:
        """Write as another process, which reaches the database."""
        return await super().write(call)


class UnsteadyStore(FolderStore):
    """A store that refuses the first `refusals` deletions."""

    refusals = 0

    async def delete(self, names: Iterable[str]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreDown("503 Slow Down")
        await super().delete(names)


class Work:
    """Fake `Worker`: stores a result after `after`, or raises `error`; if interrupted, `clean_up_error`."""

    def __init__(self, store: FolderStore) -> None:
        self.after = asyncio.Event()
        self.after.set()
        self.interrupted = asyncio.Event()
        self.error: Exception | None = None
        self.clean_up_error: Exception | None = None
        self.sent = list[str]()
        """Targets that got their results."""
        self.sending = asyncio.Event()
        self.received = asyncio.Event()
        self.received.set()
        self._store = store

    async def result(self, held: Claim, service: UpscaleService, record: RequestRecord) -> Result:
        try:
            await self.after.wait()
        except asyncio.CancelledError:
            self.interrupted.set()
            if self.clean_up_error is not None:
                raise self.clean_up_error from None
            raise
        size_bytes = await self._store.put(held.result_name, one(b"result"))
        if self.error is not None:
            raise self.error
        return Result(name=held.result_name, size_bytes=size_bytes, etag='"e"', media_type="image/png", model="m@1")

    async def send(self, held: Claim, result: Result) -> None:
        self.sending.set()
        await self.received.wait()
        self.sent.append(held.picture.target)


class House:
    """A runner with its dependencies, in a folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.database = UnsteadyDatabase(folder / "jobs.sqlite")
        self.store = UnsteadyStore(folder / "files", min_free_bytes=0)
        self.counters = JobCounters()
        self.service = cast(UpscaleService, SimpleNamespace(scheduler=SimpleNamespace(failure=None)))
        self.work = Work(self.store)
        self.runner = self.another(**settings)

    def another(self, **settings: Any) -> Runner:
        settings = {"job_lease_s": LEASE_S, "jobs_running": 1} | settings
        worker = cast(Worker, self.work)
        return Runner(
            Settings(**settings), self.database, self.store, worker, Watch(), self.counters, lambda name: NO_LIMITS
        )

    async def job(self) -> str:
        job = new_job()
        for picture in job.pictures:
            await self.store.put(picture.upload_name, one(b"upload"))
        return (await added(self.database, job)).id

    async def picture(self, job_id: str) -> StoredPicture:
        return (await read(self.database, job_id)).pictures[0]

    async def until(self, job_id: str, state: JobState) -> StoredPicture:
        """Wait until a picture is in a state, and the runner has done what follows in its memory and its files."""
        async with asyncio.timeout(60):
            while (picture := await self.picture(job_id)).state is not state:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await until(lambda: (job_id in self.running) == (state is JobState.RUNNING))
        return picture

    @property
    def running(self) -> set[str]:
        """Jobs that the runner works on."""
        return {held.job.id for held in self.runner._running.values()}

    async def looks(self, times: int = 2) -> None:
        """Wait until the runner has looked for work that many times more; the first look may have begun before."""
        seen = self.database.done["claim"]
        await until(lambda: self.database.done["claim"] >= seen + times)

    async def refusals(self, name: str, times: int = 2) -> None:
        """Wait until the database has refused that many more transactions of a name."""
        seen = self.database.refused[name]
        await until(lambda: self.database.refused[name] >= seen + times)

    async def files(self) -> list[str]:
        return [file.name.partition("/")[2] for file in await self.store.files()]


@pytest.fixture(autouse=True)
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "POLL_S", 0.05)
    monkeypatch.setattr(runners, "END_RETRY_S", 0.05)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    house.database.down = False
    await house.runner.stop()
    await house.database.close()


@pytest.fixture
def clock(house: House, monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The clock of the runner and of its database, which the test moves: however busy a machine, no lease expires."""
    clock = ManualClock()
    monkeypatch.setattr(runners, "time", SimpleNamespace(monotonic=clock))
    house.database.clock = clock
    return clock


async def test_a_result_is_kept_where_its_upload_cannot_be_deleted(house: House) -> None:
    job_id = await house.job()
    house.store.refusals = 1
    house.runner.start(house.service)
    picture = await house.until(job_id, JobState.DONE)
    assert picture.result is not None
    assert sorted(await house.files()) == ["result-1-1", "upload-1"]
    assert house.counters.ended == {"done": 1}


async def test_a_picture_that_fails_after_its_result_was_stored_leaves_no_file(house: House) -> None:
    house.work.error = QueueFull("full")
    job_id = await house.job()
    house.runner.start(house.service)
    assert (await house.until(job_id, JobState.FAILED)).problem is not None
    assert await house.files() == []


TARGET = NewPicture(source="https://a.example/b.png", target="https://a.example/c.png")


@pytest.mark.parametrize(("max_bytes", "sent"), [(6, [TARGET.target]), (5, [])], ids=["room", "no room"])
async def test_a_result_is_sent_to_its_target_only_if_there_is_room_for_it(
    tmp_path: Path, max_bytes: int, sent: list[str]
) -> None:
    house = House(tmp_path)
    house.runner.limits = lambda name: JobLimits(max_waiting=9, max_bytes=max_bytes)
    job = await added(house.database, replace(new_job(), pictures=[TARGET]))
    house.runner.start(house.service)
    picture = await house.until(job.id, JobState.DONE if sent else JobState.FAILED)
    assert (house.work.sent, picture.problem and picture.problem.type) == (sent, None if sent else "storage-full")
    await house.runner.stop()
    await house.database.close()


async def test_a_job_can_be_cancelled_while_its_result_is_sent_to_its_target(house: House) -> None:
    house.work.received.clear()
    job = await added(house.database, replace(new_job(), pictures=[TARGET]))
    house.runner.start(house.service)
    await house.work.sending.wait()
    await house.database.write(partial(cancel, job=job, ttl_s=100))
    house.runner.cancel(job.id)
    await house.until(job.id, JobState.CANCELLED)
    assert house.work.sent == []


@pytest.mark.parametrize("error", [None, QueueFull("full")], ids=["done", "failed"])
async def test_a_worker_that_has_lost_its_picture_leaves_the_upload_to_the_next(
    house: House, error: Exception | None
) -> None:
    job_id = await house.job()
    house.work.after.clear()
    house.work.error = error
    house.runner.start(house.service)
    await house.until(job_id, JobState.RUNNING)
    house.runner.stop_claiming()
    await house.database.write(lambda session: session.rows("update pictures set owner = 'another'"))
    house.work.after.set()
    await house.runner.idle()
    assert "upload-1" in await house.files()


@pytest.mark.parametrize("error", [None, QueueFull("full"), GivenBack(0.0)], ids=["done", "failed", "given back"])
async def test_an_end_is_recorded_after_a_long_outage_of_the_database(
    house: House, clock: ManualClock, error: Exception | None
) -> None:
    job_id = await house.job()
    house.work.after.clear()
    house.runner.start(house.service)
    await house.until(job_id, JobState.RUNNING)
    house.work.error = error
    house.database.down = True
    house.work.after.set()
    await house.refusals("release" if isinstance(error, GivenBack) else "end" if error else "reserve")
    clock.now_s += 3 * LEASE_S
    await house.refusals("renew")
    house.database.down = False
    house.work.error = None
    picture = await house.until(job_id, JobState.FAILED if isinstance(error, QueueFull) else JobState.DONE)
    assert picture.crashes == 0


async def test_an_end_is_recorded_after_a_fault_of_the_service_itself(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [RuntimeError("a fault")]

    def end_later(*args: Any, **values: Any) -> JobState | None:
        if failures:
            raise failures.pop()
        return end(*args, **values)

    monkeypatch.setattr(runners, "end", end_later)
    job_id = await house.job()
    house.runner.start(house.service)
    assert (await house.until(job_id, JobState.DONE)).attempts == 1
    assert "RuntimeError: a fault" in caplog.text


async def job_whose_failure_waits(house: House) -> str:
    """The id of a job whose work has failed while the database is away."""
    job_id = await house.job()
    house.work.after.clear()
    house.runner.start(house.service)
    await house.until(job_id, JobState.RUNNING)
    house.work.error = QueueFull("full")
    house.database.down = True
    house.work.after.set()
    await house.refusals("end", 1)
    return job_id


async def test_a_service_that_stops_still_records_an_end_that_waits_for_the_database(house: House) -> None:
    job_id = await job_whose_failure_waits(house)
    stopping = asyncio.create_task(house.runner.stop())
    await house.refusals("end")
    house.database.down = False
    await stopping
    assert (await house.picture(job_id)).state is JobState.FAILED


async def test_a_job_that_is_cancelled_while_its_end_waits_for_the_database_is_cancelled(house: House) -> None:
    job_id = await job_whose_failure_waits(house)
    await house.database.write_by_another(partial(cancel, job=await read(house.database, job_id), ttl_s=100))
    house.runner.cancel(job_id)
    house.database.down = False
    await house.until(job_id, JobState.CANCELLED)


@pytest.mark.parametrize(("stops", "state"), [(False, JobState.CANCELLED), (True, JobState.WAITING)])
async def test_work_that_is_interrupted_before_its_first_step_is_settled(
    house: House, monkeypatch: pytest.MonkeyPatch, stops: bool, state: JobState
) -> None:
    begin, begun = house.runner._begin, asyncio.Event()

    def interrupted(held: Claim, service: UpscaleService) -> None:
        begin(held, service)
        house.runner.release() if stops else house.runner.cancel(held.job.id)
        begun.set()

    monkeypatch.setattr(house.runner, "_begin", interrupted)
    house.work.after.clear()
    job_id = await house.job()
    house.runner.start(house.service)
    await begun.wait()
    await house.until(job_id, state)


@pytest.mark.parametrize("error", [None, QueueFull("full")], ids=["done", "failed"])
async def test_a_picture_is_charged_once_at_its_end_less_what_was_charged_before(
    house: House, error: Exception | None
) -> None:
    charged = list[tuple[bool, int]]()

    def observe(record: RequestRecord) -> None:
        charged.append((record.is_chargeable, record.accepted_px))
        house.work.error = error

    house.runner.observers = [observe]
    house.work.error = GivenBack(0.0)
    await added(house.database, replace(new_job(), pictures=[NewPicture(upload_name="x", cost_px=7)]))
    house.runner.start(house.service)
    await until(lambda: len(charged) == 2)
    assert charged == [(False, 7), (True, 7)]


@pytest.mark.parametrize(("key_bytes", "charged"), [(None, False), (5, True)], ids=["no room", "limit of the key"])
async def test_a_picture_whose_result_has_no_room_is_charged_only_where_its_key_has_none(
    tmp_path: Path, key_bytes: int | None, charged: bool
) -> None:
    house, records = House(tmp_path), list[RequestRecord]()
    house.runner.observers = [records.append]
    of_key, max_bytes = KeyLimits(job_bytes=key_bytes), 5 if key_bytes is None else 100
    house.runner.limits = lambda name: JobLimits(max_waiting=9, max_bytes=max_bytes, of_key=of_key)
    await added(house.database, replace(new_job(), pictures=[TARGET]))
    house.runner.start(house.service)
    await until(lambda: bool(records))
    problem = "storage-full" if key_bytes is None else "key-limit"
    assert (records[0].problem, records[0].is_chargeable) == (problem, charged)
    await house.runner.stop()
    await house.database.close()


async def test_work_is_interrupted_by_an_outage_and_done_after_it(house: House, clock: ManualClock) -> None:
    job_id = await house.job()
    house.work.after.clear()
    house.runner.start(house.service)
    await house.until(job_id, JobState.RUNNING)
    house.database.down = True
    clock.now_s += LEASE_S
    await until(house.work.interrupted.is_set)
    house.database.down = False
    house.work.after.set()
    picture = await house.until(job_id, JobState.DONE)
    assert (picture.attempts, picture.crashes) == (2, 0)


async def test_an_end_that_cannot_be_recorded_is_logged_with_the_reason(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runners, "RELEASE_S", 0.2)
    job_id = await house.job()
    house.work.after.clear()
    house.runner.start(house.service)
    await house.until(job_id, JobState.RUNNING)
    house.database.down = True
    house.work.after.set()
    await house.runner.stop()
    assert f"job {job_id} picture 1 was not recorded: gone" in caplog.text


async def test_an_error_that_lasts_while_an_end_is_recorded_leaves_one_traceback(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [RuntimeError("a fault") for _ in range(5)]

    def end_later(*args: Any, **values: Any) -> JobState | None:
        if failures:
            raise failures.pop()
        return end(*args, **values)

    monkeypatch.setattr(runners, "end", end_later)
    monkeypatch.setattr(runners, "END_RETRY_S", 0.01)
    job_id = await house.job()
    house.runner.start(house.service)
    await house.until(job_id, JobState.DONE)
    assert failures == []
    assert [entry.message for entry in caplog.records if entry.exc_info] == [
        f"cannot record job {job_id} picture 1: RuntimeError('a fault')"
    ]


@pytest.mark.usefixtures("clock")
async def test_an_error_of_the_service_itself_does_not_end_a_lease(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, holds = [RuntimeError("a fault")], list[Hold]()

    def renew_later(*args: Any, **values: Any) -> Hold:
        if failures:
            raise failures.pop()
        holds.append(renew(*args, **values))
        return holds[-1]

    monkeypatch.setattr(runners, "renew", renew_later)
    job_id = await house.job()
    house.work.after.clear()
    house.runner.start(house.service)
    await house.until(job_id, JobState.RUNNING)
    await until(lambda: len(holds) >= 2)
    assert holds[:2] == [Hold.KEPT] * 2
    house.work.after.set()
    assert (await house.until(job_id, JobState.DONE)).attempts == 1


async def job_of_another(house: House, lease_s: float = LEASE_S) -> str:
    """Make a job that another process works on, and return its id."""
    job_id = await house.job()
    await house.database.write_by_another(partial(claim, owner="living", lease_s=lease_s, ttl_s=100, idle=True))
    return job_id


async def test_an_outage_makes_no_other_process_look_dead(house: House, clock: ManualClock) -> None:
    job_id = await job_of_another(house)
    house.runner.start(house.service)
    await house.looks()
    house.database.down = True
    clock.now_s += 2 * LEASE_S
    await house.refusals("claim")
    house.database.down = False
    await house.looks()
    picture = await house.picture(job_id)
    assert (picture.state, picture.crashes) == (JobState.RUNNING, 0)
    clock.now_s += 2 * LEASE_S
    assert (await house.until(job_id, JobState.DONE)).crashes == 1  # it has not renewed its lease since


async def test_an_outage_makes_no_other_process_look_dead_to_one_without_a_free_place(
    house: House, clock: ManualClock
) -> None:
    house.work.after.clear()
    house.runner.start(house.service)
    await house.until(await house.job(), JobState.RUNNING)
    job_id = await job_of_another(house)
    house.database.down = True
    clock.now_s += 2 * LEASE_S
    await until(house.work.interrupted.is_set)
    house.database.down = False
    await house.looks(1)
    picture = await house.picture(job_id)
    assert (picture.state, picture.crashes) == (JobState.RUNNING, 0)


async def test_a_database_that_hangs_makes_no_other_process_look_dead(house: House, clock: ManualClock) -> None:
    job_id = await job_of_another(house)
    house.database.answers.clear()
    house.runner.start(house.service)
    await until(lambda: house.database.hanging == 1)
    clock.now_s += 2 * LEASE_S
    house.database.answers.set()
    await house.looks()
    picture = await house.picture(job_id)
    assert (picture.state, picture.crashes) == (JobState.RUNNING, 0)


async def test_a_clock_that_steps_makes_no_other_process_look_dead(house: House, clock: ManualClock) -> None:
    job_id = await job_of_another(house, lease_s=100)
    house.runner.start(house.service)
    await house.until(await house.job(), JobState.DONE)
    house.database.ahead_s = 3600
    await house.looks()
    picture = await house.picture(job_id)
    assert (picture.state, picture.crashes) == (JobState.RUNNING, 0)
    clock.now_s += 2 * LEASE_S
    assert (await house.until(job_id, JobState.DONE)).crashes == 1  # it has not renewed its lease since


@pytest.mark.parametrize("error", [RuntimeError("a fault"), StorageFull("full"), GivenBack(1000)])
async def test_a_picture_whose_clean_up_fails_when_the_service_stops_is_given_back(
    house: House, error: Exception
) -> None:
    job_id = await house.job()
    house.work.after.clear()
    house.work.clean_up_error = error
    house.runner.start(house.service)
    await house.until(job_id, JobState.RUNNING)
    await house.runner.stop()
    picture = await house.picture(job_id)
    assert (picture.state, picture.crashes) == (JobState.WAITING, 0)
    assert await claimed(house.database) is not None
    assert await house.files() == ["upload-1"]


async def test_a_service_stops_although_a_clean_up_hangs_and_the_database_is_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> Result:
        try:
            return await asyncio.Future()
        finally:
            await asyncio.Event().wait()

    monkeypatch.setattr(runners, "RELEASE_S", 0.2)
    monkeypatch.setattr(house.work, "result", hang)
    job_id = await house.job()
    house.runner.start(house.service)
    await house.until(job_id, JobState.RUNNING)
    house.database.down = True
    async with asyncio.timeout(30):
        await house.runner.stop()


async def test_a_claim_that_is_being_committed_when_the_service_stops_is_given_back(house: House) -> None:
    house.database.may_claim.clear()
    job_id = await house.job()
    house.runner.start(house.service)
    assert await asyncio.to_thread(house.database.claiming.wait, 60)
    house.runner.stop_claiming()
    house.database.may_claim.set()
    await house.runner.idle()
    picture = await house.picture(job_id)
    assert (picture.state, picture.crashes) == (JobState.WAITING, 0)


async def test_the_loss_of_the_device_counts_as_a_death_of_each_picture_that_ran(house: House) -> None:
    job_id = await house.job()
    house.work.after.clear()
    house.work.error = GivenBack(0.0)
    house.runner.start(house.service)
    await house.until(job_id, JobState.RUNNING)
    cast(Any, house.service.scheduler).failure = RuntimeError("device lost")
    house.work.after.set()
    picture = await house.until(job_id, JobState.FAILED)
    assert (picture.attempts, picture.crashes) == (2, 2)
    assert picture.problem is not None
    assert picture.problem.type == "job-gave-up"


async def test_nothing_runs_beside_a_picture_that_is_suspected_of_a_death(tmp_path: Path) -> None:
    house = House(tmp_path, jobs_running=2)
    suspect, other = sorted([await house.job(), await house.job()])
    await house.database.write(
        lambda session: session.rows("update pictures set crashes = 1 where job_id = :id", id=suspect)
    )
    house.work.after.clear()
    house.runner.start(house.service)
    await house.until(suspect, JobState.RUNNING)
    await asyncio.sleep(0.2)  # time for four polls
    assert (await house.picture(other)).state is JobState.WAITING
    house.work.after.set()
    await house.until(other, JobState.DONE)
    await house.runner.stop()
    await house.database.close()


@pytest.mark.parametrize("slots", [2, 3])
async def test_pictures_with_urls_of_any_keys_leave_a_slot_to_uploads(tmp_path: Path, slots: int) -> None:
    house = House(tmp_path, jobs_running=slots)
    for key in ("slow", "slower"):
        await added(house.database, replace(new_job(key=key), pictures=[TARGET] * 5))
    house.work.after.clear()
    house.runner.start(house.service)
    await until(lambda: len(house.runner._running) == slots - 1)
    await house.until(await house.job(), JobState.RUNNING)
    assert sum(held.uses_urls for held in house.runner._running.values()) == slots - 1
    house.work.after.set()
    await house.runner.stop()
    await house.database.close()


async def test_the_only_slot_also_takes_pictures_with_urls(house: House) -> None:
    job = await added(house.database, replace(new_job(), pictures=[TARGET] * 2))
    house.runner.start(house.service)
    async with asyncio.timeout(60):
        while (await read(house.database, job.id)).state is not JobState.DONE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Refusing:
    """Fake request of a job: its start raises the next of some errors, after a while."""

    def __init__(self, errors: Iterable[Exception], after_s: float) -> None:
        self._errors = iter(errors)
        self._after_s = after_s

    async def start(self, *_: object, **__: object) -> None:
        await asyncio.sleep(self._after_s)
        raise next(self._errors)


def worker_of(house: House, rules: AddressRules | None = None, **settings: Any) -> Worker:
    """Make a worker that reads pictures from the hosts of these rules, by default from none."""
    outgoing = Outgoing(rules or AddressRules((), setting="none"))
    changed = Settings().model_copy(update=settings)
    return Worker(changed, house.store, Transfer(outgoing, whole_s=1, min_bytes_per_s=1), Watch())


async def attempts(
    house: House, monkeypatch: pytest.MonkeyPatch, errors: list[Exception], *, after_s: float = 0.0, **settings: Any
) -> list[Exception]:
    """Return the errors of a worker if the service raises these, one per attempt."""
    worker = worker_of(house, **settings)
    refusing = Refusing(errors, after_s)
    monkeypatch.setattr("app.jobs.worker.UpscaleRequest.from_json", lambda _: refusing)
    job_id = await house.job()
    held = await house.database.write(partial(claim, owner="a", lease_s=9, ttl_s=9, idle=True))
    assert held is not None
    assert held.job.id == job_id
    raised = list[Exception]()
    for number, _ in enumerate(errors, start=1):
        attempt = replace(held, picture=replace(held.picture, attempts=number))
        try:
            await worker.result(attempt, house.service, cast(RequestRecord, SimpleNamespace()))
        except Exception as error:
            raised.append(error)
    return raised


async def test_a_full_disk_uses_up_no_attempts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = [*[StorageFull("full")] * (MAX_REFUSALS + 5), QueueFull("full")]
    assert {type(error) for error in await attempts(house, monkeypatch, errors)} == {GivenBack}


async def test_a_picture_that_is_refused_too_often_fails(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = await attempts(house, monkeypatch, [QueueFull("full")] * MAX_REFUSALS)
    assert [type(error) for error in raised] == [GivenBack] * (MAX_REFUSALS - 1) + [QueueFull]


async def test_a_stream_that_was_ended_for_others_is_tried_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (raised,) = await attempts(house, monkeypatch, [DeadlinePassed("the answer was read too slowly")])
    assert isinstance(raised, GivenBack)


async def test_a_picture_that_finds_the_queue_full_waits_as_long_as_it_is_told_to(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = await attempts(house, monkeypatch, [QueueFull("full", retry_after_s=17), QueueFull("full")])
    assert [error.wait_s for error in raised if isinstance(error, GivenBack)] == [17, BUSY_WAIT_S]


async def test_a_picture_that_is_not_done_in_time_fails_and_its_error_names_the_limit(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    (raised,) = await attempts(house, monkeypatch, [QueueFull("full")], after_s=0.3, job_max_s=0.05)
    assert isinstance(raised, DeadlinePassed)
    assert "within 0.05 s" in raised.detail


async def test_a_picture_from_a_url_may_be_no_larger_than_an_upload(house: House) -> None:
    async with listening(Peer(replies=[Reply(body=bytes(1001))])) as peer:
        rules = AddressRules(hosts_of(f"127.0.0.1:{peer.port}"), setting="-", networks=[ip_network("127.0.0.0/8")])
        pictures = [NewPicture(source=peer.address)]
        await added(house.database, replace(new_job(), pictures=pictures, request=UpscaleRequest().to_json()))
        held = await house.database.write(partial(claim, owner="a", lease_s=9, ttl_s=9, idle=True))
        assert held is not None
        with pytest.raises(SourceRefused, match="more than 1000 bytes"):
            await worker_of(house, rules, max_upload_bytes=1000).result(held, house.service, RequestRecord())


@pytest.mark.parametrize("error", [OtherVersion("sharpen"), NoSuchModel("there is no model 'new'")])
async def test_what_another_version_accepted_waits_for_one_that_can_process_it_and_fails_in_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch, error: ServiceError
) -> None:
    raised = await attempts(house, monkeypatch, [error] * MAX_REFUSALS)
    assert raised[-1] is error
    waits = [given.wait_s for given in raised if isinstance(given, GivenBack)]
    assert waits == [OTHER_VERSION_WAIT_S] * (MAX_REFUSALS - 1)
