"""Tables of the jobs, and which versions of the service may use them.

Older versions use the same tables during an update and after a rollback: new columns need a default, and inserts name
their columns. A change that older versions cannot live with adds 1 to `NUMBER`; see decision 50.
"""

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import Protocol

from app.jobs.database import Session

NUMBER = 1
"""Number of these tables. Versions of the service with a lower one may not use them."""

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
    "create index if not exists pictures_bytes on pictures (key_name, upload_bytes, result_bytes)",  # for their sums
    "create table if not exists deliveries ("
    " id text primary key, job_id text not null, key_name text not null, url text not null, event text not null,"
    " body text not null, state text not null, created double precision not null, not_before double precision not null,"
    " owner text, lease_until double precision, attempts text not null)",
    "create index if not exists deliveries_job on deliveries (job_id)",
    "create index if not exists deliveries_waiting on deliveries (state, not_before)",
)


class SchemaError(OSError):
    """The tables belong to another version of the service."""


class Catalogue(Session, Protocol):
    """A transaction that sees which tables there are."""

    def names(self) -> Collection[str]:
        """Return the names of tables and indexes."""

    def columns(self, table: str) -> Collection[str]:
        """Return the names of a table's columns."""

    def number(self) -> int:
        """Return the stored number of the tables, or 0 if there is none: such tables count as 1."""

    def store_number(self, number: int) -> None:
        """Store the number of the tables."""

    def make_index(self, statement: str) -> None:
        """Make an index; it may be missing where only the owner of the tables may make one."""


def make_tables(session: Catalogue) -> None:
    """Make missing tables and indexes. `if not exists` alone would lock a PostgreSQL table, and wait for all its users.

    Raises:
        SchemaError: those that are there belong to another version.
    """
    check_tables(session)
    there = session.names()
    for statement in SCHEMA:
        if statement.partition(" if not exists ")[2].partition(" ")[0] in there:
            continue
        if statement.startswith("create index"):
            session.make_index(statement)
        else:
            session.rows(statement)
    number = session.number() or (1 if "jobs" in there else 0)
    if number < NUMBER:
        session.store_number(NUMBER)


def check_tables(session: Catalogue) -> None:
    """Check that this version may use the tables that are there.

    Raises:
        SchemaError: they belong to another version.
    """
    if (number := session.number()) > NUMBER:
        raise SchemaError(
            f"a newer version of the service has changed its tables (their number is {number}, this version knows "
            f"{NUMBER}); start that version, or name another folder or database"
        )
    there = session.names()
    for table, columns in _columns().items():
        if table in there and (missing := columns - set(session.columns(table))):
            raise SchemaError(
                f"its tables are of another version of the service ({table} has no {', '.join(sorted(missing))}); "
                "finish the jobs with that version, or name another folder or database"
            )


def _columns() -> Mapping[str, set[str]]:
    """Return the columns of each table of the schema."""
    with closing(sqlite3.connect(":memory:")) as memory:
        for statement in SCHEMA:
            memory.execute(statement)
        tables = [name for (name,) in memory.execute("select name from sqlite_master where type = 'table'")]
        return {table: {row[1] for row in memory.execute(f"pragma table_info({table})")} for table in tables}
