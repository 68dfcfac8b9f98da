"""The observers of one service: what logs, metrics and traces learn from finished requests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.lifecycle import Lifecycle
from app.record import Observer
from app.telemetry.logs import log_access
from app.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from app.telemetry.traces import Traces


class Telemetry:
    """Logs, metrics and, where there is a collector, traces.

    Attributes:
        observers: receive the record of every request that has ended, also of those refused before the application.
    """

    def __init__(self, life: Lifecycle, traces: "Traces | None" = None) -> None:
        self.metrics = Metrics(life)
        self._traces = traces
        self.observers: Sequence[Observer] = [
            log_access,
            self.metrics.observe,
            *([traces.observe] if traces is not None else []),
        ]

    def close(self) -> None:
        """Send the last spans; blocks for up to two seconds."""
        if self._traces is not None:
            self._traces.close()
