"""Times the stages of one picture, for the header `Server-Timing` and for the request's record."""

import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from app.batching.ticket import Ticket
from app.record import current_record
from app.threads import in_thread

Item = TypeVar("Item")
Result = TypeVar("Result")


class StageTimes(Protocol):
    """Times of a job; see `Ticket`."""

    queue_s: float
    infer_s: float


class Stopwatch:
    """Measures decoding, waiting for the device, inference and encoding, in seconds.

    Encoding pulls rows from the device while it works, so its time is that of iterating over the file minus that of
    iterating over the rows: `encode = file - rows`.
    """

    def __init__(self) -> None:
        self._record = current_record()
        self._decode_s = 0.0
        self._submitted_s = 0.0
        self._ticket: StageTimes | None = None
        self._rows, self._file = _Timer(), _Timer()

    async def decode(self, pool: Executor, call: Callable[[], Result]) -> Result:
        """Decode in a thread; the wait for a free thread is not counted."""

        def timed() -> tuple[Result, float]:
            began_s = time.perf_counter()
            return call(), time.perf_counter() - began_s

        result, self._decode_s = await in_thread(pool, timed)
        self._record.add_stage("decode", self._decode_s)
        return result

    def submitted(self) -> None:
        """Note that the picture is handed to the scheduler now."""
        self._submitted_s = time.monotonic()

    def rows(self, ticket: Ticket[Item]) -> AsyncGenerator[Item, None]:
        """Iterate over a ticket and measure the wait for its parts."""
        self._ticket = ticket
        return self._rows.iterate(ticket)

    def frames(self, frames: AsyncIterable[Item], times: "StageTimes") -> AsyncGenerator[Item, None]:
        """Iterate over the frames of an animation and measure the wait for them."""
        self._ticket = times
        return self._rows.iterate(frames)

    def file(self, pieces: AsyncIterable[Item]) -> AsyncGenerator[Item, None]:
        """Iterate over an encoded file and measure how long its pieces take."""
        return self._file.iterate(pieces)

    def timings_s(self) -> Mapping[str, float]:
        """Return the seconds of each stage so far."""
        queue_s, infer_s = (0.0, 0.0) if self._ticket is None else (self._ticket.queue_s, self._ticket.infer_s)
        return {"decode": self._decode_s, "queue": queue_s, "infer": infer_s, "encode": self._encode_s}

    def stop(self) -> None:
        """Write the stages after decoding into the request's record."""
        if self._ticket is not None:
            infer_s = self._ticket.infer_s
            queue_s = self._ticket.queue_s if infer_s else time.monotonic() - self._submitted_s  # it may still wait
            self._record.add_stage("queue", queue_s, began_s=self._submitted_s)
            self._record.add_stage("infer", infer_s, began_s=self._submitted_s + queue_s)
        self._record.add_stage("encode", self._encode_s, began_s=self._file.ended_s - self._encode_s)

    @property
    def _encode_s(self) -> float:
        return self._file.seconds - self._rows.seconds


class _Timer:
    """Measures how long an iterator takes to produce its items, without the time its consumer takes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ended_s = time.monotonic()
        """Time of the latest item."""

    async def iterate(self, items: AsyncIterable[Item]) -> AsyncGenerator[Item, None]:
        iterator = aiter(items)
        while True:
            began_s = time.monotonic()
            try:
                item = await anext(iterator)
            except StopAsyncIteration:
                return
            finally:
                self.ended_s = time.monotonic()
                self.seconds += self.ended_s - began_s
            yield item
