"""Jobs in a SQLite file, for one machine; needs no further package."""

import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from app.errors import StorageFull
from app.jobs.database import Connection, Database, DatabaseDown, Session
from app.jobs.job import Row
from app.jobs.schema import SchemaError, check_tables, make_tables

Result = TypeVar("Result")

FileId = tuple[int, int]
"""Device and inode."""

BUSY_S = 10.0
"""Maximum time to wait for another process that writes."""

MAGIC = b"SQLite format 3\0"

AWAY = (sqlite3.OperationalError, sqlite3.DatabaseError)
"""Errors of the file, the disk or a lock. Other subclasses of the second are faults of a statement."""

PASSING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""Errors that may pass: opening is tried again."""


class SqliteDatabase(Database):
    """A file, which several processes of one machine may share.

    Args:
        clock: returns seconds since 1970.

    Raises:
        OSError: the file cannot be opened or is no database.
        SchemaError: its tables belong to another version.
        DatabaseDown: the disk is full or fails, or another process locks the file for too long.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        connections = _Connection(path, clock), _Connection(path, clock, reads=True)
        super().__init__(*connections)
        path.touch()
        try:
            for connection in connections:
                connection.thread.submit(connection.opened).result()
        except (sqlite3.Error, SchemaError) as error:
            for connection in connections:
                connection.thread.submit(connection.close)
                connection.thread.shutdown()
            if isinstance(error, SchemaError):
                raise
            raise _failure(path, error) from error


class _Connection(Connection):
    """Opened again if another file is at its path, such as one from a backup: changes of the old file would be lost."""

    def __init__(self, path: Path, clock: Callable[[], float], *, reads: bool = False) -> None:
        super().__init__()
        self._path = path
        self._clock = clock
        self._reads = reads
        self._connection: sqlite3.Connection | None = None
        self._files: tuple[FileId | None, FileId | None] = None, None
        """The file and its log of writes at the latest transaction."""

    def opened(self) -> sqlite3.Connection:
        """Return a connection to the file that is at the path now.

        Raises:
            DatabaseDown: there is none, or it has the log of another one, whose writes SQLite would do in it.
        """
        file, log = _file_at(self._path), self._log()
        if self._connection is None or self._files[0] != file:
            if self._files[0] not in (None, file) and log is not None and self._files[1] == log:
                name = self._path.name
                raise DatabaseDown(
                    f"{name} was replaced without its log, and the old one would damage it: delete {name}-wal and "
                    f"{name}-shm, or put back those that belong to it"
                )
            self.close()
            self._connection = _connect(self._path, reads=self._reads)
            log = self._log()
        self._files = file, log
        return self._connection

    def _log(self) -> FileId | None:
        with suppress(DatabaseDown):
            return _file_at(self._path.with_name(f"{self._path.name}-wal"))
        return None

    def run(self, call: Callable[[Session], Result]) -> Result:
        """See `Connection.run`."""
        try:
            connection = self.opened()
            connection.execute("begin" if self._reads else "begin immediate")
            try:
                result = call(_SqliteSession(connection, self._clock))
                connection.execute("commit")
                return result
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StorageFull("the disk is full; try again later, or ask the operator for room") from error
            if type(error) in AWAY:
                raise DatabaseDown(str(error)) from error
            raise
        except SchemaError as error:  # of a file that has replaced the one that was opened at the start
            raise DatabaseDown(str(error)) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def check_file(path: Path) -> None:
    """Check that a file can be used as a database, and be written to, without changing it.

    Raises:
        OSError: it cannot.
        SchemaError: its tables belong to another version.
        DatabaseDown: the disk is full or fails, or another process locks the file for too long.
    """
    with path.open("r+b") as file:
        if file.read(len(MAGIC)) not in (MAGIC, b""):
            raise OSError(f"{path.name} is not a SQLite database")
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("begin immediate")
            check_tables(_SqliteSession(connection))
            connection.execute("rollback")
    except sqlite3.Error as error:
        raise _failure(path, error) from error


def _failure(path: Path, error: sqlite3.Error) -> DatabaseDown | OSError:
    """Return the error to raise for one of opening."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in PASSING:
        return DatabaseDown(f"{path.name}: {error}")
    return OSError(f"{path.name} cannot be used as a database ({error})")


class _SqliteSession:
    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self._clock = clock

    def rows(self, sql: str, **values: object) -> list[Row]:
        return [dict(row) for row in self._connection.execute(sql, values)]

    def now(self) -> float:
        return self._clock()

    def names(self) -> Collection[str]:
        return {row["name"] for row in self.rows("select name from sqlite_master")}

    def columns(self, table: str) -> Collection[str]:
        return {column[0] for column in self._connection.execute(f"select * from {table} limit 0").description}

    def number(self) -> int:
        return int(self.rows("pragma user_version")[0]["user_version"])

    def store_number(self, number: int) -> None:
        self.rows(f"pragma user_version = {number}")  # in the header of the file, as part of the transaction

    def make_index(self, statement: str) -> None:
        self.rows(statement)


def _file_at(path: Path) -> FileId:
    """Return the id of a file.

    Raises:
        DatabaseDown: there is none. It is not made here: it may be on its way from a backup.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DatabaseDown(str(error)) from error
    return status.st_dev, status.st_ino


def _connect(path: Path, *, reads: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        if reads:
            connection.execute("pragma query_only = on")
            check_tables(_SqliteSession(connection))
        else:
            _prepare_to_write(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare_to_write(connection: sqlite3.Connection) -> None:
    _use_wal(connection)
    connection.execute("pragma synchronous = full")  # a commit is on the disk when it returns
    connection.execute("begin immediate")  # processes that start at once take turns
    make_tables(_SqliteSession(connection))
    connection.execute("commit")


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
