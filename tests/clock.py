"""A clock that only tests move."""

from dataclasses import dataclass


@dataclass
class ManualClock:
    """A clock that only tests move."""

    now_s: float = 1_000_000.0
    reads: int = 0
    """How often it was read."""

    def __call__(self) -> float:
        self.reads += 1
        return self.now_s
