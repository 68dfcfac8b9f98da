"""The database of jobs: SQLite or PostgreSQL.

Statements name their values (`:id`) and use only SQL that both databases support. Write transactions run one at a time
across all machines, so they need no further locks.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, TypeVar

from app.errors import Unavailable
from app.jobs.job import Row

Result = TypeVar("Result")


class Session(Protocol):
    """One transaction."""

    def rows(self, sql: str, **values: object) -> list[Row]:
        """Run a statement and return its rows; values that it does not name are ignored."""

    def now(self) -> float:
        """Return the time in seconds since 1970, on a clock that all machines share."""


class Connection(ABC):
    """A connection and its thread."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")

    @abstractmethod
    def run(self, call: Callable[[Session], Result]) -> Result:
        """Run a transaction; connects first if need be."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""


class Database:
    """A connection to write and one to read: reads do not wait while writes wait for a lock."""

    def __init__(self, writer: Connection, reader: Connection) -> None:
        self._writer = writer
        self._reader = reader

    async def write(self, call: Callable[[Session], Result]) -> Result:
        """Run a transaction; it is durable when this returns, and has no effect if the call raises.

        Raises:
            StorageFull: the disk is full; the transaction has no effect.
            DatabaseDown: the database cannot be reached. If the connection broke, the transaction may be durable.
        """
        return await _to_its_end(self._writer.thread, partial(self._writer.run, call))

    async def read(self, call: Callable[[Session], Result]) -> Result:
        """Run a read-only transaction.

        Raises:
            DatabaseDown: the database cannot be reached.
        """
        return await _to_its_end(self._reader.thread, partial(self._reader.run, call))

    async def close(self) -> None:
        """Finish running transactions, and close the connections."""
        for connection in (self._reader, self._writer):  # SQLite's last one merges the log of writes into the file
            try:
                await _to_its_end(connection.thread, connection.close)
            finally:
                connection.thread.shutdown(wait=False)


async def _to_its_end(thread: Executor, call: Callable[[], Result]) -> Result:
    """Run a transaction in a thread, to its end even if the caller leaves: one that still waits would be dropped."""
    running = asyncio.get_running_loop().run_in_executor(thread, call)
    running.add_done_callback(_retrieve_error)
    return await asyncio.shield(running)


def _retrieve_error(running: "asyncio.Future[Any]") -> None:
    """Keep asyncio from logging the error of a transaction whose caller has left."""
    if not running.cancelled():
        running.exception()


class DatabaseDown(Unavailable):
    """The database of the jobs cannot be reached."""

    def __init__(self, reason: str) -> None:
        super().__init__("the database of the jobs cannot be reached; try again in a few seconds", reason=reason)
