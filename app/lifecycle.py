"""The life of the service: loading, ready, leaving, draining, or broken."""

import asyncio
import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self

from app.batching.job import DeviceLost
from app.errors import Unavailable
from app.jobs.service import JobService
from app.record import Observer
from app.service import UpscaleService
from app.settings import Settings
from app.waiting import is_set_within

ABORT_GRACE_S = 1.0
"""Time for aborted requests to receive their error response."""

DEVICE_LOST_STATUS = 70
"""Exit status after the device was lost or its thread died; a restart may help."""

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """Phase of the service's life."""

    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"
    DRAINING = "draining"
    BROKEN = "broken"


REFUSALS = {
    Phase.LOADING: "the service is loading its networks; try again in a few seconds",
    Phase.LEAVING: "the service is about to stop, but still accepts requests",
    Phase.DRAINING: "the service is stopping; send the request again in a few seconds",
    Phase.BROKEN: "the service is broken and restarts, where something supervises it; its log says why",
}
"""Error text for requests in each phase but READY."""


class Lifecycle:
    """Loads the service after the port is open, counts accepted requests, and drains before the end.

    Belongs to the event loop; only `build` runs in a thread.

    Args:
        build: loads, tests and warms up the networks.

    Attributes:
        on_failure: called when the service cannot load, or breaks later; `failure` holds the error.
    """

    def __init__(self, settings: Settings, build: Callable[[], UpscaleService]) -> None:
        self.settings = settings
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] | None = None
        self.accepted = 0
        """Requests that were accepted and are not completely answered yet."""
        self._build = build
        self._service: UpscaleService | None = None
        self._leaving = False
        self._draining = False
        self._broken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.jobs = JobService(settings, lambda: self.service)
        self.observers: Sequence[Observer] = ()
        """Receive a record of each picture of a job, like one of a request."""

    @classmethod
    def of(cls, service: UpscaleService) -> Self:
        """Make the life of a service that is already loaded."""
        life = cls(service.settings, lambda: service)
        life._service = service
        return life

    @property
    def phase(self) -> Phase:
        """Phase of the service's life."""
        if self._draining:
            return Phase.DRAINING
        if self._service is None:
            return Phase.LOADING if self.failure is None else Phase.BROKEN
        if not self._service.scheduler.alive:
            return Phase.BROKEN
        return Phase.LEAVING if self._leaving else Phase.READY

    @property
    def exit_status(self) -> int:
        """Exit status of the process: 0, 1 where the networks could not be loaded, or `DEVICE_LOST_STATUS`."""
        if self.failure is None:
            return 0
        return 1 if self._service is None and not isinstance(self.failure, DeviceLost) else DEVICE_LOST_STATUS

    @property
    def service(self) -> UpscaleService:
        """The service.

        Raises:
            Unavailable: it is not loaded yet.
        """
        if self._service is None:
            raise self._unavailable()
        return self._service

    def check_ready(self) -> None:
        """Check that a load balancer should send requests.

        Raises:
            Unavailable: it should not; says why, and when to try again.
        """
        if self.phase is not Phase.READY:
            raise self._unavailable()

    def check_accepting(self) -> None:
        """Check that requests can be accepted.

        Raises:
            Unavailable: they cannot; says why, and when to try again.
        """
        if self.phase not in (Phase.READY, Phase.LEAVING):
            raise self._unavailable()

    @contextmanager
    def accept(self) -> Iterator[None]:
        """Count a request within the block; the service waits for it before it stops."""
        self.accepted += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.accepted -= 1
            if not self.accepted:
                self._idle.set()

    def start(self) -> None:
        """Start to load the service, without waiting for it."""
        if self._service is not None:
            self.jobs.open()
            self._start_service(self._service)
            return
        # A daemon thread and not a pool, so that stopping does not wait for it: an interrupted load loses nothing.
        threading.Thread(target=self._load, args=(asyncio.get_running_loop(),), name="load", daemon=True).start()

    async def leave(self) -> None:
        """Tell load balancers to send no more, and accept what they still send for `leave_s` seconds."""
        if self.phase is not Phase.READY or not self.settings.leave_s:
            return
        log.info("leaving: /readyz fails, and requests are accepted for another %g s", self.settings.leave_s)
        self._leaving = True
        await is_set_within(self._broken, self.settings.leave_s)

    def drain(self) -> None:
        """Refuse new requests from now on."""
        if not self._draining:
            log.info("stopping: %d requests are still running", self.accepted)
        self._draining = True
        self.jobs.drain()

    async def drained(self) -> None:
        """Wait for every accepted request; abort those that are still running after the drain deadline."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await self._idle.wait()
                await self.jobs.idle()
                return
        log.warning("the drain deadline has passed: aborting %d requests", self.accepted)
        self.jobs.release()  # `stop` waits for it
        await self._stop_scheduler()
        await self.answered(within_s=ABORT_GRACE_S)

    async def answered(self, *, within_s: float) -> bool:
        """Wait for the answers of all accepted requests; returns False if they take longer."""
        return await is_set_within(self._idle, within_s)

    async def stop(self) -> None:
        """Stop everything that runs."""
        self._draining = True
        await self.jobs.close()
        await self._stop_scheduler()
        if self._service is not None:
            self._service.close()

    def _unavailable(self) -> Unavailable:
        return Unavailable(REFUSALS[self.phase], state=self.phase.value)

    async def _stop_scheduler(self) -> None:
        if self._service is not None:
            await self._service.scheduler.stop(drain_s=0)

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        began_s = time.monotonic()
        service: UpscaleService | None = None
        failure: BaseException | None = None
        try:
            self.jobs.open()
            service = self._build()
            log.info("loaded and warmed up in %.1f s", time.monotonic() - began_s)
        except BaseException as error:  # reported on the event loop, since nothing joins this thread
            failure = error
        with suppress(RuntimeError):  # the event loop has already ended
            loop.call_soon_threadsafe(self._loaded, service, failure)

    def _loaded(self, service: UpscaleService | None, failure: BaseException | None) -> None:
        self._service, self.failure = service, failure
        if service is not None:
            if not self._draining:
                self._start_service(service)
        elif self.on_failure is not None:
            self.on_failure()

    def _start_service(self, service: UpscaleService) -> None:
        service.scheduler.on_failure = self._break
        service.start()
        self.jobs.start(self.observers)

    def _break(self) -> None:
        self.failure = self.service.scheduler.failure
        self._broken.set()
        self.jobs.drain()  # pictures that are claimed now would only be given back
        if self.on_failure is not None:
            self.on_failure()
