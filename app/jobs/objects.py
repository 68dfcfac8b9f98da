"""Files of jobs in an object store: S3, Google Cloud, Azure, or a compatible service.

Needs the extra `s3`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable

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
        size_bytes = 0
        failure: BaseException | None = None

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size_bytes, failure
            try:
                async for chunk in chunks:
                    size_bytes += len(chunk)
                    yield bytes(chunk)
            except BaseException as error:
                failure = error  # the store would wrap it in its own error
                raise

        try:
            await obstore.put_async(self._store, name, counted(), chunk_size=PART_BYTES)
        except BaseError as error:
            if failure is not None:
                raise failure from None
            raise StoreDown(str(error)) from error
        return size_bytes

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
