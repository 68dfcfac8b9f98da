"""Shares one device among all requests: after every piece of work it decides anew what runs next.

A piece is a batch of small works that share a bucket, whoever sent them, or one band of a large work's stream. The
request that has had the least of the device goes first (see `turns`), and a piece is as large as fits into a target
duration by what earlier pieces took (see `cost`). All decisions are made on the event loop; the engine runs in one
thread.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Generic, TypeVar

from app.batching.backlog import Backlog, Place
from app.batching.cost import CostModel
from app.batching.counters import Counters
from app.batching.job import Engine, Input, Output, Work
from app.batching.open_streams import OpenStreams
from app.batching.pieces import Landed, Piece, Request, Step
from app.batching.queue import Queue
from app.batching.ticket import Outcome, Ticket
from app.errors import QueueFull, Unavailable

AHEAD_S = 0.1
"""While a piece runs that is predicted to be shorter than this, the device is given the next one already: it shall not
idle while a busy event loop takes its time. Longer pieces can afford that, and newcomers wait for one of them only."""

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Scheduler(Generic[Input, Output]):
    """A queue in front of an engine. Everything is called on the event loop.

    Args:
        max_queued_px: most LR px that may wait or run; a single request is always taken.
        max_held_bytes: memory on the device for all streams that are open; a single one may hold more.
        piece_s: how long a piece should take, which is how long a newcomer waits for the device at most.
        reader_s: how long, in all, the reader of a stream may hold it up; after that its memory goes to a stream that
            waits for some.
        clock: seconds; what the deadlines of works refer to.

    Attributes:
        costs: what has been learned; a warm-up may teach it before the first request.
    """

    def __init__(
        self,
        engine: Engine[Input, Output],
        *,
        max_queued_px: int,
        max_held_bytes: int,
        piece_s: float = 0.25,
        reader_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.costs = CostModel()
        self._engine = engine
        self._clock = clock
        self._wake = asyncio.Event()
        self._backlog = Backlog(self.costs, max_px=max_queued_px, piece_s=piece_s)
        self._open: OpenStreams[Request[Input, Output]] = OpenStreams(max_held_bytes, patience_s=reader_s)
        self._queue: Queue[Input, Output] = Queue(
            engine,
            self.costs,
            self._backlog,
            self._open,
            piece_s=piece_s,
            clock=clock,
            changed=self._wake.set,
            ended=self._count_and_close,
        )
        self._flying: deque[tuple[Piece[Input, Output], asyncio.Future[Landed[Input, Output]]]] = deque()
        self._counters = Counters()
        self._stopping = False
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run work."""
        self._task = asyncio.create_task(self._run(), name="scheduler")

    async def stop(self, drain_s: float) -> None:
        """Refuse new work and finish what was accepted, for at most `drain_s`; the rest is answered Unavailable."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=drain_s)
            self._task.cancel()
            await asyncio.wait({self._task})
        self._device.shutdown(wait=False)  # streams that were open are closed after the piece that runs

    @property
    def alive(self) -> bool:
        """False before `start`, and once the loop has ended for whatever reason."""
        return self._task is not None and not self._task.done()

    @property
    def stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stopping

    @property
    def backlog_s(self) -> float | None:
        """Predicted seconds until all that waits or runs is done; None while nothing is known of any of it."""
        return self._backlog.seconds

    def counters(self) -> Counters:
        """Totals since the start, and how things stand at the moment."""
        return replace(
            self._counters,
            batch_bits=self._counters.batch_bits.copy(),
            outcomes=self._counters.outcomes.copy(),
            queued=len(self._queue),
            queued_px=self._backlog.px,
            backlog_s=self._backlog.seconds,
            running_px=sum(piece.px for piece, _ in self._flying),
            open_streams=len(self._open),
            held_bytes=self._open.held_bytes,
        )

    def reserve(self, work: Work[Any]) -> Place:
        """Keep a place for a work of which only the size is known yet, so that nothing is prepared in vain.

        Raises:
            QueueFull: too much waits already, altogether or for its deadline; `retry_after_s` is the predicted time
                until there is room.
            Unavailable: the service is stopping.
        """
        with self._admitting():
            return self._queue.reserve(work)

    def submit(self, work: Work[Input], place: Place | None = None) -> Ticket[Output]:
        """Accept a work; the ticket gives the parts of its output, and leaving the ticket withdraws it.

        Args:
            place: what `reserve` has kept for it.

        Raises:
            QueueFull: no place was kept, and too much waits already, see `reserve`.
            Unavailable: the service is stopping.
        """
        with self._admitting():
            return self._queue.add(work, place)

    @contextmanager
    def _admitting(self) -> Iterator[None]:
        if self._stopping or not self.alive:
            raise self._unavailable("the service takes no more work; send the picture again in a few seconds")
        try:
            yield
        except QueueFull:
            self._counters.refused += 1
            raise

    async def between_pieces(self, call: Callable[[], Result]) -> Result:
        """Run a call in the device's thread, after the pieces that it has been given already. It holds up all others.

        Raises:
            RuntimeError: the service has stopped.
        """
        return await asyncio.get_running_loop().run_in_executor(self._device, call)

    async def _run(self) -> None:
        try:
            while self._queue or not self._stopping:
                while self._device_wants_more() and (piece := self._queue.next_piece()):
                    self._launch(piece)
                await self._change()
                while self._flying and self._flying[0][1].done():
                    self._land(*self._flying.popleft())
        except Exception:
            log.critical("the scheduler has ended", exc_info=True)  # readiness follows `alive`
        finally:
            text = "the service stopped before this picture was finished; send it again"
            self._queue.settle_all(lambda: self._unavailable(text))

    def _unavailable(self, text: str) -> Unavailable:
        return Unavailable(text, state="draining" if self._stopping else "broken")

    def _device_wants_more(self) -> bool:
        if not self._flying:
            return True
        (piece, _), *more = self._flying
        predicted_s = self.costs.seconds(piece.requests[0].work.cost_key, piece.px)
        return not more and predicted_s is not None and predicted_s < AHEAD_S

    async def _change(self) -> None:
        """Wait until something landed, came, left or was read, or the patience with a slow reader has run out."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self._flying else self._queue.patience_s()):
                await self._wake.wait()

    def _launch(self, piece: Piece[Input, Output]) -> None:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._device, piece.run, self._engine, self._clock)
        future.add_done_callback(lambda _: self._wake.set())
        self._flying.append((piece, future))
        for request in piece.requests:
            request.in_flight += 1
            if request.bands is not None:
                self._queue.line_up(request)

    def _land(self, piece: Piece[Input, Output], future: "asyncio.Future[Landed[Input, Output]]") -> None:
        try:
            landed = future.result()
        except BaseException as error:
            # Raised here as it is, a SystemExit would end the event loop before anybody was answered.
            raise RuntimeError("the device's thread has given up") from error
        self._counters.count(landed)
        self._learn(landed)
        for step in landed.steps:
            if step.request.ticket.outcome is None:  # else its caller has left while the device worked
                self._progress(step, landed)
        for request in piece.requests:
            request.in_flight -= 1
            if request.ticket.outcome is not None:
                continue
            if not request.wanted(landed.began_s):
                self._queue.expire(request)
            elif landed.error is not None and len(landed.present) > 1:
                self._queue.run_alone(request)  # so that only the work which cannot be done fails
            elif landed.error is not None:
                self._queue.settle(request, Outcome.FAILED, landed.error)
            else:
                self._queue.line_up(request)

    def _progress(self, step: Step[Input, Output], landed: Landed[Input, Output]) -> None:
        request, ticket = step.request, step.request.ticket
        if request.began_s is None:
            request.began_s = landed.began_s
            ticket.queue_s = landed.began_s - request.submitted_s
        ticket.infer_s = landed.ended_s - request.began_s
        px = request.left_px if step.finished else request.next_px
        self._queue.advance(request, px)
        self._counters.done_px += px
        if step.part is not None:
            ticket.deliver(step.part)
        if step.finished:
            self._queue.settle(request, Outcome.DONE)

    def _learn(self, landed: Landed[Input, Output]) -> None:
        if not landed.steps:
            return
        request = landed.present[0]
        if request.bands is None:
            px = sum(request.work.cost_px for request in landed.present)
            self.costs.observe(request.work.cost_key, px, landed.seconds)
        elif request.ticket.outcome is None:
            self._learn_from_band(request, landed.steps[0], landed.seconds)

    def _learn_from_band(self, request: Request[Input, Output], step: Step[Input, Output], seconds: float) -> None:
        # The first bands of a deep network only begin to fill it, and the last only empty it: neither tells what a band
        # takes. Where a picture is too low for any other, the mean of all its bands does.
        request.bands_run += 1
        request.device_s += seconds
        if step.part is not None and request.next_px:
            request.measured = True
            self.costs.observe(request.work.cost_key, request.next_px, seconds)
        elif step.finished and not request.measured:
            px = max(1, request.work.cost_px // request.bands_run)
            self.costs.observe(request.work.cost_key, px, request.device_s / request.bands_run)

    def _count_and_close(self, request: Request[Input, Output]) -> None:
        assert request.ticket.outcome is not None
        self._counters.outcomes[request.ticket.outcome] += 1
        if request.bands is not None:
            self._device.submit(request.bands.close)
