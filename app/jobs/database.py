"""Interface of the database of jobs: SQLite or PostgreSQL.

Statements name their values (`:id`) and use only SQL that both databases support. Write transactions run one at a time
across all machines, so they need no further locks.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

from app.errors import Unavailable
from app.jobs.job import Row

Result = TypeVar("Result")


class Session(Protocol):
    """One transaction."""

    def rows(self, sql: str, **values: object) -> list[Row]:
        """Run a statement and return its rows."""

    def now(self) -> float:
        """Return the time in seconds since 1970, on a clock that all machines share."""


class Database(Protocol):
    """Runs transactions in threads."""

    async def write(self, call: Callable[[Session], Result]) -> Result:
        """Run a transaction; it is durable when this returns, and has no effect if the call raises.

        Raises:
            StorageFull: the disk is full; the transaction has no effect.
            DatabaseDown: the database cannot be reached. If the connection broke, the transaction may be durable.
        """

    async def read(self, call: Callable[[Session], Result]) -> Result:
        """Run a read-only transaction.

        Raises:
            DatabaseDown: the database cannot be reached.
        """

    async def close(self) -> None:
        """Finish running transactions, and close the connections."""


async def to_its_end(thread: Executor, call: Callable[[], Result]) -> Result:
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
