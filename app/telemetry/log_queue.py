"""The log in a thread of its own: a slow reader of the log holds up no request."""

import logging
import queue
import time
from logging.handlers import QueueHandler, QueueListener

MOST_LINES = 10_000
"""Lines that may wait; more are dropped and counted."""

LOOK_S = 0.01


class BoundedQueueHandler(QueueHandler):
    """Puts formatted lines into a queue, and drops them while it is full.

    Args:
        lines: what a thread takes them from.
    """

    def __init__(self, lines: "queue.Queue[logging.LogRecord]") -> None:
        super().__init__(lines)
        self._lines = lines
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Add a line, after word of those that were dropped before it."""
        try:
            if self._dropped:
                self._lines.put_nowait(self.prepare(self._word_of_loss()))
                self._dropped = 0
            self._lines.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def _word_of_loss(self) -> logging.LogRecord:
        text = "%d lines of the log were dropped, since nobody read them"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (self._dropped,), None)
        self.filter(record)  # which adds the fields that formatters want
        return record


class BackgroundLog:
    """Writes what the root logger gets in a thread of its own, from here on.

    Args:
        most_lines: that may wait to be written.
    """

    def __init__(self, most_lines: int = MOST_LINES) -> None:
        root = logging.getLogger()
        (handler,) = root.handlers
        self._lines: queue.Queue[logging.LogRecord] = queue.Queue(most_lines)
        waiting = BoundedQueueHandler(self._lines)
        waiting.setFormatter(handler.formatter)
        waiting.filters, handler.filters = handler.filters, []  # the request is known only where the line is made
        handler.setFormatter(None)
        root.handlers = [waiting]
        self._listener = QueueListener(self._lines, handler)
        self._listener.start()

    def close(self) -> None:
        """Write what is left, however long that takes, and end the thread."""
        self._listener.stop()

    def flush(self, within_s: float) -> None:
        """Wait until all lines are written, unless that takes longer: perhaps nobody reads them."""
        until_s = time.monotonic() + within_s
        while self._lines.unfinished_tasks and time.monotonic() < until_s:
            time.sleep(LOOK_S)
