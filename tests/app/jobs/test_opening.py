"""The check of database and store before a start."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from app.errors import Unavailable
from app.jobs.folder import FolderStore
from app.jobs.objects import ObjectStore
from app.jobs.opening import check_jobs, open_database, open_store
from app.jobs.store import StoreDown
from app.settings import Settings, SettingsError


@pytest.fixture(params=["folder", "object store"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "folder":
        return Settings(jobs_folder=tmp_path)
    return Settings(jobs_folder=tmp_path, jobs_store=f"file://{tmp_path / 'files'}")


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_check_leaves_no_file(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    check_jobs(settings, tmp_path)
    assert files_below(tmp_path) == []


def test_a_store_that_cannot_be_written_to_fails_the_check(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise StoreDown("read-only")

    (tmp_path / "files").mkdir()
    for store in (FolderStore, ObjectStore):
        monkeypatch.setattr(store, "put", refuse)
    with pytest.raises(Unavailable) as caught:
        check_jobs(settings, tmp_path)
    name = "ESRGAN_JOBS_STORE" if settings.jobs_store else f"ESRGAN_JOBS_FOLDER={tmp_path}"
    assert caught.value.reason == f"{name}: read-only"


def test_a_store_that_does_not_answer_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    (tmp_path / "files").mkdir()
    monkeypatch.setattr(FolderStore, "put", hang)
    monkeypatch.setattr("app.jobs.opening.CHECK_S", 0.1)
    with pytest.raises(Unavailable) as caught:
        check_jobs(Settings(jobs_folder=tmp_path), tmp_path)
    assert "no answer within 0.1 s" in caught.value.reason


def test_a_table_without_a_column_stops_check_and_start(tmp_path: Path) -> None:
    settings = Settings(jobs_folder=tmp_path)
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as older:
        older.execute("create table jobs (id text primary key, key_name text, idempotency_key text, expires real)")
        older.commit()
    for use in (check_jobs, open_database):
        with pytest.raises(SettingsError, match=r"\(jobs has no created, .*\); finish the jobs with that version"):
            use(settings, tmp_path)


def test_a_database_that_another_process_locks_may_be_free_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(jobs_folder=tmp_path)
    monkeypatch.setattr("app.jobs.sqlite.BUSY_S", 0.05)
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as other:
        other.execute("begin exclusive")
        for use in (check_jobs, open_database):
            with pytest.raises(Unavailable) as caught:
                use(settings, tmp_path)
            assert caught.value.reason == "jobs.sqlite: database is locked"


@pytest.mark.anyio
async def test_a_database_that_is_whole_passes_the_check(tmp_path: Path) -> None:
    settings = Settings(jobs_folder=tmp_path)
    database = open_database(settings, tmp_path)
    open_store(settings, tmp_path)
    await asyncio.to_thread(check_jobs, settings, tmp_path)
    await database.close()
