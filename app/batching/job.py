"""The scheduler's jobs, and the engine that runs them. Imports neither torch nor HTTP nor images."""

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")
EngineInput = TypeVar("EngineInput", contravariant=True)
EngineOutput = TypeVar("EngineOutput", covariant=True)


class DeviceLost(Exception):
    """The device computes nothing more in this process, which has to be restarted; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Input]):
    """The work of one request.

    Raises:
        ValueError: its cost or that of its rows is less than 1 px.
    """

    input: Input
    cost_px: int
    """LR px of the whole job, including padding."""
    kind: Hashable
    """Jobs of one kind, e.g. of one network, run at about the same speed; the cost model learns per kind."""
    bucket: Hashable = None
    """Jobs of one kind and bucket may share a batch; None for a job that runs alone, as a stream of bands."""
    row_px: int = 1
    """LR px of one row; a stream's bands are whole rows."""
    min_rows: int = 1
    """Minimum rows of a stream's bands, however long they take: lower bands are inefficient."""
    stream_bytes: int = 0
    """Memory on the device that its stream holds between bands."""
    padding_px: int = 0
    """LR px of padding in `cost_px`; only counted."""
    background: bool = False
    """Nobody waits for it: it yields to the others, and has limits of its own."""
    deadline_s: float | None = None
    """Time on the scheduler's clock (`time.monotonic`) after which the output is no longer wanted."""

    def __post_init__(self) -> None:
        if self.cost_px < 1 or self.row_px < 1:
            raise ValueError(f"a job of {self.cost_px} px in rows of {self.row_px} px; both must be at least 1")

    @property
    def cost_key(self) -> tuple[Hashable, Hashable]:
        """Key of its speed in the cost model; jobs with equal keys may share a batch."""
        return (self.kind, self.bucket)


class Engine(Protocol[EngineInput, EngineOutput]):
    """Runs jobs on the device. `batch` and the bands of a stream block, and run in one thread.

    They raise `DeviceLost` where no later call can succeed.
    """

    def max_px(self, job: EngineInput) -> int:
        """Return the maximum LR px of a piece of such jobs, limited by memory; lower after memory ran out.

        Called from any thread. A single picture or row may be larger, and an open stream keeps the height of its bands.
        """

    def batch(self, inputs: Sequence[EngineInput]) -> Sequence[EngineOutput]:
        """Run jobs of one kind and bucket together; returns one whole output each, in the order of the inputs."""

    def stream(self, job: EngineInput, band_px: int) -> Generator[EngineOutput | None]:
        """Run one job in bands of `band_px` LR px; the last one may be smaller.

        A generator function, which may be called from any thread; the generator runs in that of the other calls. Yields
        once per band: the next part of the output, or None if no part is ready yet. `close`, which frees the stream's
        memory, is called exactly once.
        """
