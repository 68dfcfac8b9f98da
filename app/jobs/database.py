"""Interface of the database of jobs: SQLite or PostgreSQL.

Statements name their values (`:id`) and use only SQL that both databases support. Write transactions run one at a time
across all machines, so they need no further locks.

Older versions use the same tables during an update and after a rollback: new columns need a default, and inserts name
their columns.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import closing
from typing import Any, Protocol, TypeVar

from app.errors import Unavailable
from app.jobs.job import Row

Result = TypeVar("Result")

SCHEMA = (
    "create table if not exists jobs ("
    " id text primary key, key_name text not null, idempotency_key text, fingerprint text not null,"
    " request text not null, state text not null, version integer not null, created double precision not null,"
    " ended double precision, expires double precision, webhook text not null, webhook_events text not null,"
    " trace text not null, request_id text not null)",
    "create unique index if not exists jobs_idempotency on jobs (key_name, idempotency_key)",
    "create index if not exists jobs_key on jobs (key_name, id)",
    "create index if not exists jobs_expires on jobs (expires)",
    "create table if not exists pictures ("
    " job_id text not null, number integer not null, key_name text not null, state text not null,"
    " upload_name text not null, upload_bytes bigint not null, cost_px bigint not null, source text not null,"
    " target text not null, model text not null, not_before double precision not null, started double precision,"
    " ended double precision, attempts integer not null, crashes integer not null, owner text,"
    " lease_until double precision, progress double precision not null, cancel integer not null, problem text,"
    " result text, result_bytes bigint not null, file_name text not null, primary key (job_id, number))",
    "create index if not exists pictures_waiting on pictures (state, key_name, job_id, number)",
    "create table if not exists deliveries ("
    " id text primary key, job_id text not null, key_name text not null, url text not null, event text not null,"
    " body text not null, state text not null, created double precision not null, not_before double precision not null,"
    " owner text, lease_until double precision, attempts text not null)",
    "create index if not exists deliveries_job on deliveries (job_id)",
    "create index if not exists deliveries_waiting on deliveries (state, not_before)",
)


def column_checks() -> Mapping[str, str]:
    """Return a statement for each table, by its name, that fails where one of its columns is missing."""
    with closing(sqlite3.connect(":memory:")) as memory:
        for statement in SCHEMA:
            memory.execute(statement)
        tables = [name for (name,) in memory.execute("select name from sqlite_master where type = 'table'")]
        columns = {table: [row[1] for row in memory.execute(f"pragma table_info({table})")] for table in tables}
    return {table: f"select {', '.join(names)} from {table} limit 0" for table, names in columns.items()}


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
        super().__init__("the database of the jobs cannot be reached; try again in a few seconds")
        self.reason = reason  # for the log: the answer hides the database's address
