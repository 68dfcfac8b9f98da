"""Numbers that operators may want of the jobs, kept by this process."""

from collections import Counter
from dataclasses import dataclass, field

from app.jobs.ledger import Totals


@dataclass(kw_only=True)
class JobCounters:
    """Counts since the start, and the latest totals of the table, which all processes share."""

    ended: Counter[str] = field(default_factory=Counter)
    """Pictures whose work ended here, by state."""
    crashes: int = 0
    """Pictures that lost their worker."""
    expired: int = 0
    """Jobs that were removed after their time."""
    webhooks: Counter[str] = field(default_factory=Counter)
    """Attempts to deliver webhooks, by outcome: `delivered`, `retried`, `failed`."""
    totals: Totals = field(default_factory=Totals)
