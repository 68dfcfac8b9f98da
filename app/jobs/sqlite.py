"""Jobs in a SQLite file, for one machine; needs no further package."""

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.errors import StorageFull
from app.jobs.database import SCHEMA, DatabaseDown, Session, to_its_end
from app.jobs.job import Row

Result = TypeVar("Result")

BUSY_S = 10.0
"""Maximum time to wait for another process that writes."""

MAGIC = b"SQLite format 3\0"

PASSING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""Errors of opening that a retry may not meet."""


class SqliteDatabase:
    """A connection that one thread uses; several processes of one machine may share the file.

    Args:
        clock: returns seconds since 1970.

    Raises:
        OSError: the file cannot be opened or is no database.
        DatabaseDown: the disk is full or fails, or another process locks the file for too long.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        try:
            self._connection = self._thread.submit(_connect, path).result()
        except sqlite3.Error as error:
            self._thread.shutdown()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in PASSING:
                raise DatabaseDown(f"{path.name}: {error}") from error
            raise OSError(f"{path.name} cannot be used as a database ({error})") from error

    async def write(self, call: Callable[[Session], Result]) -> Result:
        """See `Database.write`."""
        return await self._run(call, "begin immediate")

    async def read(self, call: Callable[[Session], Result]) -> Result:
        """See `Database.read`."""
        return await self._run(call, "begin")

    async def close(self) -> None:
        """See `Database.close`."""
        try:
            await to_its_end(self._thread, self._connection.close)
        finally:
            self._thread.shutdown(wait=False)

    async def _run(self, call: Callable[[Session], Result], begin: str) -> Result:
        return await to_its_end(self._thread, partial(self._transact, call, begin))

    def _transact(self, call: Callable[[Session], Result], begin: str) -> Result:
        try:
            self._connection.execute(begin)
            try:
                result = call(_SqliteSession(self._connection, self._clock))
                self._connection.execute("commit")
                return result
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StorageFull("the disk is full; try again later, or ask the operator for room") from error
            if isinstance(error, sqlite3.OperationalError):
                raise DatabaseDown(str(error)) from error
            raise


def check_file(path: Path) -> None:
    """Check that a file can be used as a database, without changing it.

    Raises:
        OSError: it cannot.
    """
    with path.open("r+b") as file:
        if file.read(len(MAGIC)) not in (MAGIC, b""):
            raise OSError(f"{path.name} is not a SQLite database")


class _SqliteSession:
    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock

    def rows(self, sql: str, **values: object) -> list[Row]:
        return [dict(row) for row in self._connection.execute(sql, values)]

    def now(self) -> float:
        return self._clock()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    connection.row_factory = sqlite3.Row
    _use_wal(connection)
    connection.execute("pragma synchronous = full")  # a commit is on the disk when it returns
    connection.execute("begin immediate")  # processes that start at once take turns
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute("commit")
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, with retries: SQLite does not wait while another process does the same."""
    gives_up_s = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > gives_up_s:
                raise
            time.sleep(0.01)
