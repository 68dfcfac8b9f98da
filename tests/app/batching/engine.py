"""A fake engine that tests can block, with a manual clock, and helpers that submit jobs."""

import asyncio
import math
import threading
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass

from app.batching.job import Job
from app.batching.scheduler import Scheduler
from app.batching.ticket import Ticket
from tests.clock import ManualClock


@dataclass(frozen=True, kw_only=True)
class FakeInput:
    """Input of the fake engine."""

    name: str
    px: int
    late_bands: int = 0
    """Bands by which a stream's output lags behind its input."""


class FakeEngine:
    """Records every piece, and blocks while the gate is closed.

    A batch returns the names in capitals; a stream of the job `a` yields `a0`, `a1` and so on, one for each band. Each
    piece moves the clock by `s_per_px` and `fixed_s`; a band without a part moves it only by `fixed_s`, as if it did no
    more than fill the network.
    """

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.s_per_px = 0.01
        self.fixed_s = 0.0
        self.max_piece_px = 10**9
        self.breaks: dict[str, int] = {}
        """Jobs that raise, and the index of the piece that does."""
        self.broken: set[str] = set()
        """Jobs that raise in every piece."""
        self.error: BaseException = ArithmeticError("cannot run this")
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.pieces: list[list[str]] = []
        self.bands_px: dict[str, int] = {}
        self.open: set[str] = set()
        self.most_open = 0
        self.closed: list[str] = []
        self.threads: set[str] = set()

    def max_px(self, job: FakeInput) -> int:
        return self.max_piece_px

    def batch(self, inputs: Sequence[FakeInput]) -> list[str]:
        self._run(inputs, sum(job.px for job in inputs))
        return [job.name.upper() for job in inputs if job.name != "swallowed"]

    def stream(self, job: FakeInput, band_px: int) -> Generator[str | None]:
        self.bands_px[job.name] = band_px
        self.open.add(job.name)
        self.most_open = max(self.most_open, len(self.open))
        bands = math.ceil(job.px / band_px) + job.late_bands
        try:
            for band in range(bands):
                ready = band - job.late_bands
                self._run([job], min(band_px, job.px - ready * band_px) if ready >= 0 else 0)
                yield f"{job.name}{ready}" if ready >= 0 else None
        finally:
            self.threads.add(threading.current_thread().name)
            self.open.remove(job.name)
            self.closed.append(job.name)

    def _run(self, jobs: Sequence[FakeInput], px: int) -> None:
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.gate.wait(60)
        self.clock.now_s += px * self.s_per_px + self.fixed_s
        for job in jobs:
            if job.name in self.broken or self.breaks.get(job.name) == sum(job.name in piece for piece in self.pieces):
                self.pieces.append([job.name for job in jobs])
                raise self.error
        self.pieces.append([job.name for job in jobs])


def make_scheduler(
    engine: FakeEngine,
    *,
    max_queued_px: int = 10**6,
    max_streams: int = 2,
    piece_s: float = 4.0,
    reader_s: float = 30.0,
    taught: bool = True,
) -> Scheduler[FakeInput, str]:
    """Make and start a scheduler; if taught, it knows the speed of the engine: 400 px take 4 s."""
    scheduler = Scheduler[FakeInput, str](
        engine,
        max_queued_px=max_queued_px,
        max_stream_bytes=max_streams,
        piece_s=piece_s,
        reader_s=reader_s,
        clock=engine.clock,
    )
    if taught:
        scheduler.costs.observe(("net", None), 1000, 1000 * engine.s_per_px)
    scheduler.start()
    return scheduler


def small(name: str, *, px: int = 100, bucket: Hashable = "bucket", deadline_s: float | None = None) -> Job[FakeInput]:
    """Make a job for a picture that runs whole."""
    return Job(input=FakeInput(name=name, px=px), cost_px=px, kind="net", bucket=bucket, deadline_s=deadline_s)


def large(
    name: str,
    *,
    px: int = 1024,
    row_px: int = 256,
    min_rows: int = 1,
    deadline_s: float | None = None,
    late_bands: int = 0,
    stream_bytes: int = 1,
) -> Job[FakeInput]:
    """Make a job for a picture that runs as a stream; in four bands by default."""
    job = FakeInput(name=name, px=px, late_bands=late_bands)
    return Job(
        input=job,
        cost_px=px,
        kind="net",
        row_px=row_px,
        min_rows=min_rows,
        deadline_s=deadline_s,
        stream_bytes=stream_bytes,
    )


async def occupy(engine: FakeEngine, scheduler: Scheduler[FakeInput, str], job: Job[FakeInput]) -> Ticket[str]:
    """Close the gate and submit a job; returns once it is running."""
    engine.gate.clear()
    engine.entered.clear()
    ticket = scheduler.submit(job)
    assert await asyncio.to_thread(engine.entered.wait, 60)
    return ticket


async def all_parts(ticket: Ticket[str]) -> list[str]:
    """Wait for all parts of a ticket's output; cancelling it cancels the job."""
    async with ticket:
        return [part async for part in ticket]


async def outputs(*tickets: Ticket[str]) -> list[list[str]]:
    """Return all parts of each ticket."""
    return await asyncio.gather(*(all_parts(ticket) for ticket in tickets))


async def outcomes(*tickets: Ticket[str]) -> list[list[str] | BaseException]:
    """Return all parts of each ticket, or its error."""
    return await asyncio.gather(*(all_parts(ticket) for ticket in tickets), return_exceptions=True)
