"""Writes the log in a thread of its own, so that a slow reader of the log delays no request."""

import logging
import queue
import time
from logging.handlers import QueueHandler, QueueListener

MAX_LINES = 10_000
"""Maximum lines in the queue; more are dropped and counted."""

POLL_S = 0.01


class BoundedQueueHandler(QueueHandler):
    """Puts formatted lines into a queue, and drops them while it is full.

    Args:
        lines: the queue that a thread writes from.
    """

    def __init__(self, lines: "queue.Queue[logging.LogRecord]") -> None:
        super().__init__(lines)
        self._lines = lines
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Add a line, after a notice about lines that were dropped before it."""
        try:
            if self._dropped:
                self._lines.put_nowait(self.prepare(self._dropped_notice()))
                self._dropped = 0
            self._lines.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _dropped_notice(self) -> logging.LogRecord:
        text = "%d lines of the log were dropped because it is not read"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (self._dropped,), None)
        self.filter(record)  # adds the fields that formatters need
        return record


class BackgroundLog:
    """Writes what the root logger receives in a thread of its own, starting now.

    Args:
        max_lines: maximum lines in the queue.
    """

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        root = logging.getLogger()
        (handler,) = root.handlers
        self._lines: queue.Queue[logging.LogRecord] = queue.Queue(max_lines)
        waiting = BoundedQueueHandler(self._lines)
        waiting.setFormatter(handler.formatter)
        waiting.filters, handler.filters = (
            handler.filters,
            [],
        )  # they need the request's context
        handler.setFormatter(None)
        root.handlers = [waiting]
        self._listener = QueueListener(self._lines, handler)
        self._listener.start()

    def close(self) -> None:
        """Write all remaining lines, however long that takes, and end the thread."""
        self._listener.stop()

    def flush(self, within_s: float) -> None:
        """Wait until all lines are written, for a limited time: perhaps nobody reads them."""
        until_s = time.monotonic() + within_s
        while self._lines.unfinished_tasks and time.monotonic() < until_s:
            time.sleep(POLL_S)
