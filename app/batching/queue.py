"""All jobs that wait or run: admits them, chooses the next piece, and settles each job once."""

import asyncio
import enum
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Generic

from app.batching.backlog import Backlog, Reservation
from app.batching.cost import CostModel
from app.batching.fair_queue import FairQueue
from app.batching.job import Engine, Input, Job, Output
from app.batching.open_streams import OpenStreams
from app.batching.pieces import Piece, QueuedJob
from app.batching.ticket import Outcome, Ticket, Withdrawn
from app.errors import DeadlinePassed, ReadTooSlowly

FIRST_PIECE_PX = 64 * 64
"""Size of pieces while their speed is unknown."""

MAX_UNREAD = 3
"""Maximum parts that a stream runs ahead of its reader."""


BACKGROUND_WEIGHT = 0.25
"""Share of the device of all background jobs together, relative to one job that somebody waits for."""


class StreamLane(enum.Enum):
    """Lanes of streams; each bucket has a lane of its own."""

    NEW = "new"
    NEW_BACKGROUND = "new, background"
    OPEN = "open"


class Queue(Generic[Input, Output]):
    """The jobs and their order.

    Background jobs have their own backlog and memory for streams: they slow others down by their shared weight, but
    never make them wait for room.

    Args:
        backlog: of the jobs that somebody waits for.
        open_streams: those that clients wait for, and those of background jobs.
        changed: called when a piece may have become available.
        ended: called with each job when it is settled.
    """

    def __init__(
        self,
        engine: Engine[Input, Output],
        costs: CostModel,
        backlog: Backlog,
        open_streams: tuple[OpenStreams[QueuedJob[Input, Output]], OpenStreams[QueuedJob[Input, Output]]],
        *,
        piece_s: float,
        clock: Callable[[], float],
        changed: Callable[[], None],
        ended: Callable[[QueuedJob[Input, Output]], None],
    ) -> None:
        self._engine = engine
        self._costs = costs
        unlimited = Backlog(costs, max_px=sys.maxsize, piece_s=piece_s)  # of background jobs, which their sender limits
        self._backlogs = {False: backlog, True: unlimited}
        self._streams = dict(zip((StreamLane.NEW, StreamLane.NEW_BACKGROUND), open_streams, strict=True))
        self._piece_s = piece_s
        self._clock = clock
        self._changed = changed
        self._ended = ended
        self._fair_queue: FairQueue[QueuedJob[Input, Output]] = FairQueue()
        self._jobs: set[QueuedJob[Input, Output]] = set()
        self._background_end_px = 0.0
        """Virtual time at which the background jobs so far will have had their share, except cancelled work."""

    def __len__(self) -> int:
        return len(self._jobs)

    def reserve(self, job: Job[Any]) -> Reservation:
        """Reserve room for a job whose input is not ready yet.

        Raises:
            QueueFull: too much is queued, in total or for its deadline.
        """
        self._check(job)
        return self._backlogs[job.background].reserve(job.cost_key, job.cost_px)

    def add(self, job: Job[Input], reservation: Reservation | None = None) -> Ticket[Output]:
        """Accept a job, using a reservation if there is one.

        Raises:
            QueueFull: there is no reservation, and too much is queued.
        """
        if reservation is None:
            self._check(job)
        else:
            reservation.release()
        queued: QueuedJob[Input, Output] = QueuedJob(job=job, submitted_s=self._clock())
        queued.ticket = Ticket(
            job.cost_px, on_read=partial(self.enqueue, queued), on_leave=partial(self._withdraw, queued)
        )
        if job.deadline_s is not None:
            in_s = max(0.0, job.deadline_s - queued.submitted_s)
            queued.expiry = asyncio.get_running_loop().call_later(in_s, self.expire, queued)
        self._jobs.add(queued)
        self._backlogs[job.background].add(job.cost_key, job.cost_px)
        self._join(queued)
        self._changed()
        return queued.ticket

    def _join(self, queued: QueuedJob[Input, Output]) -> None:
        job = queued.job
        lane = _new_lane(job) if job.bucket is None else job.cost_key
        if not job.background:
            self._fair_queue.join(queued, lane, job.deadline_s)
            return
        # Background jobs take turns one after the other, so a foreground job never waits for all of them.
        turn_px = self._fair_queue.join(queued, lane, weight=BACKGROUND_WEIGHT, earliest_px=self._background_end_px)
        self._background_end_px = turn_px + job.cost_px / BACKGROUND_WEIGHT

    def _check(self, job: Job[Any]) -> None:
        backlog = self._backlogs[job.background]
        backlog.check(job.cost_px)
        if job.deadline_s is not None:
            backlog.check_in_time(job.cost_px, within_s=job.deadline_s - self._clock())

    def next_piece(self) -> Piece[Input, Output] | None:
        """Take the next job, together with those of its bucket that fit; None if nothing may run now."""
        for lane in self._streams:
            if not self._next_stream_fits(lane):
                self._end_stalled_stream(lane)
        first = self._fair_queue.first(skip=[lane for lane in self._streams if not self._next_stream_fits(lane)])
        if first is None:
            return None
        return self._next_band(first) if first.job.bucket is None else self._next_batch(first)

    def enqueue(self, queued: QueuedJob[Input, Output]) -> None:
        """Put a stream back in the queue after a band or a read, or stall it while its reader is behind."""
        streams = self._streams[_new_lane(queued.job)]
        if queued.ticket.unread + queued.in_flight < MAX_UNREAD:
            if streams.resume(queued, self._clock()):
                self._fair_queue.catch_up(queued)
            self._fair_queue.wait(queued, StreamLane.OPEN)
            self._changed()
        elif not queued.in_flight:
            streams.stall(queued, self._clock())

    def run_alone(self, queued: QueuedJob[Input, Output]) -> None:
        """Put a job whose batch failed back in the queue, in a lane of its own."""
        queued.alone = True
        self._fair_queue.wait(queued, queued)

    def patience_s(self) -> float | None:
        """Return the seconds until `next_piece` may end a stalled stream; None if nothing waits for its memory."""
        left_s = [
            stalled[1]
            for lane, streams in self._streams.items()
            if not self._next_stream_fits(lane) and (stalled := streams.longest_stalled(self._clock())) is not None
        ]
        return max(0.0, min(left_s)) if left_s else None

    def advance(self, queued: QueuedJob[Input, Output], px: int) -> None:
        """Count LR px of a job as done."""
        queued.ticket.done_px += px
        self._backlogs[queued.job.background].advance(queued.job.cost_key, px)

    def settle(self, queued: QueuedJob[Input, Output], outcome: Outcome, error: Exception | None = None) -> None:
        """Settle a job that is not settled yet, wherever it is."""
        queued.ticket.settle(outcome, error)
        if queued.expiry is not None:
            queued.expiry.cancel()
        self._jobs.discard(queued)
        self._fair_queue.leave(queued)
        self._streams[_new_lane(queued.job)].give_back(queued)
        self._backlogs[queued.job.background].end(queued.job.cost_key, queued.remaining_px)
        if queued.job.background:  # later ones do not wait for the rest of a cancelled one
            self._background_end_px -= queued.remaining_px / BACKGROUND_WEIGHT
        self._ended(queued)
        self._changed()

    def expire(self, queued: QueuedJob[Input, Output]) -> None:
        """Settle a job whose deadline has passed."""
        progress = f"{queued.ticket.done_px} of {queued.job.cost_px} px were done"
        late = DeadlinePassed(f"{progress} when the deadline passed; allow more time, or try again later")
        self.settle(queued, Outcome.EXPIRED, late)

    def settle_all(self, error: Callable[[], Exception]) -> None:
        """Settle all jobs as failed."""
        for queued in list(self._jobs):
            self.settle(queued, Outcome.FAILED, error())

    def _withdraw(self, queued: QueuedJob[Input, Output]) -> None:
        self.settle(queued, Outcome.WITHDRAWN, Withdrawn("the caller cancelled this job"))

    def _next_stream_fits(self, lane: StreamLane) -> bool:
        """Return True if the first new stream may open; later ones wait behind it, or it might never open."""
        first = next(self._fair_queue.line(lane), None)
        return first is None or self._streams[lane].fits(first.job.stream_bytes)

    def _end_stalled_stream(self, lane: StreamLane) -> None:
        """End the stream that was stalled longest if its patience is used up, to make room for a waiting one.

        With a patience of 30 s, a stream whose reader paused for 20 s, read on, and paused for 10 s again may be ended;
        one whose reader keeps up is never ended, however much memory it holds.
        """
        stalled = self._streams[lane].longest_stalled(self._clock())
        if stalled is not None and stalled[1] <= 0:
            slow = ReadTooSlowly(
                "the answer was read too slowly while others waited; read it faster, or try again later"
            )
            self.settle(stalled[0], Outcome.EXPIRED, slow)

    def _next_batch(self, first: QueuedJob[Input, Output]) -> Piece[Input, Output]:
        max_px = self._piece_px(first.job)
        jobs: list[QueuedJob[Input, Output]] = []
        px = 0
        for queued in [first] if first.alone else self._fair_queue.line(first.job.cost_key):
            if jobs and px + queued.job.cost_px > max_px:
                break
            jobs.append(queued)
            px += queued.job.cost_px
        self._fair_queue.serve(jobs, [queued.job.cost_px for queued in jobs])
        return Piece(jobs=jobs, px=px)

    def _next_band(self, queued: QueuedJob[Input, Output]) -> Piece[Input, Output]:
        if queued.stream is None:
            job = queued.job
            rows = max(job.min_rows, min(self._piece_px(job), job.cost_px) // job.row_px)
            queued.band_px = job.row_px * _rounded(rows)
            queued.stream = self._engine.stream(job.input, queued.band_px)
            self._streams[_new_lane(job)].take(queued, job.stream_bytes)
        self._fair_queue.serve([queued], [queued.band_px])
        return Piece(jobs=[queued], px=queued.band_px)

    def _piece_px(self, job: Job[Input]) -> int:
        # A request that arrives during a background piece waits for that piece and for the next one.
        piece_s = self._piece_s / 2 if job.background else self._piece_s
        px = self._costs.px_within(job.cost_key, piece_s)
        return min(self._engine.max_px(job.input), FIRST_PIECE_PX if px is None else px)


def _new_lane(job: Job[Any]) -> StreamLane:
    return StreamLane.NEW_BACKGROUND if job.background else StreamLane.NEW


def _rounded(rows: int) -> int:
    """Round down to 1, 2, 3, 4, 6, 8, 12, 16, 24 ...: few band shapes, since a device may prepare for each."""
    power: int = 1 << (rows.bit_length() - 1)
    half_more = power + power // 2
    return half_more if half_more <= rows else power
