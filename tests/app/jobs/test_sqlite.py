"""A file of jobs that several processes open at once."""

import asyncio
import gc
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier, Event

import pytest

from app.errors import NoSuchJob
from app.jobs.database import DatabaseDown, Session
from app.jobs.sqlite import SqliteDatabase
from tests.app.jobs.rows import added, read

AT_ONCE = 6

pytestmark = pytest.mark.anyio


async def test_replicas_that_start_at_once_create_the_file_together(tmp_path: Path) -> None:
    start = Barrier(AT_ONCE)

    def opened(path: Path) -> SqliteDatabase:
        start.wait()
        return SqliteDatabase(path)

    with ThreadPoolExecutor(AT_ONCE) as replicas:
        for number in range(120):  # without taking turns, about one of them is locked
            path = tmp_path / f"{number}.sqlite"
            databases = [*replicas.map(opened, [path] * AT_ONCE)]
            await asyncio.gather(*(database.close() for database in databases))


def test_a_file_that_another_process_holds_may_be_free_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.sqlite.BUSY_S", 0.05)
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as other:
        other.execute("begin exclusive")
        with pytest.raises(DatabaseDown):
            SqliteDatabase(tmp_path / "jobs.sqlite")


def test_a_file_that_is_no_database_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"picture" * 1000)
    with pytest.raises(OSError, match="cannot be used as a database"):
        SqliteDatabase(tmp_path / "jobs.sqlite")


async def test_an_error_of_a_transaction_whose_caller_has_left_is_not_logged(tmp_path: Path) -> None:
    logged, begun, may_fail = list[object](), Event(), Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))

    def fail(session: Session) -> None:
        begun.set()
        may_fail.wait(60)
        raise DatabaseDown("gone")

    database = SqliteDatabase(tmp_path / "jobs.sqlite")
    writing = asyncio.create_task(database.write(fail))
    await asyncio.to_thread(begun.wait, 60)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    may_fail.set()
    await database.close()
    gc.collect()
    assert logged == []


async def test_a_reader_does_not_wait_for_a_lock_of_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.sqlite.BUSY_S", 60)
    database = SqliteDatabase(tmp_path / "jobs.sqlite")
    job = await added(database)
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)) as other:
        other.execute("begin immediate")
        writing = asyncio.create_task(added(database))
        async with asyncio.timeout(30):
            assert (await read(database, job.id)).id == job.id
        assert not writing.done()
        other.execute("rollback")
    await writing
    await database.close()


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "jobs.sqlite")
    with pytest.raises(DatabaseDown) as caught:
        await database.read(lambda session: session.rows("delete from jobs"))
    assert "readonly" in caught.value.reason
    await database.close()


async def test_a_file_that_is_replaced_by_its_backup_is_used_at_once(tmp_path: Path) -> None:
    folder, backup = tmp_path / "jobs", tmp_path / "backup"
    folder.mkdir()
    database = SqliteDatabase(folder / "jobs.sqlite")
    kept = await added(database)
    await database.close()
    shutil.copytree(folder, backup)
    database = SqliteDatabase(folder / "jobs.sqlite")
    lost = await added(database)
    assert await read(database, lost.id) == lost

    folder.rename(tmp_path / "old")
    for call in (read(database, kept.id), added(database)):
        with pytest.raises(DatabaseDown) as caught:
            await call
        assert "No such file" in caught.value.reason
    backup.rename(folder)
    assert await read(database, kept.id) == kept
    with pytest.raises(NoSuchJob):
        await read(database, lost.id)
    later = await added(database)
    await database.close()
    database = SqliteDatabase(folder / "jobs.sqlite")
    assert await read(database, later.id) == later
    await database.close()


def delete_log(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()


async def test_a_file_that_is_damaged_is_a_database_that_is_away_until_its_backup_is_there(tmp_path: Path) -> None:
    path, backup = tmp_path / "jobs.sqlite", tmp_path / "backup"
    database = SqliteDatabase(path)
    job = await added(database)
    await database.close()
    shutil.copy(path, backup)
    with path.open("r+b") as file:
        for place in range(4096, path.stat().st_size, 4096):
            file.seek(place)
            file.write(b"\xff" * 2000)
    database = SqliteDatabase(path)
    for call in (read(database, job.id), added(database)):
        with pytest.raises(DatabaseDown) as caught:
            await call
        assert "malformed" in caught.value.reason
    backup.rename(path)
    delete_log(path)
    assert await read(database, job.id) == job
    await database.close()


async def test_a_file_that_is_replaced_without_its_log_is_not_used_before_the_old_log_is_gone(tmp_path: Path) -> None:
    path, backup = tmp_path / "jobs.sqlite", tmp_path / "backup"
    database = SqliteDatabase(path)
    kept = await added(database)
    await database.close()
    shutil.copy(path, backup)
    database = SqliteDatabase(path)
    lost = await added(database)
    backup.rename(path)
    for call in (read(database, kept.id), added(database), read(database, kept.id)):
        with pytest.raises(DatabaseDown) as caught:
            await call
        assert "delete jobs.sqlite-wal and jobs.sqlite-shm" in caught.value.reason
    delete_log(path)
    assert await read(database, kept.id) == kept
    with pytest.raises(NoSuchJob):
        await read(database, lost.id)
    later = await added(database)
    await database.close()
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert [*other.execute("select id from jobs order by id")] == [(kept.id,), (later.id,)]


async def test_a_statement_that_breaks_a_rule_is_a_fault_of_the_service(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "jobs.sqlite")
    await added(database)
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(lambda session: session.rows("insert into jobs select * from jobs"))
    await database.close()


def test_a_database_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[sqlite3.Connection] = []

    def connect(path: Path, *, reads: bool) -> sqlite3.Connection:
        if reads:
            raise sqlite3.OperationalError("unable to open database file")
        made.append(sqlite3.connect(path, check_same_thread=False))
        return made[0]

    monkeypatch.setattr("app.jobs.sqlite._connect", connect)
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="unable to open"):
        SqliteDatabase(tmp_path / "jobs.sqlite")
    assert set(threading.enumerate()) <= before  # a thread of an earlier test may end
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("select 1")
