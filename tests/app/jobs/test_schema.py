"""Tables that another version of the service made or changed."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from app.__main__ import main
from app.jobs import schema
from app.jobs.database import DatabaseDown
from app.jobs.parts import default_folder
from app.jobs.schema import SchemaError
from app.jobs.service import JobService
from app.jobs.sqlite import SqliteDatabase, check_file
from app.settings import Settings, SettingsError
from tests.app.jobs.rows import added, read

pytestmark = pytest.mark.anyio

AT_ONCE = 4

NEWER = r"a newer version .* \(their number is 2, this version knows 1\); start that version, or name another folder"


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement)


def number_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as other:
        return int(other.execute("pragma user_version").fetchone()[0])


async def test_new_tables_have_the_number_of_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await SqliteDatabase(tmp_path / "jobs.sqlite").close()
    assert number_of(tmp_path / "jobs.sqlite") == 1
    monkeypatch.setattr(schema, "NUMBER", 2)  # a later version, which changes them at its first start
    await SqliteDatabase(tmp_path / "jobs.sqlite").close()
    assert number_of(tmp_path / "jobs.sqlite") == 2


async def test_tables_of_a_newer_version_end_start_and_check(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    await SqliteDatabase(path).close()
    change(path, "pragma user_version = 2")
    for use in (SqliteDatabase, check_file):
        with pytest.raises(SchemaError, match=NEWER):
            use(path)
    assert number_of(path) == 2


async def test_tables_without_a_number_have_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.sqlite"
    database = SqliteDatabase(path)
    job = await added(database)
    await database.close()
    change(path, "pragma user_version = 0")
    check_file(path)
    database = SqliteDatabase(path)
    assert await read(database, job.id) == job
    await database.close()
    monkeypatch.setattr(schema, "NUMBER", 2)
    await SqliteDatabase(path).close()
    assert number_of(path) == 2


async def test_a_file_of_a_newer_version_that_replaces_the_open_one_is_not_used(tmp_path: Path) -> None:
    path, other = tmp_path / "a" / "jobs.sqlite", tmp_path / "b" / "jobs.sqlite"
    for file in (path, other):
        file.parent.mkdir()
        await SqliteDatabase(file).close()
    change(other, "pragma user_version = 2")
    database = SqliteDatabase(path)
    path.parent.rename(tmp_path / "old")
    other.parent.rename(path.parent)
    for call in (added(database), read(database, "job_1")):
        with pytest.raises(DatabaseDown) as caught:
            await call
        assert "a newer version" in caught.value.reason
    await database.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [("alter table pictures drop column file_name", r"pictures has no file_name"), ("pragma user_version = 2", NEWER)],
)
async def test_tables_of_another_version_end_the_start_in_the_default_folder_too(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    statement: str,
    said: str,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    default_folder().mkdir()
    await SqliteDatabase(default_folder() / "jobs.sqlite").close()
    change(default_folder() / "jobs.sqlite", statement)
    with pytest.raises(SettingsError, match=said):
        JobService(Settings(), lambda: pytest.fail("not asked for")).open()
    assert main(["check"]) == 1
    assert f"error: ESRGAN_JOBS_FOLDER={default_folder()}: " in capsys.readouterr().err


@pytest.fixture
def empty(postgres: str) -> Iterator[str]:
    """Address of an empty PostgreSQL database."""
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("create database empty")
    yield postgres.replace("@/postgres", "@/empty")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("drop database empty with (force)")


async def test_replicas_that_start_at_once_store_one_number(empty: str) -> None:
    import psycopg

    from app.jobs.postgres import PostgresDatabase

    with ThreadPoolExecutor(AT_ONCE) as replicas:
        for database in replicas.map(PostgresDatabase, [empty] * AT_ONCE):
            await database.close()
    with psycopg.connect(empty) as connection:
        assert connection.execute("select number from jobs_schema").fetchall() == [(1,)]


async def test_postgresql_tables_of_another_version_end_start_and_check(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    from app.jobs.postgres import PostgresDatabase, check_database

    await PostgresDatabase(empty).close()
    with monkeypatch.context() as later:
        later.setattr(schema, "NUMBER", 2)
        await PostgresDatabase(empty).close()
    for use in (PostgresDatabase, check_database):
        with pytest.raises(SchemaError, match=NEWER):
            use(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("drop table jobs_schema")
        check_database(empty)
        connection.execute("alter table pictures drop column file_name")
    for use in (PostgresDatabase, check_database):
        with pytest.raises(SchemaError, match=r"another version of the service \(pictures has no file_name\)"):
            use(empty)


@pytest.mark.parametrize("of_key", ["", " where key_name = 'a'"])
async def test_sums_of_bytes_read_an_index_and_no_table(tmp_path: Path, of_key: str) -> None:
    """They are made for each result, while nobody else may write."""
    await SqliteDatabase(tmp_path / "jobs.sqlite").close()
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as other:
        plan = other.execute(
            f"explain query plan select sum(upload_bytes + result_bytes) as n from pictures{of_key}"
        ).fetchall()
    assert [("COVERING INDEX pictures_bytes" in step[-1]) for step in plan] == [True]
