"""A piece of work for the device: a batch of whole jobs, or one band of a stream.

`Piece.run` and `Bands` belong to the device's thread, everything else to the event loop.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Generic

from app.batching.job import Engine, Input, Job, Output
from app.batching.ticket import Ticket

log = logging.getLogger(__name__)


class Bands(Generic[Input, Output]):
    """An open stream of the engine."""

    def __init__(self, engine: Engine[Input, Output], job: Job[Input], band_px: int) -> None:
        self._engine = engine
        self._work = job
        self.band_px = band_px
        self._stream: Generator[Output | None] | None = None

    def advance(self) -> tuple[Output | None, bool]:
        """Run a band; returns the part that is ready, if any, and True after the last band."""
        if self._stream is None:
            self._stream = self._engine.stream(self._work.input, self.band_px)
        try:
            return next(self._stream), False
        except StopIteration:
            return None, True

    def close(self) -> None:
        """Free the stream's memory on the device."""
        if self._stream is not None:
            try:
                self._stream.close()
            except Exception:
                log.exception("a stream could not be closed")  # its caller has already been answered


@dataclass(kw_only=True, eq=False)
class QueuedJob(Generic[Input, Output]):
    """A job that waits or runs. Belongs to the event loop, except for the methods of `bands`."""

    job: Job[Input]
    ticket: Ticket[Output] = field(init=False)
    submitted_s: float
    expiry: asyncio.TimerHandle | None = None
    bands: Bands[Input, Output] | None = None
    """Set when a stream opens."""
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
        assert self.bands is not None
        return min(self.bands.band_px, self.remaining_px)

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
        if first.bands is not None:
            part, finished = first.bands.advance()
            return [Step(queued=first, part=part, finished=finished)]
        outputs = engine.batch([queued.job.input for queued in ran])
        if len(outputs) != len(ran):
            raise RuntimeError(f"the engine gave {len(outputs)} outputs for {len(ran)} inputs")
        return [Step(queued=queued, part=output, finished=True) for queued, output in zip(ran, outputs, strict=True)]
