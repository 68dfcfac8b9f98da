"""The life of the service between start and stop: loading, ready, draining; and what it says of itself meanwhile."""

import asyncio
import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

from app.errors import Unavailable
from app.service import UpscaleService
from app.settings import Settings

LAST_ANSWERS_S = 1.0
"""For what was accepted and cannot be finished any more: to hear so."""

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """Where the service is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    BROKEN = "broken"


WHY = {
    Phase.LOADING: "the service is loading its networks; try again in a few seconds",
    Phase.DRAINING: "the service is stopping; send the request again in a few seconds",
    Phase.BROKEN: "the service is broken and has to be started again; its log says why",
}
"""What callers are told where requests are not welcome."""


class Lifecycle:
    """Loads the service while the port is open already, counts what was accepted, and ends in good order.

    Belongs to the event loop; only `build` runs in a thread.

    Args:
        build: loads and tests the networks, and warms them up.
        failed: called when `build` has raised; `failure` says what.
    """

    def __init__(
        self, settings: Settings, build: Callable[[], UpscaleService], *, failed: Callable[[], None] = lambda: None
    ) -> None:
        self.settings = settings
        self.failure: BaseException | None = None
        self.accepted = 0
        """Requests that were let in and have not been answered to the end."""
        self._build = build
        self._failed = failed
        self._service: UpscaleService | None = None
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    def of(cls, service: UpscaleService) -> Self:
        """The life of a service that is loaded already."""
        life = cls(service.settings, lambda: service)
        life._service = service
        return life

    @property
    def phase(self) -> Phase:
        """Where the service is in its life."""
        if self._draining:
            return Phase.DRAINING
        if self._service is None:
            return Phase.LOADING if self.failure is None else Phase.BROKEN
        return Phase.READY if self._service.scheduler.alive else Phase.BROKEN

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
        """Whether requests are welcome.

        Raises:
            Unavailable: they are not; says why, and when to come again.
        """
        if self.phase is not Phase.READY:
            raise self._unavailable()

    @contextmanager
    def accept(self) -> Iterator[None]:
        """Let a request in; the service waits for it before it stops."""
        self.accepted += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.accepted -= 1
            if not self.accepted:
                self._idle.set()

    def begin(self) -> None:
        """Start to load; returns at once."""
        if self._service is not None:
            self._service.start()
            return
        # No pool: a stop does not wait for it, since nothing is lost when loading is broken off.
        threading.Thread(target=self._load, args=(asyncio.get_running_loop(),), name="load", daemon=True).start()

    def drain(self) -> None:
        """Accept nothing any more."""
        if not self._draining:
            log.info("stopping: %d requests are still to be answered", self.accepted)
        self._draining = True

    async def drained(self) -> None:
        """Wait until all that was accepted is answered; after the drain deadline the rest is refused."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain_s):
                await self._idle.wait()
                return
        log.warning("the drain deadline has passed: %d requests are broken off", self.accepted)
        await self._stop_scheduler()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWERS_S):
                await self._idle.wait()

    async def end(self) -> None:
        """Stop all that runs."""
        self._draining = True
        await self._stop_scheduler()
        if self._service is not None:
            self._service.close()

    def _unavailable(self) -> Unavailable:
        return Unavailable(WHY[self.phase], state=self.phase.value)

    async def _stop_scheduler(self) -> None:
        if self._service is not None:
            await self._service.scheduler.stop(drain_s=0)

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        began_s = time.monotonic()
        service: UpscaleService | None = None
        failure: BaseException | None = None
        try:
            service = self._build()
            log.info("loaded and warmed up in %.1f s", time.monotonic() - began_s)
        except BaseException as error:  # of a thread that nobody waits for: told on the loop
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile: nobody wants to know
            loop.call_soon_threadsafe(self._loaded, service, failure)

    def _loaded(self, service: UpscaleService | None, failure: BaseException | None) -> None:
        self._service, self.failure = service, failure
        if service is None:
            self._failed()
        elif not self._draining:
            service.start()
