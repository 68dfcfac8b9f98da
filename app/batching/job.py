"""What the scheduler schedules: work with a cost, and the engine that runs it. No torch, no HTTP, no images."""

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")
EngineInput = TypeVar("EngineInput", contravariant=True)
EngineOutput = TypeVar("EngineOutput", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Input]):
    """What one request asks of the device.

    Raises:
        ValueError: it costs nothing, or its rows do.
    """

    input: Input
    cost_px: int
    """LR px of all of it, padding included."""
    kind: Hashable
    """Works of one kind run at about one speed, e.g. those of one network: what time a piece takes is learned by it."""
    bucket: Hashable = None
    """Works of one kind and bucket may run as one batch; None: this one runs alone, as a stream of bands."""
    row_px: int = 1
    """LR px of one row; a stream's bands are whole rows."""
    min_rows: int = 1
    """Rows of a stream's bands at least, however long they take: lower ones would cost the device too much."""
    stream_bytes: int = 0
    """Memory on the device that its stream holds from band to band."""
    padding_px: int = 0
    """How many of `cost_px` are padding; only counted."""
    deadline_s: float | None = None
    """The time on the scheduler's clock (`time.monotonic`) after which nobody wants the output any more."""

    def __post_init__(self) -> None:
        if self.cost_px < 1 or self.row_px < 1:
            raise ValueError(f"a work of {self.cost_px} px in rows of {self.row_px} px; both must be at least 1")

    @property
    def cost_key(self) -> tuple[Hashable, Hashable]:
        """What its speed is learned by, the general before the particular; works of equal keys may share a batch."""
        return (self.kind, self.bucket)


class Engine(Protocol[EngineInput, EngineOutput]):
    """Runs work on the device. All but `most_px` is called from one thread, and returns when the device has done it."""

    def max_px(self, job: EngineInput) -> int:
        """Most LR px that a piece of such work may have for the memory at hand; lowered when memory ran out.

        Called from any thread. A single picture and a single row may be larger, and an open stream keeps its bands.
        """

    def batch(self, inputs: Sequence[EngineInput]) -> Sequence[EngineOutput]:
        """Run works of one kind and bucket together: one whole output each, in the order of the inputs."""

    def stream(self, job: EngineInput, band_px: int) -> Generator[EngineOutput | None, None, EngineOutput | None]:
        """Run one work in bands of `band_px` LR px, the last one smaller.

        Yields the parts of its output in order, one step per band: None where none is ready after that band. What it
        returns, if anything, is the last part: returned rather than yielded, it spares the stream a further turn.
        `close` is called once, whatever happened, in the thread of the other calls; it frees what the stream holds.
        """
