"""Shares one device among all requests: after every piece of work it decides anew what runs next.

A piece is a batch of small works that share a bucket, whoever sent them, or one band of a large work's stream. The
request that has had the least of the device is served first (fair queueing), so that neither a large picture nor a
crowd of small ones starves the other. All decisions are made on the event loop; the engine runs in one thread.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.batching.work import Done, Engine, Input, Output, Work
from app.errors import QueueFull, Unavailable

Result = TypeVar("Result")


@dataclass(kw_only=True, eq=False)
class _Request(Generic[Input, Output]):
    """A work that waits or runs, with the future of whoever submitted it."""

    work: Work[Input]
    future: asyncio.Future[Done[Output]]
    turn: float
    """Its place in virtual time, which counts LR px per waiting request; the smallest runs next."""
    submitted_s: float = field(default_factory=time.monotonic)
    started_s: float | None = None
    device_s: float = 0.0
    finished: bool = False
    """All of it ran; false for what failed, and for the rest of a caller that left."""
    stream: Iterator[Output | None] | None = None

    def finish(self, output: Output) -> None:
        assert self.started_s is not None
        self.finished = True
        if not self.future.done():  # its caller may have left while the device worked
            queue_s, infer_s = self.started_s - self.submitted_s, time.monotonic() - self.started_s
            self.future.set_result(Done(output=output, queue_s=queue_s, infer_s=infer_s))

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Scheduler(Generic[Input, Output]):
    """A queue in front of an engine.

    Args:
        max_queued_px: most LR px that may wait or run; a single request is always taken.
        max_batch_px: most LR px in one batch; a single work may be larger.
        max_streams: streams that may be open at once, since each holds memory on the device.
    """

    def __init__(
        self, engine: Engine[Input, Output], *, max_queued_px: int, max_batch_px: int, max_streams: int
    ) -> None:
        self._engine = engine
        self._max_queued_px = max_queued_px
        self._max_batch_px = max_batch_px
        self._max_streams = max_streams
        self._requests: list[_Request[Input, Output]] = []
        self._virtual_px = 0.0
        self._px_per_s: float | None = None
        self._stopping = False
        self._wake = asyncio.Event()
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run work; call it on the event loop."""
        self._task = asyncio.create_task(self._run(), name="scheduler")

    async def stop(self, drain_s: float) -> None:
        """Refuse new work and finish what was accepted, for at most `drain_s`; the rest is answered Unavailable."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=drain_s)
            self._task.cancel()
            await asyncio.wait({self._task})
        self._device.shutdown(wait=False, cancel_futures=True)

    @property
    def alive(self) -> bool:
        """False before `start`, and once the loop has ended for whatever reason."""
        return self._task is not None and not self._task.done()

    @property
    def stopping(self) -> bool:
        """True once `stop` was called."""
        return self._stopping

    @property
    def queued_px(self) -> int:
        """LR px of all requests that wait or run."""
        return sum(request.work.cost_px for request in self._requests)

    async def submit(self, work: Work[Input]) -> Done[Output]:
        """Wait for a work's turn and its output. Cancelling the caller withdraws the work.

        Raises:
            QueueFull: too much waits already; `retry_after_s` is the predicted time until there is room.
            Unavailable: the service is stopping.
        """
        if self._stopping or not self.alive:
            raise Unavailable("the service is stopping; send the picture again in a few seconds", retry_after_s=5)
        self._admit(work)
        future: asyncio.Future[Done[Output]] = asyncio.get_running_loop().create_future()
        self._requests.append(_Request(work=work, future=future, turn=self._virtual_px))
        self._wake.set()
        return await future

    def _admit(self, work: Work[Input]) -> None:
        queued_px = self.queued_px
        excess_px = queued_px + work.cost_px - self._max_queued_px
        if queued_px and excess_px > 0:
            wait_s = max(1, round(excess_px / self._px_per_s)) if self._px_per_s else 1
            raise QueueFull(
                f"{queued_px} px are waiting and this picture adds {work.cost_px}, which passes the limit of "
                f"{self._max_queued_px}; try again in {wait_s} s",
                retry_after_s=wait_s,
            )

    async def _run(self) -> None:
        try:
            while True:
                # The work of callers that left is dropped here, before the device sees (more of) it.
                self._requests = [request for request in self._requests if not request.future.done()]
                if self._requests:
                    await self._run_piece(self._next_piece())
                elif self._stopping:
                    return
                else:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            for request in self._requests:
                request.fail(Unavailable("the service stopped before this picture was finished; send it again"))

    def _next_piece(self) -> list[_Request[Input, Output]]:
        """The request whose turn it is, joined by those of its bucket that fit, in the order of their turns."""
        may_open = sum(request.stream is not None for request in self._requests) < self._max_streams
        ready = [r for r in self._requests if r.work.bucket is not None or r.stream is not None or may_open]
        first, *others = sorted(ready, key=lambda request: request.turn)
        piece, filled_px = [first], first.work.cost_px
        for other in others:
            if first.work.bucket is None or other.work.bucket != first.work.bucket:
                continue
            if filled_px + other.work.cost_px > self._max_batch_px:
                break
            piece.append(other)
            filled_px += other.work.cost_px
        return piece

    async def _run_piece(self, piece: list[_Request[Input, Output]]) -> None:
        began_s = time.monotonic()
        for request in piece:
            request.started_s = request.started_s or began_s
        try:
            if piece[0].work.bucket is None:
                await self._run_band(piece[0])
            else:
                await self._run_batch(piece)
        except Exception as error:
            for request in piece:
                request.fail(error)
        self._account(piece, time.monotonic() - began_s)

    async def _run_batch(self, piece: list[_Request[Input, Output]]) -> None:
        outputs = await self._on_device(lambda: self._engine.batch([request.work.input for request in piece]))
        if len(outputs) != len(piece):
            raise RuntimeError(f"the engine gave {len(outputs)} outputs for {len(piece)} inputs")
        for request, output in zip(piece, outputs, strict=True):
            request.finish(output)

    async def _run_band(self, request: _Request[Input, Output]) -> None:
        stream = request.stream = request.stream or self._engine.stream(request.work.input)
        output = await self._on_device(lambda: _advance(stream))
        if output is not None:
            request.finish(output)

    async def _on_device(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._device, call)

    def _account(self, piece: list[_Request[Input, Output]], seconds: float) -> None:
        """Move the served requests back and virtual time on; learn the speed of the device."""
        for request in piece:
            request.turn += request.work.piece_px
            request.device_s += seconds / len(piece)
            if request.finished and request.device_s > 0:
                speed = request.work.cost_px / request.device_s
                self._px_per_s = speed if self._px_per_s is None else 0.8 * self._px_per_s + 0.2 * speed
        # Newcomers start at the virtual time. It moves by the share of each request, so a stream that was served
        # waits until the others have had as much, and no longer, however many come after it.
        self._virtual_px += sum(request.work.piece_px for request in piece) / len(self._requests)


def _advance(stream: Iterator[Output | None]) -> Output | None:
    for output in stream:
        return output
    # StopIteration must not leave the thread: asyncio cannot carry it, and the request would wait forever.
    raise RuntimeError("the engine's stream ended without an output")
