"""The interface of jobs: accept, read, watch and cancel them; start, drain and stop their tasks."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from app.access.keys import NO_LIMITS, KeyLimits
from app.errors import JobsOff, TooLarge, Unavailable, about
from app.jobs import ledger, outbox, pages
from app.jobs.counters import JobCounters
from app.jobs.database import DatabaseDown
from app.jobs.file_names import name_in, printable
from app.jobs.job import ENDED, JobState, NewJob, NewPicture, Result, StoredJob, new_job_id
from app.jobs.ledger import JobLimits
from app.jobs.opening import ends_start
from app.jobs.outbox import Delivery
from app.jobs.parts import Parts, default_folder
from app.jobs.store import discard, one
from app.jobs.submission import Submission
from app.jobs.view import JobView, QueueView
from app.jobs.watch import Watch
from app.outages import Outage
from app.record import Observer
from app.service import UpscaleService
from app.settings import Settings, SettingsError
from app.waiting import is_set_within

OPEN_RETRY_S = 5.0
"""Interval between attempts to open the database or store, if it could not be reached at the start."""

WATCH_POLL_S = 1.0
"""Interval at which a job that runs in another process is polled."""

log = logging.getLogger(__name__)


class JobService:
    """The jobs of this process. Belongs to the event loop; only `open` may run in a thread.

    Args:
        service: returns the service that upscales; raises `Unavailable` before it is loaded.

    Attributes:
        counters: for metrics.
        key_limits: returns the limits of a key by its name; set it before `open`.
    """

    def __init__(self, settings: Settings, service: Callable[[], UpscaleService]) -> None:
        self.counters = JobCounters()
        self.watch = Watch()
        self.key_limits: Callable[[str], KeyLimits] = lambda key_name: NO_LIMITS
        self._settings = settings
        self._service = service
        self._parts: Parts | None = None
        self._why_off = "" if settings.jobs else "the operator has set ESRGAN_JOBS=false"
        self._opening: asyncio.Task[None] | None = None
        """Retries to open the database or store, if it could not be reached at the start."""
        self._outage = Outage(log, "open the storage of jobs, which get 503")

    def open(self) -> None:
        """Open database and store; blocks. If they cannot be reached, jobs get 503, and `start` opens them later.

        Raises:
            SettingsError: they cannot be used.
        """
        if self._why_off:
            return
        folder = self._settings.jobs_folder or default_folder()
        try:
            self._parts = Parts.open(self._settings, folder, self.watch, self.counters, self._limits)
        except Unavailable as error:
            self._outage.note(error)
        except SettingsError as error:
            if ends_start(self._settings, error):
                raise
            self._why_off = "the default folder of jobs cannot be used; its operator can name another"
            log.warning("jobs are off: %s; ESRGAN_JOBS=false hides this", error)

    def start(self, observers: Sequence[Observer] = ()) -> None:
        """Start to work on jobs, deliver webhooks, and remove expired jobs."""
        if self._parts is not None:
            self._parts.start(self._service(), observers)
        elif self.is_on:
            self._opening = asyncio.create_task(self._open_later(observers), name="open jobs")

    async def _open_later(self, observers: Sequence[Observer]) -> None:
        while self.is_on and self._parts is None:
            await asyncio.sleep(OPEN_RETRY_S)
            try:
                await asyncio.to_thread(self.open)
            except SettingsError as error:  # it can be reached, but not used; the service continues without jobs
                self._outage.note(error)
        if self._parts is not None:
            log.info("the storage of jobs is open")
            self.start(observers)

    def drain(self) -> None:
        """Stop claiming pictures, and end all event streams."""
        self.watch.close()
        if self._opening is not None:
            self._opening.cancel()
        if self._parts is not None:
            self._parts.runner.stop_claiming()

    async def idle(self) -> None:
        """Wait until no picture runs."""
        if self._parts is not None:
            await self._parts.runner.idle()

    def release(self) -> None:
        """Begin to put running pictures back in the queue."""
        self.drain()
        if self._parts is not None:
            self._parts.runner.release()

    async def close(self) -> None:
        """Stop everything."""
        self.release()
        if self._parts is not None:
            await self._parts.close()
            self._parts = None

    @property
    def is_on(self) -> bool:
        """True if the service takes jobs, even if their database cannot be reached at the moment."""
        return not self._why_off

    @property
    def parts(self) -> Parts:
        """The opened parts.

        Raises:
            JobsOff: jobs are off.
        """
        if self._parts is None:
            if self._why_off:
                raise JobsOff(f"this service takes no jobs: {self._why_off}; use POST /v1/upscale")
            raise Unavailable("the storage of the jobs is not open yet, or is away; try again in a few seconds")
        return self._parts

    def check(self, submission: Submission) -> None:
        """Check the URLs and the model of a job, before its pictures are read.

        Raises:
            ServiceError: a URL or the model is refused.
        """
        self.parts.check_urls(submission)
        if not submission.idempotency_key:  # else it may have been accepted while the model existed
            submission.request.check_model(self._service())

    async def submit(self, submission: Submission) -> tuple[StoredJob, bool]:
        """Accept a job; once this returns, it survives a crash.

        Returns:
            The job, and False if it is an earlier one with the same idempotency key.

        Raises:
            ServiceError: a picture, a parameter or a URL is refused, or a limit is reached.
        """
        self.parts.check_urls(submission)
        key, fingerprint = submission.idempotency_key, await asyncio.to_thread(lambda: submission.fingerprint)
        repeated = partial(
            ledger.find_repeated, key_name=submission.key_name, idempotency_key=key, fingerprint=fingerprint
        )
        if key and (earlier := await self.parts.database.read(repeated)):
            return earlier, False
        job_id = new_job_id()
        pictures = await self._checked(submission, job_id)
        job = NewJob(
            id=job_id,
            key_name=submission.key_name,
            request=submission.request.to_json(),
            pictures=pictures,
            idempotency_key=key,
            fingerprint=fingerprint,
            webhook=submission.webhook,
            webhook_events=submission.webhook_events,
            trace=submission.trace,
            request_id=submission.request_id,
        )
        return await self._stored(job, submission)

    async def _checked(self, submission: Submission, job_id: str) -> list[NewPicture]:
        service = self._service()
        submission.request.check_model(service)
        if submission.sources:
            targets = submission.targets or [""] * len(submission.sources)
            pairs = zip(submission.sources, targets, strict=True)
            return [NewPicture(source=source, target=target, file_name=name_in(source)) for source, target in pairs]
        pictures = list[NewPicture]()
        for number, (picture, name) in enumerate(zip(submission.pictures, submission.names, strict=True), start=1):
            with about(f"picture {number}: " if len(submission.pictures) > 1 else ""):
                if len(picture) > (limit := self._settings.max_upload_bytes):
                    raise TooLarge(f"it has {len(picture)} bytes; the limit for one picture is {limit}")
                header = await submission.request.check(service, picture)
            pictures.append(
                NewPicture(
                    upload_name=f"{job_id}/upload-{number}",
                    upload_bytes=len(picture),
                    cost_px=submission.request.cost_px(service, header),
                    file_name=printable(name),
                )
            )
        return pictures

    async def _stored(self, job: NewJob, submission: Submission) -> tuple[StoredJob, bool]:
        """Write the uploads, then the rows, so that every job in the table has its uploads."""
        parts = self.parts
        names = [picture.upload_name for picture in job.pictures if picture.upload_name]
        parts.store.check_room(sum(picture.upload_bytes for picture in job.pictures))
        try:
            for name, picture in zip(names, submission.pictures, strict=True):
                await parts.store.put(name, one(picture))
            stored, created = await parts.database.write(
                partial(ledger.add, job=job, limits=self._limits(job.key_name))
            )
        except DatabaseDown:
            raise  # the job may still have been accepted; if not, the sweeper removes its files
        except Exception:
            await discard(parts.store, names)
            raise
        if not created:
            await discard(parts.store, names)
        parts.runner.wake()
        return stored, created

    def _limits(self, key_name: str) -> JobLimits:
        return JobLimits.of(self._settings, self.key_limits(key_name))

    async def get(self, job_id: str, key_name: str | None) -> StoredJob:
        """Return a job.

        Args:
            key_name: name of the caller's key; None for an operator, who may see all jobs.

        Raises:
            NoSuchJob: the key has no such job.
        """
        find = partial(ledger.find, job_id=job_id, key_name=key_name)
        return self.watch.refreshed(await self.parts.database.read(find))

    async def page(
        self, key_name: str | None, *, state: JobState | None, before: str, limit: int
    ) -> tuple[Sequence[StoredJob], bool]:
        """Return the newest jobs, and True if there are more; see `pages.page`."""
        page = partial(pages.page, key_name=key_name, state=state, before=before, limit=limit)
        jobs, more = await self.parts.database.read(page)
        return [self.watch.refreshed(job) for job in jobs], more

    async def view(self, job: StoredJob, prefix: str) -> JobView:
        """Describe a job for its caller, with its place in the queue if it has not ended.

        Args:
            prefix: prefix of the URLs in it; see `JobView.of`.
        """
        view = JobView.of(job, prefix)
        if job.state in ENDED:
            return view
        pictures, seconds = await self._ahead_of(job)
        end = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
        return view.model_copy(update={"queue": QueueView(position=pictures, predicted_end=end)})

    async def _ahead_of(self, job: StoredJob) -> tuple[int, float | None]:
        """Return the number of pictures before the end of a job, and the predicted seconds until then."""
        ahead = await self.parts.database.read(partial(ledger.ahead_of, job=job))
        seconds = [self._service().predicted_s(model or None, px) for model, px in ahead.px.items()]
        known = [value for value in seconds if value is not None]
        return ahead.pictures, sum(known) if known and len(known) == len(seconds) else None

    async def cancel(self, job: StoredJob) -> None:
        """Cancel a job that has not ended, or remove one that has."""
        parts = self.parts
        files = await parts.database.write(partial(ledger.cancel, job=job, ttl_s=self._settings.job_ttl_s))
        parts.runner.cancel(job.id)
        self.watch.wake(job.id)
        parts.deliverer.wake()
        await discard(parts.store, files)

    def read(self, result: Result, first: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes of a result from `first` up to `end`."""
        return self.parts.store.read(result.name, first, end)

    async def deliveries(self, job_id: str) -> Sequence[Delivery]:
        """Return the webhooks of a job."""
        return await self.parts.database.read(partial(outbox.of_job, job_id=job_id))

    async def redeliver(self, job_id: str, delivery_id: str) -> Delivery:
        """Deliver a webhook again, now.

        Raises:
            NoSuchJob: the job has no such webhook.
            NotReady: it is being delivered.
        """
        parts = self.parts
        delivery = await parts.database.write(partial(outbox.redeliver, job_id=job_id, delivery_id=delivery_id))
        parts.deliverer.wake()
        return delivery

    async def changed(self, job: StoredJob, event: asyncio.Event, within_s: float) -> bool:
        """Wait until a job may have changed; returns False if it did not within the time.

        Args:
            event: from `watch.changes`.
        """
        until_s = asyncio.get_running_loop().time() + within_s
        version = partial(ledger.version_of, job_id=job.id)
        while not self.watch.closed and asyncio.get_running_loop().time() < until_s:
            if await is_set_within(event, WATCH_POLL_S):
                event.clear()
                return True
            if await self.parts.database.read(version) != job.version:
                return True
        return False
