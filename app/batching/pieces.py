"""One visit to the device: a batch of whole works, or one band of a stream. `run` and `close` belong to its thread."""

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Generic

from app.batching.job import Engine, Input, Job, Output
from app.batching.ticket import Ticket

log = logging.getLogger(__name__)


class Bands(Generic[Input, Output]):
    """A stream of the engine from its first band to its end; only the device's thread calls it."""

    def __init__(self, engine: Engine[Input, Output], job: Job[Input], band_px: int) -> None:
        self._engine = engine
        self._work = job
        self.band_px = band_px
        self._stream: Generator[Output | None, None, Output | None] | None = None

    def advance(self) -> tuple[Output | None, bool]:
        """Run a band: the part that got ready, if any, and whether it was the last; after the end, nothing and True."""
        if self._stream is None:
            self._stream = self._engine.stream(self._work.input, self.band_px)
        try:
            return next(self._stream), False
        except StopIteration as end:
            return end.value, True

    def close(self) -> None:
        """Free what the stream holds on the device."""
        if self._stream is not None:
            try:
                self._stream.close()
            except Exception:
                log.exception("a stream could not be closed")  # its caller has been answered already


@dataclass(kw_only=True, eq=False)
class QueuedJob(Generic[Input, Output]):
    """A work that waits or runs. It belongs to the event loop; of `bands`, only the device's thread calls anything."""

    job: Job[Input]
    ticket: Ticket[Output] = field(init=False)
    submitted_s: float
    expiry: asyncio.TimerHandle | None = None
    bands: Bands[Input, Output] | None = None
    """Set when a stream opens."""
    in_flight: int = 0
    """Its bands that the device has been given and the scheduler has not seen come back."""
    began_s: float | None = None
    """When the device first took it."""
    device_s: float = 0.0
    """Seconds that its bands have taken so far."""
    bands_run: int = 0
    alone: bool = False
    """It was in a batch that failed, and runs once more without the others."""
    measured: bool = False
    """Whether one of its bands has taught the cost model."""

    @property
    def remaining_px(self) -> int:
        """LR px that are still to be done."""
        return self.job.cost_px - self.ticket.done_px

    @property
    def next_band_px(self) -> int:
        """LR px of its next band; 0 where a stream has taken all rows in and only gives the last parts."""
        assert self.bands is not None
        return min(self.bands.band_px, self.remaining_px)

    def is_wanted(self, now_s: float) -> bool:
        """Whether anybody still waits for it."""
        in_time = self.job.deadline_s is None or now_s < self.job.deadline_s
        return in_time and self.ticket.outcome is None


@dataclass(frozen=True, kw_only=True)
class Step(Generic[Input, Output]):
    """How far a piece has brought one request."""

    queued: QueuedJob[Input, Output]
    part: Output | None
    finished: bool


@dataclass(frozen=True, kw_only=True)
class PieceResult(Generic[Input, Output]):
    """What a piece came back with."""

    ran: Sequence[QueuedJob[Input, Output]]
    """Those that ran; the others were dropped, since nobody wanted them any more."""
    steps: Sequence[Step[Input, Output]]
    """One for each that is present, or none after an error."""
    error: Exception | None
    began_s: float
    ended_s: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended_s - self.began_s


@dataclass(frozen=True, kw_only=True)
class Piece(Generic[Input, Output]):
    """Works of one kind and bucket, or one stream, on their way to the device."""

    jobs: Sequence[QueuedJob[Input, Output]]
    px: int

    def run(self, engine: Engine[Input, Output], clock: Callable[[], float]) -> PieceResult[Input, Output]:
        """Do the work of all that is still wanted. An Exception of the engine comes back as a value."""
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
