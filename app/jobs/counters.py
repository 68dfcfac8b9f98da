"""Counters of jobs in this process, for metrics."""

import time
from collections import Counter
from dataclasses import dataclass, field

from app.jobs.ledger import Totals


@dataclass(kw_only=True)
class JobCounters:
    """Counts of this process since its start, and the latest totals of the table that all processes share."""

    ended: Counter[str] = field(default_factory=Counter)
    """Pictures whose work ended in this process, by state."""
    crashes: int = 0
    """Pictures that lost their worker."""
    expired: int = 0
    """Jobs removed because they had expired."""
    webhooks: Counter[str] = field(default_factory=Counter)
    """Attempts to deliver webhooks, by outcome: `delivered`, `retried`, `failed`."""
    totals: Totals = field(default_factory=Totals)
    totals_s: float = field(default_factory=time.monotonic)
    """Time at which the totals were read, on the monotonic clock; at first, the start of the process."""
