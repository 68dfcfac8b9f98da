"""Jobs in PostgreSQL: for several machines. Needs the extra `postgres`."""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from app.errors import StorageFull
from app.jobs.database import Connection, Database, DatabaseDown
from app.jobs.job import Row
from app.jobs.schema import SchemaError, check_tables, make_tables

log = logging.getLogger(__name__)

Result = TypeVar("Result")

LOCK = 0x65737267
"""Number of the advisory lock of writers; arbitrary, but no other program may use it in this database."""

CONNECT_S = 5
STATEMENT_S = 30

IDLE_S = 10
"""Time after which the server ends an idle transaction, which releases the lock."""

LOST_S = 30
"""Time after which either side closes a connection if the other machine does not answer."""

KEEPALIVES: Mapping[str, Any] = {
    "keepalives_idle": LOST_S // 3,
    "keepalives_interval": LOST_S // 6,
    "keepalives_count": 4,
}

LIMITS = {
    "statement_timeout": STATEMENT_S * 1000,
    "idle_in_transaction_session_timeout": IDLE_S * 1000,
    "tcp_user_timeout": LOST_S * 1000,
    **{f"tcp_{name}": value for name, value in KEEPALIVES.items()},
}
"""Server settings of our sessions: a machine that freezes must not keep the lock that all share."""

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
"""Errors that a new connection may not meet. The last one comes from a server that has become a standby."""

SCHEMA_LOCK_MS = 2000
"""Maximum time that a start waits to change a table; all other users of the table wait behind it."""

NAMES = (
    "select relname as name from pg_class join pg_namespace n on n.oid = relnamespace where nspname = current_schema()"
)
"""Tables and indexes of the current schema; other schemas may have other tables named `jobs`."""

NUMBER_TABLE = "jobs_schema"
"""Table of one row: the number of the tables."""

VALUE = re.compile(r":(\w+)")


class PostgresDatabase(Database):
    """A server, which several machines may share.

    Args:
        address: `postgresql://USER:PASSWORD@HOST/DATABASE`.

    Raises:
        OSError: the address is invalid, or the user may not create tables.
        SchemaError: the tables belong to another version.
        DatabaseDown: the database cannot be reached.
    """

    def __init__(self, address: str) -> None:
        _check_address(address)
        writer = _Connection(address)
        super().__init__(writer, _Connection(address, reads=True))
        try:
            writer.run(_create)
        except SchemaError:
            writer.close()
            raise
        except psycopg.Error as error:
            writer.close()
            raise OSError(f"its tables cannot be made ({_line(error)})") from error


def check_database(address: str) -> None:
    """Connect once and look at the tables, without changing anything.

    Raises:
        OSError: the address is invalid, or the user may not read the tables.
        SchemaError: they belong to another version.
        DatabaseDown: the database cannot be reached.
    """
    _check_address(address)
    connection = _Connection(address, reads=True)
    try:
        connection.run(check_tables)
    except psycopg.Error as error:
        raise OSError(f"its tables cannot be used ({_line(error)})") from error
    finally:
        connection.close()


class _Connection(Connection):
    """Replaced when it breaks.

    Args:
        reads: each transaction sees one snapshot of the database, whatever others change meanwhile.
    """

    def __init__(self, address: str, *, reads: bool = False) -> None:
        super().__init__()
        self._address = address
        self._reads = reads
        self._open: psycopg.Connection[Row] | None = None

    def run(self, call: Callable[["_PostgresSession"], Result]) -> Result:
        """Run a transaction. It is not retried if the connection breaks, because it may have been committed."""
        try:
            if self._open is None or self._open.closed:
                self._open = self._connect()
            with self._open.transaction():
                session = _PostgresSession(self._open)
                if not self._reads:
                    session.rows("select pg_advisory_xact_lock(:lock)", lock=LOCK)
                return call(session)
        except psycopg.errors.DiskFull as error:
            raise StorageFull("the disk of the database is full; try again later") from error
        except psycopg.Error as error:
            if not isinstance(error, AWAY) and not self._is_broken:
                raise
            self.close()
            raise DatabaseDown(_line(error)) from error

    @property
    def _is_broken(self) -> bool:
        return self._open is not None and self._open.broken

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _connect(self) -> "psycopg.Connection[Row]":
        connection = psycopg.connect(
            self._address,
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,  # a prepared `select *` fails once a newer version has added a column
            connect_timeout=CONNECT_S,
            target_session_attrs="read-write",  # no standby: its jobs are slightly out of date
            tcp_user_timeout=LOST_S * 1000,
            **KEEPALIVES,
            options=" ".join(f"-c {name}={value}" for name, value in LIMITS.items()),
        )
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if self._reads else None
        return connection


class _PostgresSession:
    def __init__(self, connection: "psycopg.Connection[Row]") -> None:
        self._connection = connection

    def rows(self, sql: str, **values: object) -> list[Row]:
        cursor = self._connection.execute(VALUE.sub(r"%(\1)s", sql).encode(), values)
        return cursor.fetchall() if cursor.description is not None else []

    def now(self) -> float:
        return float(self.rows("select extract(epoch from clock_timestamp()) as now")[0]["now"])

    def names(self) -> Collection[str]:
        return {row["name"] for row in self.rows(NAMES)}

    def columns(self, table: str) -> Collection[str]:
        return {
            column.name
            for column in self._connection.execute(f"select * from {table} limit 0".encode()).description or ()
        }

    def number(self) -> int:
        if NUMBER_TABLE not in self.names():
            return 0
        return int(self.rows(f"select number from {NUMBER_TABLE}")[0]["number"])

    def store_number(self, number: int) -> None:
        if NUMBER_TABLE not in self.names():
            self.rows(f"create table {NUMBER_TABLE} (number integer not null)")
            self.rows(f"insert into {NUMBER_TABLE} (number) values (:number)", number=number)
        else:
            self.rows(f"update {NUMBER_TABLE} set number = :number", number=number)

    def make_index(self, statement: str) -> None:
        try:
            with self._connection.transaction():  # an error ends this one alone
                self.rows(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            log.warning("queries of jobs are slower: %s, and makes an index by: %s", _line(error), statement)


def _check_address(address: str) -> None:
    """Check an address before libpq does: its errors quote parts of a password that is not percent-encoded.

    Raises:
        OSError: the address is invalid.
    """
    try:
        parts = conninfo_to_dict(address)
    except psycopg.ProgrammingError:
        parts = {"port": "none"}
    host, ports = str(parts.get("host", "")), str(parts.get("port", "")).replace(",", "")
    if "@" in host[1:] or not (ports or "0").isdecimal():
        raise OSError(
            "it cannot be read as postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in the password, write %25 for %, "
            "%40 for @, %2F for / and so on"
        )


def _create(session: _PostgresSession) -> None:
    session.rows(f"set local lock_timeout = {SCHEMA_LOCK_MS}")
    make_tables(session)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
