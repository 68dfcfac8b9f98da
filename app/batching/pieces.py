"""A piece of work for the device: a batch of whole jobs, or one band of a stream.

`Piece.run` and `QueuedJob.close_stream` belong to the device's thread, everything else to the event loop.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Generic

from app.batching.job import Engine, Input, Job, Output
from app.batching.ticket import Ticket

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class QueuedJob(Generic[Input, Output]):
    """A job that waits or runs."""

    job: Job[Input]
    ticket: Ticket[Output] = field(init=False)
    submitted_s: float
    expiry: asyncio.TimerHandle | None = None
    stream: Generator[Output | None] | None = None
    """Runs a band at a time; set when a stream opens."""
    band_px: int = 0
    """LR px of a stream's bands."""
    in_flight: int = 0
    """Pieces submitted to the device and not finished yet."""
    began_s: float | None = None
    """Start of its first piece."""
    device_s: float = 0.0
    """Seconds that its bands have taken so far."""
    bands_run: int = 0
    alone: bool = False
    """Run it without others: its batch failed, and it is retried."""
    measured: bool = False
    """True once one of its bands has taught the cost model."""

    @property
    def remaining_px(self) -> int:
        """LR px that are not done yet."""
        return self.job.cost_px - self.ticket.done_px

    @property
    def next_band_px(self) -> int:
        """LR px of its next band; 0 if the input is used up and only the last parts of the output follow."""
        return min(self.band_px, self.remaining_px)

    def close_stream(self) -> None:
        """Free the stream's memory on the device."""
        if self.stream is not None:
            try:
                self.stream.close()
            except Exception:
                log.exception("a stream could not be closed")  # its caller has already been answered

    def is_wanted(self, now_s: float) -> bool:
        """Return True while the output is still wanted: not settled, and before the deadline."""
        in_time = self.job.deadline_s is None or now_s < self.job.deadline_s
        return in_time and self.ticket.outcome is None


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Input, Output]):
    """The progress of one job in a piece."""

    queued: QueuedJob[Input, Output]
    part: Output | None
    finished: bool


@dataclass(frozen=True, kw_only=True)
class PieceResult(Generic[Input, Output]):
    """The result of a piece."""

    ran: Sequence[QueuedJob[Input, Output]]
    """Jobs that ran; the others were skipped because they were no longer wanted."""
    steps: Sequence[Step[Input, Output]]
    """One for each job that ran; empty after an error."""
    error: Exception | None
    began_s: float
    ended_s: float

    @property
    def seconds(self) -> float:
        """Duration of the piece."""
        return self.ended_s - self.began_s


@dataclass(frozen=True, kw_only=True)
class Piece(Generic[Input, Output]):
    """Jobs of one kind and bucket, or one stream, for the device."""

    jobs: Sequence[QueuedJob[Input, Output]]
    px: int

    def run(self, engine: Engine[Input, Output], clock: Callable[[], float]) -> PieceResult[Input, Output]:
        """Run all jobs that are still wanted; an exception of the engine is returned in the result."""
        began_s = clock()
        ran = [queued for queued in self.jobs if queued.is_wanted(began_s)]
        steps: Sequence[Step[Input, Output]] = []
        error: Exception | None = None
        try:
            steps = self._steps(engine, ran)
        except Exception as raised:
            error = raised
        return PieceResult(ran=ran, steps=steps, error=error, began_s=began_s, ended_s=clock())

    def _steps(
        self, engine: Engine[Input, Output], ran: Sequence[QueuedJob[Input, Output]]
    ) -> Sequence[Step[Input, Output]]:
        if not ran:
            return []
        first = ran[0]
        if first.stream is not None:
            try:
                return [Step(queued=first, part=next(first.stream), finished=False)]
            except StopIteration:
                return [Step(queued=first, part=None, finished=True)]
        outputs = engine.batch([queued.job.input for queued in ran])
        if len(outputs) != len(ran):
            raise RuntimeError(f"the engine gave {len(outputs)} outputs for {len(ran)} inputs")
        return [Step(queued=queued, part=output, finished=True) for queued, output in zip(ran, outputs, strict=True)]
