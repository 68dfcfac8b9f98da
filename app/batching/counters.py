"""Counters of the scheduler for metrics, as plain numbers."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from app.batching.pieces import PieceResult
from app.batching.ticket import Outcome


@dataclass(kw_only=True)
class Counters:
    """Totals since the start, and current values."""

    pieces: int = 0
    """Pieces that ran: batches and bands, including failed ones."""
    batches: int = 0
    batched_jobs: int = 0
    batched_px: int = 0
    """LR px of the jobs in all batches, including padding."""
    padding_px: int = 0
    """LR px of padding in these."""
    batch_bits: Counter[int] = field(default_factory=Counter)
    """Batches by the bit length of their LR px: n counts those from 2 ** (n - 1) to 2 ** n - 1."""
    done_px: int = 0
    """LR px that were processed for jobs that still wanted them."""
    device_s: float = 0.0
    """Seconds that the engine was busy."""
    refused: int = 0
    """Jobs refused because the queue was full."""
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    """Ended jobs, by outcome."""

    queued: int = 0
    """Jobs that wait or run."""
    queued_px: int = 0
    """Their LR px that are not done yet."""
    running_px: int = 0
    """LR px of the pieces submitted to the device."""
    open_streams: int = 0
    stream_bytes: int = 0
    """Memory on the device that the open streams hold."""
    backlog_s: float | None = None
    """Predicted seconds until everything that waits or runs is done; None before anything was learned."""

    def count(self, result: PieceResult[Any, Any]) -> None:
        """Count a finished piece."""
        if not result.ran:
            return
        self.pieces += 1
        self.device_s += result.seconds
        if result.ran[0].stream is None:
            self.batches += 1
            self.batched_jobs += len(result.ran)
            px = sum(queued.job.cost_px for queued in result.ran)
            self.batched_px += px
            self.batch_bits[px.bit_length()] += 1
            self.padding_px += sum(queued.job.padding_px for queued in result.ran)
