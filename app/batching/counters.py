"""What operators may want to know of the scheduler, as plain numbers."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.batching.pieces import PieceResult
from app.batching.ticket import Outcome


@dataclass(kw_only=True)
class Counters:
    """Totals since the start, and how things stand at the moment."""

    pieces: int = 0
    """Pieces that ran: batches and bands, those that failed included."""
    batches: int = 0
    batched_jobs: int = 0
    batched_px: int = 0
    """LR px of the works in all batches, padding included."""
    padding_px: int = 0
    """How many of these were padding."""
    batch_bits: Counter[int] = field(default_factory=Counter)
    """Batches by the binary digits of their LR px: those with `n` have at least 2 ** (n - 1) and less than 2 ** n."""
    done_px: int = 0
    """LR px that went through the device and were wanted."""
    device_s: float = 0.0
    """Seconds that the engine worked."""
    refused: int = 0
    """Works that were not admitted since the queue was full."""
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    """Works that were admitted and have ended, by how."""

    queued: int = 0
    """Works that wait or run."""
    queued_px: int = 0
    """LR px of these that are still to be done."""
    running_px: int = 0
    """LR px of the pieces that the device has been given."""
    open_streams: int = 0
    stream_bytes: int = 0
    """Memory on the device that these hold."""
    backlog_s: float | None = None
    """Predicted seconds until all that waits or runs is done; None before anything was learned."""

    def count(self, result: PieceResult[Any, Any]) -> None:
        """A piece came back."""
        if not result.ran:
            return
        self.pieces += 1
        self.device_s += result.seconds
        if result.ran[0].bands is None:
            self.batches += 1
            self.batched_jobs += len(result.ran)
            px = sum(queued.job.cost_px for queued in result.ran)
            self.batched_px += px
            self.batch_bits[px.bit_length()] += 1
            self.padding_px += sum(queued.job.padding_px for queued in result.ran)
