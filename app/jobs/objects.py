"""Files of jobs in an object store: S3, Google Cloud, Azure, or a compatible service.

Needs the extra `s3`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Generator, Iterable
from typing import Any, Self

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as NoSuchObject
from obstore.store import ObjectStore as AnyStore
from obstore.store import from_url

from app.jobs.store import StoredFile, StoreDown

CHUNK_BYTES = 1024 * 1024
"""Maximum bytes that are read at a time, and that a slow reader keeps in memory."""

PART_BYTES = 8 * 1024 * 1024
"""Bytes per part of an upload; S3 takes up to 10,000 parts of 5 MiB or more."""

DELETED_AT_A_TIME = 32


class ObjectStore:
    """Objects below a URL such as `s3://bucket/path`; credentials come from the provider's environment variables.

    Raises:
        ValueError: the address cannot be used.
    """

    def __init__(self, address: str) -> None:
        try:
            self._store: AnyStore = from_url(address)
        except Exception as error:
            raise ValueError(f"{address!r} cannot be used ({error})") from error

    def check_room(self, size_bytes: int) -> None:
        """See `Store.check_room`. An object store is never full; ESRGAN_JOBS_MAX_BYTES limits its cost."""

    async def put(self, name: str, chunks: AsyncIterable[bytes]) -> int:
        """See `Store.put`."""
        source = _Source(chunks)
        try:
            await obstore.put_async(self._store, name, source, chunk_size=PART_BYTES)
        except BaseError as error:
            if source.failure is not None:
                raise source.failure from None
            raise StoreDown(str(error)) from error
        finally:
            await source.stop()
        return source.size_bytes

    async def read(self, name: str, first: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """See `Store.read`."""
        try:
            if end is None:
                end = (await obstore.head_async(self._store, name))["size"]
            while first < end:
                next_first = min(end, first + CHUNK_BYTES)
                yield bytes(await obstore.get_range_async(self._store, name, start=first, end=next_first))
                first = next_first
        except (NoSuchObject, FileNotFoundError) as error:
            raise FileNotFoundError(name) from error
        except BaseError as error:
            raise StoreDown(str(error)) from error

    async def delete(self, names: Iterable[str]) -> None:
        """See `Store.delete`."""
        left = list(names)
        while left:
            some, left = left[:DELETED_AT_A_TIME], left[DELETED_AT_A_TIME:]
            await asyncio.gather(*(self._delete(name) for name in some))

    async def _delete(self, name: str) -> None:
        """Delete one file: some stores fail to delete a list of names if one is missing."""
        try:
            await obstore.delete_async(self._store, name)
        except (NoSuchObject, FileNotFoundError):
            return
        except BaseError as error:
            raise StoreDown(str(error)) from error

    async def files(self) -> list[StoredFile]:
        """See `Store.files`."""
        try:
            return [
                StoredFile(name=item["path"], modified=item["last_modified"].timestamp())
                async for batch in obstore.list(self._store)
                for item in batch
            ]
        except BaseError as error:
            raise StoreDown(str(error)) from error


class _Later:
    """A coroutine that is made when it is awaited: obstore never awaits one whose upload was cancelled just before."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        self._make = make

    def __await__(self) -> Generator[Any, Any, bytes]:
        return self._make().__await__()


class _Source:
    """Chunks for obstore, which takes each in a task of its own, and leaves that task running when it is cancelled.

    Attributes:
        failure: error of the chunks; obstore would wrap it in its own error.
    """

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self.size_bytes = 0
        self.failure: BaseException | None = None
        self._chunks = aiter(chunks)
        self._taking: asyncio.Task[Any] | None = None
        self._stopped = False

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> "_Later":
        return _Later(self._take)

    async def _take(self) -> bytes:
        if self._stopped:
            raise StopAsyncIteration
        self._taking = asyncio.current_task()
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise
        self.size_bytes += len(chunk)
        return bytes(chunk)

    async def stop(self) -> None:
        """Take no more chunks, so that their iterator can be closed."""
        self._stopped = True
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
