"""PostgreSQL, where it differs from SQLite: several machines use it, and any of them may freeze."""

import asyncio
import threading
from functools import partial

import pytest

from app.jobs import ledger
from app.jobs.database import DatabaseDown, Session
from app.jobs.job import StoredJob
from tests.app.jobs.rows import added, new_job, read

pytestmark = pytest.mark.anyio

psycopg = pytest.importorskip("psycopg")
postgres_module = pytest.importorskip("app.jobs.postgres")


async def test_a_machine_that_freezes_in_a_transaction_does_not_hold_up_the_others(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = postgres_module.LIMITS | {"idle_in_transaction_session_timeout": 500}
    monkeypatch.setattr(postgres_module, "LIMITS", limits)
    frozen, other = postgres_module.PostgresDatabase(postgres), postgres_module.PostgresDatabase(postgres)
    holds, thaws = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def freeze(session: Session) -> None:
        loop.call_soon_threadsafe(holds.set)
        assert thaws.wait(60)
        session.now()

    freezing = asyncio.create_task(frozen.write(freeze))
    await holds.wait()
    await added(other)  # while the first one is frozen
    thaws.set()
    with pytest.raises(DatabaseDown):
        await freezing
    await added(frozen)  # by a new connection
    for database in (frozen, other):
        await database.close()


async def test_a_job_that_is_removed_while_it_is_read_is_read_whole(postgres: str) -> None:
    reader, writer = postgres_module.PostgresDatabase(postgres), postgres_module.PostgresDatabase(postgres)
    job = await added(writer, new_job(pictures=2))
    begun, removed = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def read(session: Session) -> StoredJob:
        session.rows("select 1 from jobs")
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(removed.wait(), loop).result(60)
        return ledger.find(session, job.id)

    reading = asyncio.create_task(reader.read(read))
    await begun.wait()
    await writer.write(partial(ledger.remove, job_ids=[job.id]))
    removed.set()
    assert len((await reading).pictures) == 2
    for database in (reader, writer):
        await database.close()


async def test_a_server_that_becomes_a_standby_is_left_for_the_next_one(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop database if exists moving")
        connection.execute("create database moving")
    database = postgres_module.PostgresDatabase(postgres.replace("@/postgres", "@/moving"))
    try:
        await added(database)

        def demote(session: Session) -> None:
            session.rows("set session characteristics as transaction read only")

        await database.write(demote)
        with pytest.raises(DatabaseDown, match="cannot be reached"):
            await added(database)
        await added(database)  # by a new connection
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("alter database moving set default_transaction_read_only = on")
        await database.write(demote)
        for _ in range(2):  # no connection to a standby is kept
            with pytest.raises(DatabaseDown):
                await added(database)
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("alter database moving reset default_transaction_read_only")
        await added(database)
    finally:
        await database.close()
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("drop database moving with (force)")


async def test_a_service_starts_beside_a_transaction_that_uses_its_tables(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "SCHEMA_LOCK_MS", 200)
    await postgres_module.PostgresDatabase(postgres).close()
    with psycopg.connect(postgres) as other:
        other.execute("lock table jobs, pictures, deliveries in row exclusive mode")
        await postgres_module.PostgresDatabase(postgres).close()


async def test_a_table_of_the_same_name_in_another_schema_is_left_alone(postgres: str) -> None:
    await postgres_module.PostgresDatabase(postgres).close()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("create role own login")
        connection.execute("create schema own authorization own")
    own = postgres_module.PostgresDatabase(postgres.replace("esrgan@", "own@"))
    try:
        job = await added(own)
        with psycopg.connect(postgres, autocommit=True) as connection:
            assert connection.execute("select id from own.jobs").fetchall() == [(job.id,)]
    finally:
        await own.close()
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("drop schema own cascade")
            connection.execute("drop role own")


async def test_a_column_that_a_newer_version_adds_breaks_no_connection(postgres: str) -> None:
    database = postgres_module.PostgresDatabase(postgres)
    job = await added(database)
    for _ in range(10):  # more often than psycopg waits before it prepares a statement
        await read(database, job.id)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("alter table jobs add column later text not null default ''")
    try:
        assert await read(database, job.id) == job
    finally:
        await database.close()
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("alter table jobs drop column later")


def test_a_database_that_does_not_answer_may_answer_later() -> None:
    with pytest.raises(DatabaseDown):
        postgres_module.PostgresDatabase("postgresql://nobody@/none?host=/nowhere")


@pytest.mark.parametrize("address", ["postgresql://[", "not an address"])
def test_an_address_that_is_none_is_an_error_of_the_system(address: str) -> None:
    with pytest.raises(OSError, match=r"cannot be"):
        postgres_module.PostgresDatabase(address)


async def test_a_user_who_may_make_no_tables_is_an_error_of_the_system(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop role if exists guest")
        connection.execute("create role guest login")
        connection.execute("create database guests")
    try:
        with pytest.raises(OSError, match="its tables cannot be made"):
            postgres_module.PostgresDatabase(postgres.replace("esrgan@/postgres", "guest@/guests"))
    finally:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("drop database guests with (force)")
            connection.execute("drop role guest")


async def test_a_user_who_does_not_own_the_tables_works_without_a_new_index(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    await postgres_module.PostgresDatabase(postgres).close()
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop index pictures_bytes")
        connection.execute("create role worker login")
        connection.execute("grant select, insert, update, delete on all tables in schema public to worker")
    worker = postgres_module.PostgresDatabase(postgres.replace("esrgan@", "worker@"))
    try:
        job = await added(worker)
        assert (await read(worker, job.id)).id == job.id
        assert "must be owner of table pictures" in caplog.text
        assert "create index if not exists pictures_bytes" in caplog.text
    finally:
        await worker.close()
        await postgres_module.PostgresDatabase(postgres).close()  # makes it again
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("drop owned by worker")
            connection.execute("drop role worker")
