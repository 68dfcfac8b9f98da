"""Process jobs: claim pictures, upscale them, renew their leases, and record their end."""

import asyncio
import logging
import math
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar, cast

from app.errors import Internal, ServiceError, StorageFull, Unavailable
from app.jobs.claims import Claim, Hold, claim, end, recover, release, renew, reserve
from app.jobs.counters import JobCounters
from app.jobs.database import Database, Session
from app.jobs.job import JobState, Problem, Result, StoredPicture
from app.jobs.ledger import JobLimits
from app.jobs.store import Store, discard
from app.jobs.watch import Watch
from app.jobs.worker import GivenBack, Worker, record_of
from app.outages import Outage
from app.record import Observer, RequestRecord, begin_record
from app.service import UpscaleService
from app.settings import Settings
from app.waiting import is_set_within

Made = TypeVar("Made")

POLL_S = 1.0
"""Interval at which the table is polled for work that other processes left or that has become due."""

END_RETRY_S = 1.0

RELEASE_S = 2.0
"""Time in which running pictures are put back in the queue. Those that are not go back when their leases expire."""

log = logging.getLogger(__name__)


class Runner:
    """Runs up to `settings.jobs_running` pictures at a time. Belongs to the event loop.

    Attributes:
        observers: receive a record of the work on each picture when it has ended, as for a request.
        limits: returns the limits on the jobs of a key, by its name.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: Store,
        worker: Worker,
        watch: Watch,
        counters: JobCounters,
        limits: Callable[[str], JobLimits],
    ) -> None:
        self.observers: Sequence[Observer] = ()
        self.limits = limits
        self.owner = f"{socket.gethostname()}:{secrets.token_hex(6)}"
        self._settings = settings
        self._database = database
        self._store = store
        self._worker = worker
        self._watch = watch
        self._counters = counters
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], Claim] = {}
        self._cancelled: set[asyncio.Task[None]] = set()
        """Tasks that end because their job was cancelled, not because the service stops."""
        self._settling: set[asyncio.Task[None]] = set()
        """Tasks whose end is being recorded."""
        self._loop: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._released_s = math.inf
        """Time at which `release` cancelled the running pictures."""
        self._down_s = -math.inf
        """Time of the last failure to reach the database, or of the last jump of its clock."""
        self._ahead_s = math.nan
        """Seconds by which the clock of the leases is ahead of the monotonic clock; NaN until measured."""
        self.on_end: Callable[[], None] = lambda: None
        """Called after the end of a picture is recorded."""

    def start(self, service: UpscaleService) -> None:
        """Start to claim pictures."""
        self._loop = asyncio.create_task(self._claim_forever(service), name="jobs")

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    def cancel(self, job_id: str) -> None:
        """Stop the running pictures of a job, except those whose end is being recorded."""
        asyncio.get_running_loop().call_soon(self._interrupt, job_id)

    def stop_claiming(self) -> None:
        """Claim no more pictures."""
        self._stopping.set()  # the loop is not cancelled: it would lose a claim that is being committed
        self._wake.set()

    async def idle(self) -> None:
        """Wait until no picture runs; call it after `stop_claiming`."""
        if self._loop is not None:
            await asyncio.wait({self._loop})
        while self._running:
            await asyncio.wait(self._running)

    def release(self) -> None:
        """Begin to put running pictures back in the queue."""
        self.stop_claiming()
        if math.isinf(self._released_s):
            self._released_s = time.monotonic()
            asyncio.get_running_loop().call_soon(self._interrupt)

    def _interrupt(self, job_id: str = "") -> None:
        """Cancel the work on a job, or on all. Called later: work cancelled before its first step has no clean-up."""
        for task, held in self._running.items():
            if task not in self._settling and job_id in ("", held.job.id):
                if job_id:
                    self._cancelled.add(task)
                task.cancel()

    async def stop(self) -> None:
        """Put running pictures back in the queue, and stop. Gives up if the database is away for too long."""
        self.release()
        left = {*self._running, *([self._loop] if self._loop is not None else [])}
        while left:
            _, left = await asyncio.wait(left, timeout=max(0.05, self._released_s + RELEASE_S - time.monotonic()))
            for task in left:  # if this ends their clean-up, they try to go back once more
                task.cancel()

    async def _claim_forever(self, service: UpscaleService) -> None:
        outage = Outage(log, "claim jobs")
        while not self._stopping.is_set():
            self._wake.clear()
            with outage:
                while len(self._running) < self._settings.jobs_running and (held := await self._next()):
                    if self._stopping.is_set():
                        await self._give_back(held, 0.0)
                        break
                    self._begin(held, service)
            await is_set_within(self._wake, POLL_S)

    async def _next(self) -> Claim | None:
        if any(held.is_suspect for held in self._running.values()):
            return None
        ttl_s, lease_s = self._settings.job_ttl_s, self._settings.job_lease_s
        if time.monotonic() - self._down_s > lease_s:
            await self._recover(ttl_s, asked_s=time.monotonic())
        of_urls = sum(held.uses_urls for held in self._running.values())
        take = partial(claim, owner=self.owner, lease_s=lease_s, ttl_s=ttl_s, idle=not self._running)
        return await self._write(partial(take, uploads_only=of_urls >= self._settings.jobs_running - 1 > 0))

    async def _recover(self, ttl_s: float, *, asked_s: float) -> None:
        """Put pictures of dead processes back in the queue; not right after an outage, which blocks renewals."""

        def recover_in_time(session: Session) -> list[StoredPicture]:
            if self._has_stepped(session.now()):
                self._down_s = time.monotonic()
                return []
            return [] if self._is_late(asked_s) else recover(session, ttl_s, owner=self.owner)

        for picture in await self._write(recover_in_time):
            log.warning("job %s picture %d lost its worker", picture.job_id, picture.number)
            self._counters.crashes += 1
            self._watch.wake(picture.job_id)

    def _begin(self, held: Claim, service: UpscaleService) -> None:
        task = asyncio.create_task(self._work(held, service), name=f"{held.job.id} {held.picture.number}")
        self._running[task] = held
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        held = self._running.pop(task)
        self._cancelled.discard(task)
        self._settling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job %s picture %d: the work ended badly", held.job.id, held.picture.number, exc_info=error)
        self._watch.forget(held.job.id, held.picture.number)
        self._wake.set()

    async def _work(self, held: Claim, service: UpscaleService) -> None:
        """Work on a picture, renew its lease meanwhile, and record its end."""
        record = record_of(held)
        begin_record(record)
        task = cast("asyncio.Task[None]", asyncio.current_task())
        lease = asyncio.create_task(self._hold(held, task))
        try:
            try:
                result = await self._result(held, service, record)
            except GivenBack as given:
                record.answered, record.problem = Unavailable.status, Unavailable.type
                await self._give_back(held, given.wait_s, crashed=service.scheduler.failure is not None)
            except ServiceError as error:
                await self._settle(held, record, JobState.FAILED, problem=Problem.of(error))
            except asyncio.CancelledError:
                if task not in self._cancelled:
                    record.answered, record.problem = Unavailable.status, Unavailable.type
                    await self._give_back(held, 0.0)
                    raise
                task.uncancel()
                await self._settle(held, record, JobState.CANCELLED)
            except Exception:
                log.exception("job %s picture %d failed", held.job.id, held.picture.number)
                problem = Problem.of(Internal("the service failed on this picture"))
                await self._settle(held, record, JobState.FAILED, problem=problem)
            else:
                await self._settle(held, record, JobState.DONE, result=result)
        finally:
            lease.cancel()
            record.ended_s = time.monotonic()
            for observe in self.observers:
                observe(record)

    async def _result(self, held: Claim, service: UpscaleService, record: RequestRecord) -> Result:
        """Do the work. An interruption stays one, whatever its clean-up raises: the picture is not at fault."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            result = await self._worker.result(held, service, record)
            change = partial(reserve, claim=held, size_bytes=result.size_bytes, limits=self.limits(held.job.key_name))
            refusal = await self._insisting(held, change)
            self._settling.discard(task)  # what follows can be interrupted
            if refusal is not None:
                raise refusal
            await self._worker.send(held, result)
            return result
        except Exception as error:
            if not task.cancelling():
                raise
            log.warning("job %s picture %d: interrupted, and then: %r", held.job.id, held.picture.number, error)
            raise asyncio.CancelledError from error

    async def _settle(
        self,
        held: Claim,
        record: RequestRecord,
        state: JobState,
        *,
        result: Result | None = None,
        problem: Problem | None = None,
    ) -> None:
        """Record the end of a picture, and remove files that are no longer needed."""
        record.answered, record.problem = (problem.status, problem.type) if problem else (200, "")
        record.complete = state is JobState.DONE
        record.left = state is JobState.CANCELLED
        change = partial(end, claim=held, state=state, ttl_s=self._settings.job_ttl_s, result=result, problem=problem)
        ended = await self._insisting(held, change)
        if ended is None:
            return  # another process has the picture now, and needs its upload
        record.is_chargeable = record.problem != StorageFull.type  # unlike a key's limit, no fault of the caller
        self._counters.ended[ended.value] += 1
        self.on_end()
        files = [held.picture.upload_name] if held.picture.upload_name else []
        await discard(self._store, files if ended is JobState.DONE else [*files, held.result_name])

    async def _give_back(self, held: Claim, wait_s: float, *, crashed: bool = False) -> None:
        change = partial(release, claim=held, wait_s=wait_s, ttl_s=self._settings.job_ttl_s, crashed=crashed)
        # Only if the lease was not lost: otherwise the end may have been recorded, with this result.
        if await self._insisting(held, change):
            await discard(self._store, [held.result_name])

    async def _insisting(self, held: Claim, change: Callable[[Session], Made]) -> Made:
        """Retry a write to the database until it succeeds: no other process takes over the claims of a living one."""
        if (task := asyncio.current_task()) in self._running:
            self._settling.add(task)
        outage = Outage(log, f"record job {held.job.id} picture {held.picture.number}")
        try:
            while True:
                with outage:
                    return await self._write(change)
                await asyncio.sleep(END_RETRY_S)
        except asyncio.CancelledError:  # the service ends
            reason = outage.reason or "the database does not answer"
            log.error("job %s picture %d was not recorded: %s", held.job.id, held.picture.number, reason)
            raise

    async def _hold(self, held: Claim, task: asyncio.Task[None]) -> None:
        """Renew the lease until cancelled; cancels the work if its job is cancelled or the lease is lost."""
        lease_s = self._settings.job_lease_s
        outage = Outage(log, f"renew the lease of job {held.job.id} picture {held.picture.number}")
        renewed_s = time.monotonic()
        while True:
            await asyncio.sleep(lease_s / 3)
            progress = self._watch.progress_of(held.job.id, held.picture.number)
            hold = Hold.KEPT
            with outage:  # if an error ended this task, the work would continue without a lease
                hold = await self._write(partial(renew, claim=held, lease_s=lease_s, progress=progress))
                renewed_s = time.monotonic()
            if outage.reason and time.monotonic() - renewed_s > lease_s * 2 / 3:
                hold = Hold.LOST
            if hold is not Hold.KEPT and task not in self._settling:
                if hold is Hold.CANCELLED:
                    self._cancelled.add(task)
                else:
                    log.warning("job %s picture %d: the lease was lost", held.job.id, held.picture.number)
                task.cancel()
                return

    async def _write(self, change: Callable[[Session], Made]) -> Made:
        """Run a transaction; note the time if the database cannot be reached."""
        asked_s = time.monotonic()
        try:
            made = await self._database.write(change)
        except ServiceError:
            self._down_s = time.monotonic()
            raise
        if self._is_late(asked_s):
            self._down_s = time.monotonic()
        return made

    def _is_late(self, asked_s: float) -> bool:
        """Return True if the database has hung: an outage without an error, in which no lease could be renewed."""
        return time.monotonic() - asked_s > self._settings.job_lease_s / 3

    def _has_stepped(self, now_s: float) -> bool:
        """Return True if the clock of the leases jumped, as after a suspend, in which no lease could be renewed."""
        before_s, self._ahead_s = self._ahead_s, now_s - time.monotonic()
        return self._ahead_s - before_s > self._settings.job_lease_s / 3
