"""Files of jobs in a folder of this machine."""

import asyncio
import errno
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

from app.errors import ServiceError, StorageFull
from app.jobs.store import StoredFile, StoreDown
from app.threads import in_thread

Result = TypeVar("Result")

CHUNK_BYTES = 256 * 1024
PART = ".part"
"""Suffix of files that are being written."""

OUT_OF_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FolderStore:
    """Files below a folder. A file is written under a temporary name and renamed once it is on the disk.

    Args:
        min_free_bytes: space that new jobs leave free on the disk, so that accepted ones can be finished. Results may
            use half of it; the rest is for the database, which is needed to end and remove jobs.
    """

    def __init__(self, path: Path, *, min_free_bytes: int = 0) -> None:
        self._path = path
        self._min_free_bytes = min_free_bytes
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="store")
        path.mkdir(parents=True, exist_ok=True)

    def check_room(self, size_bytes: int) -> None:
        """See `Store.check_room`."""
        try:
            free_bytes = shutil.disk_usage(self._path).free
        except OSError as error:
            raise _store_error(error) from error
        if free_bytes < size_bytes + self._min_free_bytes:
            raise StorageFull(
                f"{free_bytes} bytes are free on the disk, of which {self._min_free_bytes} are reserved, and this job "
                f"adds {size_bytes}; delete jobs that are no longer needed, or try again later"
            )

    async def put(self, name: str, chunks: AsyncIterable[bytes]) -> int:
        """See `Store.put`."""
        path = self._path / name
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PART}")
        size_bytes = 0
        try:
            await self._in_thread(partial(_create, part))
            async for chunk in chunks:
                size_bytes += len(chunk)
                await self._in_thread(partial(_append, part, chunk, self._min_free_bytes // 2))
            await self._in_thread(partial(_finish, part, path))
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        return size_bytes

    async def read(self, name: str, first: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """See `Store.read`."""
        opening: Future[IO[bytes]] = self._threads.submit(_open, self._path / name, first)
        try:
            file = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:  # the thread may still open it
            opening.add_done_callback(_close)
            raise
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _store_error(error) from error
        try:
            left_bytes = None if end is None else end - first
            while left_bytes is None or left_bytes > 0:
                wanted_bytes = CHUNK_BYTES if left_bytes is None else min(CHUNK_BYTES, left_bytes)
                chunk = await self._in_thread(partial(file.read, wanted_bytes))
                if not chunk:
                    return
                left_bytes = None if left_bytes is None else left_bytes - len(chunk)
                yield chunk
        finally:
            file.close()

    async def delete(self, names: Iterable[str]) -> None:
        """See `Store.delete`."""
        await self._in_thread(partial(_delete, [self._path / name for name in names]))

    async def files(self) -> list[StoredFile]:
        """See `Store.files`."""
        return await self._in_thread(self._files)

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        try:
            return await in_thread(self._threads, call)
        except OSError as error:
            raise _store_error(error) from error

    def _files(self) -> list[StoredFile]:
        found = list[StoredFile]()
        for path in self._path.glob("*/*"):
            try:
                modified = path.stat().st_mtime
            except FileNotFoundError:
                continue
            found.append(StoredFile(name=path.relative_to(self._path).as_posix(), modified=modified))
        return found


def _store_error(error: OSError) -> ServiceError:
    """Return the store's error for one of the disk."""
    if error.errno in OUT_OF_ROOM:
        return StorageFull("the disk is full; try again later, or ask the operator for room")
    return StoreDown(str(error))


def _open(path: Path, first: int) -> IO[bytes]:
    file = path.open("rb")
    file.seek(first)
    return file


def _close(opening: Future[IO[bytes]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _create(part: Path) -> None:
    while True:
        if not part.parent.exists():
            part.parent.mkdir(exist_ok=True)
            _sync(part.parent.parent)
        with suppress(FileNotFoundError):  # the deletion of its last file may just have removed the folder
            part.touch(exist_ok=False)
            return


def _append(part: Path, chunk: bytes, min_free_bytes: int) -> None:
    """Append a chunk. The file is closed after each chunk, because a cancelled writer could not close it."""
    if shutil.disk_usage(part.parent).free < min_free_bytes + len(chunk):
        raise OSError(errno.ENOSPC, "the rest of the disk is reserved")
    with part.open("r+b") as file:  # does not recreate a file that a cancelled writer has removed
        file.seek(0, os.SEEK_END)
        file.write(chunk)


def _finish(part: Path, path: Path) -> None:
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Flush a file to the disk, or a folder, without which a new file may be lost in a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _delete(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths}:
        try:
            folder.rmdir()
        except OSError:
            continue  # it has other files, or is gone
