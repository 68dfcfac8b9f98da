"""Files of jobs are written atomically, in a folder and in an object store."""

import asyncio
import errno
import gc
import os
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

from app.errors import StorageFull
from app.jobs.folder import FolderStore
from app.jobs.objects import ObjectStore, _Source
from app.jobs.store import Store, StoreDown, one, whole
from tests.app.live import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["folder", "memory", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path)
    if request.param == "s3":
        return ObjectStore(request.getfixturevalue("bucket"))
    return ObjectStore("memory:///" if request.param == "memory" else f"file://{tmp_path}")


async def chunks(*pieces: bytes, error: BaseException | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if error is not None:
        raise error


async def test_a_file_is_read_as_it_was_written(store: Store) -> None:
    data = os.urandom(3_000_000)
    assert await store.put("job/result", chunks(data[:10], data[10:2_000_000], data[2_000_000:])) == len(data)
    assert await whole(store.read("job/result")) == data
    assert await whole(store.read("job/result", 5, 2_500_000)) == data[5:2_500_000]
    assert await whole(store.read("job/result", 7)) == data[7:]


async def test_a_file_whose_source_fails_is_not_there(store: Store) -> None:
    with pytest.raises(StorageFull, match="too much"):
        await store.put("job/result", chunks(b"begun", error=StorageFull("too much")))
    assert await store.files() == []
    with pytest.raises(FileNotFoundError):
        await whole(store.read("job/result"))


async def test_a_file_whose_writer_is_cancelled_is_not_there(store: Store) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            begun.set()
            await asyncio.sleep(0)

    writing = asyncio.create_task(store.put("job/result", endless()))
    await begun.wait()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert [file.name for file in await store.files()] == []


async def test_the_source_of_a_writer_that_is_cancelled_while_it_waits_can_be_closed(store: Store) -> None:
    waits, left = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncGenerator[bytes, None]:
        try:
            yield b"begun"
            waits.set()
            await asyncio.Event().wait()
        finally:
            left.set()

    async def write() -> None:
        async with aclosing(slow()) as source:
            await store.put("job/result", source)

    writing = asyncio.create_task(write())
    await waits.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert left.is_set()
    assert await store.files() == []


async def test_a_second_file_of_one_name_replaces_the_first(store: Store) -> None:
    await store.put("job/result", one(b"first"))
    await store.put("job/result", one(b"second"))
    assert await whole(store.read("job/result")) == b"second"
    assert [file.name for file in await store.files()] == ["job/result"]


async def test_deleted_files_are_gone_and_unknown_ones_are_ignored(store: Store) -> None:
    for name in ("a/1", "a/2", "b/1"):
        await store.put(name, one(b"x"))
    await store.delete(["a/1", *(f"c/{number}" for number in range(40)), "a/2", "a/3"])
    assert [file.name for file in await store.files()] == ["b/1"]


async def test_objects_are_deleted_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    together = asyncio.Barrier(3)

    async def delete(*_: object) -> None:
        await together.wait()

    monkeypatch.setattr("app.jobs.objects.obstore.delete_async", delete)
    async with asyncio.timeout(60):
        await ObjectStore("memory:///").delete(["a/1", "a/2", "b/1"])


async def test_a_disk_that_is_full_is_said_so_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "job").mkdir()
    monkeypatch.setattr("app.jobs.folder.os.fsync", fsync)
    with pytest.raises(StorageFull, match="disk is full"):
        await FolderStore(tmp_path).put("job/result", one(b"x"))
    assert list((tmp_path / "job").iterdir()) == []


DISK_ERRORS = [errno.EROFS, errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE]


@pytest.mark.parametrize("number", DISK_ERRORS)
async def test_a_disk_that_fails_is_a_store_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    store = FolderStore(tmp_path)
    await store.put("job/result", one(b"x"))
    for name in ("open", "touch", "unlink", "glob"):
        monkeypatch.setattr(Path, name, fail)
    monkeypatch.setattr("app.jobs.folder.shutil.disk_usage", fail)
    for call in (
        store.put("job/other", one(b"x")),
        whole(store.read("job/result")),
        store.delete(["job/result"]),
        store.files(),
    ):
        with pytest.raises(StoreDown) as caught:
            await call
        assert os.strerror(number) in caught.value.reason
    with pytest.raises(StoreDown):
        store.check_room(1)


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "read-only"), RuntimeError("a fault"), StorageFull("too much")])
async def test_an_error_of_the_source_of_a_file_is_raised_as_it_is(store: Store, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await store.put("job/result", chunks(b"begun", error=error))
    assert caught.value is error


async def test_a_folder_that_is_gone_is_a_store_that_is_away(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "files")
    (tmp_path / "files").rmdir()
    with pytest.raises(StoreDown):
        await store.put("job/result", one(b"x"))


async def test_a_file_may_be_written_while_the_last_one_of_its_folder_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    await store.put("job/first", one(b"x"))
    touch = Path.touch

    def touch_late(path: Path, **options: Any) -> None:
        monkeypatch.setattr(Path, "touch", touch)
        (tmp_path / "job" / "first").unlink()
        (tmp_path / "job").rmdir()
        touch(path, **options)

    monkeypatch.setattr(Path, "touch", touch_late)
    await store.put("job/second", one(b"y"))
    assert await whole(store.read("job/second")) == b"y"


async def test_room_is_kept_free(tmp_path: Path) -> None:
    FolderStore(tmp_path).check_room(1000)
    with pytest.raises(StorageFull, match="are reserved"):
        FolderStore(tmp_path, min_free_bytes=2**60).check_room(1000)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be used"):
        ObjectStore("s4://bucket")


async def test_a_file_whose_reader_is_cancelled_while_it_is_opened_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    await store.put("job/result", one(b"x"))
    opened, begun, may_open = [], threading.Event(), threading.Event()

    def slow(path: Path, mode: str) -> IO[bytes]:
        begun.set()
        may_open.wait()
        opened.append(open(path, mode))  # noqa: PTH123, SIM115
        return opened[0]

    monkeypatch.setattr(Path, "open", slow)
    reading = asyncio.create_task(whole(store.read("job/result")))
    await asyncio.to_thread(begun.wait)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    may_open.set()
    await until(lambda: bool(opened) and opened[0].closed)  # by a thread


def test_a_chunk_that_an_interrupted_upload_asked_for_may_stay_untaken() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _Source(one(b"x")).__anext__()  # as obstore does, without awaiting it
        gc.collect()
    assert caught == []
