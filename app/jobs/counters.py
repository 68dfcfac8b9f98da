"""Counters of jobs, kept by this process, for metrics."""

import time
from collections import Counter
from dataclasses import dataclass, field

from app.jobs.ledger import Totals


@dataclass(kw_only=True)
class JobCounters:
    """Counts since the start, and the latest totals of the table, which all processes share."""

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
    """When the totals were read, by the monotonic clock; before that, when the process started."""
