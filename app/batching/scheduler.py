"""Shares one device among all requests: after every piece of work it chooses the next one.

A piece is a batch of small jobs of one bucket, from any requests, or one band of a large job's stream. The request that
has received least of the device goes first (see `fair_queue`), and a piece is as large as fits into a target duration,
predicted from earlier pieces (see `cost`). All decisions are made on the event loop; the engine runs in one thread.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

from app.batching.backlog import Backlog, Reservation
from app.batching.cost import CostModel
from app.batching.counters import Counters
from app.batching.device_thread import DeviceThread
from app.batching.job import DeviceLost, Engine, Input, Job, Output
from app.batching.open_streams import OpenStreams
from app.batching.pieces import Piece, PieceResult, QueuedJob, Step
from app.batching.queue import Queue
from app.batching.ticket import Outcome, Ticket
from app.errors import QueueFull, Unavailable
from app.waiting import is_set_within

AHEAD_S = 0.1
"""During a piece that is predicted to be shorter than this, the next one is submitted early, so that the device does
not idle while the event loop is busy. Longer pieces do not need it, and a new request then waits for one piece only.
"""

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Scheduler(Generic[Input, Output]):
    """A queue in front of an engine. Belongs to the event loop.

    Args:
        max_queued_px: maximum LR px that may wait or run; a single job is always accepted.
        max_stream_bytes: memory on the device for all open streams; a single one may hold more. Background jobs may
            hold half as much on top of that.
        piece_s: target duration of a piece, and so the longest wait of a new request for the device.
        reader_s: total time that a reader may stall its stream before it is ended in favour of one that waits for
            memory.
        hang_s: minimum seconds before a piece that also runs far longer than predicted counts as hung.
        clock: returns seconds; the deadlines of jobs refer to it.

    Attributes:
        costs: the learned cost model; a warm-up may teach it before the first request.
        failure: why the scheduler has ended, unless it was stopped; `DeviceLost`, or an error of its own.
        on_failure: called once `failure` is set and every job is settled.
    """

    def __init__(
        self,
        engine: Engine[Input, Output],
        *,
        max_queued_px: int,
        max_stream_bytes: int,
        piece_s: float = 0.25,
        reader_s: float = 30.0,
        hang_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.costs = CostModel()
        self.failure: Exception | None = None
        self.on_failure: Callable[[], None] | None = None
        self._engine = engine
        self._clock = clock
        self._wake = asyncio.Event()
        self._backlog = Backlog(self.costs, max_px=max_queued_px, piece_s=piece_s)
        self._open: OpenStreams[QueuedJob[Input, Output]] = OpenStreams(max_stream_bytes, patience_s=reader_s)
        self._background: OpenStreams[QueuedJob[Input, Output]] = OpenStreams(
            max_stream_bytes // 2, patience_s=reader_s
        )
        self._queue: Queue[Input, Output] = Queue(
            engine,
            self.costs,
            self._backlog,
            (self._open, self._background),
            piece_s=piece_s,
            clock=clock,
            changed=self._wake.set,
            ended=self._count_and_free,
        )
        self._running: deque[tuple[Piece[Input, Output], asyncio.Future[PieceResult[Input, Output]]]] = deque()
        self._counters = Counters()
        self._stopping = False
        self._device = DeviceThread(hang_s=hang_s, clock=clock)
        self._lost: DeviceLost | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to run jobs."""
        self._task = asyncio.create_task(self._run(), name="scheduler")

    async def stop(self, drain_s: float) -> None:
        """Refuse new jobs and finish accepted ones for at most `drain_s`; the rest fails with Unavailable."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=drain_s)
            self._task.cancel()
            await asyncio.wait({self._task})
        self._device.shutdown()  # open streams are closed after the current piece

    @property
    def alive(self) -> bool:
        """False before `start`, and after the loop has ended for any reason."""
        return self.failure is None and self._task is not None and not self._task.done()

    @property
    def backlog_s(self) -> float | None:
        """Predicted seconds until everything that waits or runs is done; None while no speed is known."""
        return self._backlog.seconds

    def counters(self) -> Counters:
        """Return totals since the start, and current values."""
        return replace(
            self._counters,
            batch_bits=self._counters.batch_bits.copy(),
            outcomes=self._counters.outcomes.copy(),
            queued=len(self._queue),
            queued_px=self._backlog.px,
            backlog_s=self._backlog.seconds,
            running_px=sum(piece.px for piece, _ in self._running),
            open_streams=len(self._open) + len(self._background),
            stream_bytes=self._open.stream_bytes + self._background.stream_bytes,
        )

    def reserve(self, job: Job[Any]) -> Reservation:
        """Reserve room for a job before its input is prepared.

        Raises:
            QueueFull: too much is queued, in total or for its deadline; `retry_after_s` is the predicted time until
                there is room.
            Unavailable: the service is stopping.
        """
        with self._admission():
            return self._queue.reserve(job)

    def submit(self, job: Job[Input], reservation: Reservation | None = None) -> Ticket[Output]:
        """Accept a job; the ticket yields the parts of its output, and leaving the ticket cancels the job.

        Args:
            reservation: made by `reserve` for this job.

        Raises:
            QueueFull: there is no reservation, and too much is queued, see `reserve`.
            Unavailable: the service is stopping.
        """
        with self._admission():
            return self._queue.add(job, reservation)

    @contextmanager
    def _admission(self) -> Iterator[None]:
        if self._stopping or not self.alive:
            raise self._unavailable("the service accepts no more work; send the picture again in a few seconds")
        try:
            yield
        except QueueFull:
            self._counters.refused += 1
            raise

    def before_pieces(self, call: Callable[[], Result], text: str) -> Result:
        """Run a call in the device's thread and wait for it; for the thread that loads the service, before `start`.

        Args:
            text: name of the call, for the error if it hangs.

        Raises:
            DeviceLost: it hangs, or has found the device lost.
        """
        return self._device.call(call, text)

    async def between_pieces(self, call: Callable[[], Result]) -> Result:
        """Run a call in the device's thread, after the pieces submitted so far; it delays all others.

        Raises:
            RuntimeError: the service has stopped.
            Unavailable: the call has found the device lost.
        """
        future = asyncio.wrap_future(self._device.submit(call))
        self._wake.set()  # so that the call is watched
        try:
            return await future
        except DeviceLost as error:
            self._lost = error
            self._wake.set()
            raise self._unavailable("the device was lost; the service restarts") from error

    async def _run(self) -> None:
        try:
            while self._queue or not self._stopping:
                while self._device_needs_piece() and (piece := self._queue.next_piece()):
                    self._launch(piece)
                await self._wait_for_change()
                while self._running and self._running[0][1].done():
                    self._finish(*self._running.popleft())
                if self._lost is not None:
                    raise self._lost
                self._device.check()
        except Exception as error:
            log.critical("the scheduler has ended", exc_info=True)
            self.failure = error  # readiness follows it
        finally:
            text = "the service stopped before this picture was finished; send it again"
            self._queue.settle_all(lambda: self._unavailable(text))
            if self.failure is not None and self.on_failure is not None:
                self.on_failure()

    def _unavailable(self, text: str) -> Unavailable:
        return Unavailable(text, state="draining" if self._stopping else "broken")

    def _device_needs_piece(self) -> bool:
        if not self._running:
            return True
        (piece, _), *more = self._running
        predicted_s = self.costs.seconds(piece.jobs[0].job.cost_key, piece.px)
        return not more and predicted_s is not None and predicted_s < AHEAD_S

    async def _wait_for_change(self) -> None:
        """Wait until there may be something to do.

        That is: a piece has finished; a job has arrived, left or been read; the patience with a slow reader has run
        out; or the device has to be checked.
        """
        self._wake.clear()
        patience_s = None if self._running else self._queue.patience_s()
        limits_s = (s for s in (patience_s, self._device.check_in_s) if s is not None)
        await is_set_within(self._wake, min(limits_s, default=None))

    def _launch(self, piece: Piece[Input, Output]) -> None:
        predicted_s = self.costs.seconds(piece.jobs[0].job.cost_key, piece.px)
        run = partial(piece.run, self._engine, self._clock)
        future = asyncio.wrap_future(self._device.submit(run, f"a piece of {piece.px} px", predicted_s=predicted_s))
        future.add_done_callback(lambda _: self._wake.set())
        self._running.append((piece, future))
        for queued in piece.jobs:
            queued.in_flight += 1
            if queued.stream is not None:
                self._queue.enqueue(queued)

    def _finish(self, piece: Piece[Input, Output], future: "asyncio.Future[PieceResult[Input, Output]]") -> None:
        result = future.result()
        if isinstance(result.error, DeviceLost):
            raise result.error
        self._counters.count(result)
        self._learn(result)
        for step in result.steps:
            if step.queued.ticket.outcome is None:  # otherwise its caller left while the device was busy
                self._progress(step, result)
        for queued in piece.jobs:
            queued.in_flight -= 1
            if queued.ticket.outcome is not None:
                continue
            if not queued.is_wanted(result.began_s):
                self._queue.expire(queued)
            elif result.error is not None and len(result.ran) > 1:
                self._queue.run_alone(queued)  # so that only the job that cannot be done fails
            elif result.error is not None:
                self._queue.settle(queued, Outcome.FAILED, result.error)
            else:
                self._queue.enqueue(queued)

    def _progress(self, step: Step[Input, Output], result: PieceResult[Input, Output]) -> None:
        queued, ticket = step.queued, step.queued.ticket
        if queued.began_s is None:
            queued.began_s = result.began_s
            ticket.queue_s = result.began_s - queued.submitted_s
        ticket.infer_s = result.ended_s - queued.began_s
        px = queued.remaining_px if step.finished else queued.next_band_px
        self._queue.advance(queued, px)
        self._counters.done_px += px
        if step.part is not None:
            ticket.deliver(step.part)
        if step.finished:
            self._queue.settle(queued, Outcome.DONE)

    def _learn(self, result: PieceResult[Input, Output]) -> None:
        if not result.steps:
            return
        queued = result.ran[0]
        if queued.stream is None:
            px = sum(queued.job.cost_px for queued in result.ran)
            self.costs.observe(queued.job.cost_key, px, result.seconds)
        elif queued.ticket.outcome is None:
            self._learn_from_band(queued, result.steps[0], result.seconds)

    def _learn_from_band(self, queued: QueuedJob[Input, Output], step: Step[Input, Output], seconds: float) -> None:
        # The first bands of a deep network only fill it, and the last ones only empty it, so neither shows the cost of
        # a band. For a picture too low to have others, use the mean of all its bands.
        queued.bands_run += 1
        queued.device_s += seconds
        if step.part is not None and queued.next_band_px:
            queued.measured = True
            self.costs.observe(queued.job.cost_key, queued.next_band_px, seconds)
        elif step.finished and not queued.measured:
            px = max(1, queued.job.cost_px // queued.bands_run)
            self.costs.observe(queued.job.cost_key, px, queued.device_s / queued.bands_run)

    def _count_and_free(self, queued: QueuedJob[Input, Output]) -> None:
        assert queued.ticket.outcome is not None
        self._counters.outcomes[queued.ticket.outcome] += 1
        if queued.stream is not None:
            self._device.submit(queued.close_stream)
