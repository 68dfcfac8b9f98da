"""What the scheduler schedules: work with a cost, and the engine that runs it. No torch, no HTTP, no images."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")
Taken = TypeVar("Taken", contravariant=True)
Given = TypeVar("Given", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Work(Generic[Input]):
    """What one request asks of the device."""

    input: Input
    cost_px: int
    """LR px of all of it, padding included."""
    bucket: Hashable
    """Works of equal buckets may run as one batch; None: this one runs alone, as a stream of pieces."""
    piece_px: int
    """LR px that run without a break: all of it, or one band of a stream."""


@dataclass(frozen=True, kw_only=True)
class Done(Generic[Output]):
    """A finished work."""

    output: Output
    queue_s: float
    """Seconds from submission until the device first took it."""
    infer_s: float
    """Seconds from then until it was finished, the pieces of others in between included."""


class Engine(Protocol[Taken, Given]):
    """Runs work on the device. The scheduler calls it from one thread only."""

    def batch(self, inputs: Sequence[Taken]) -> Sequence[Given]:
        """Run works of one bucket together; the outputs are in the order of the inputs."""

    def stream(self, work: Taken) -> Iterator[Given | None]:
        """Run one work piece by piece: None after each piece but the last, which gives the output."""
