"""Files of jobs in an object store: S3, Google Cloud, Azure, or anything that speaks one of them. Needs the extra `s3`."""

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import ObjectStore as AnyStore
from obstore.store import from_url

from app.errors import Unavailable
from app.jobs.store import StoredFile

CHUNK_BYTES = 1024 * 1024
"""Bytes that are read at a time; a reader that is slow holds no more."""

PART_BYTES = 8 * 1024 * 1024
"""Bytes of each part of an upload; S3 takes 5 MiB or more, and up to 10,000 parts."""


class StoreDown(Unavailable):
    """The object store cannot be reached, or refuses."""

    def __init__(self, reason: str) -> None:
        super().__init__("the store of the jobs' files cannot be reached; try again in a few seconds")
        self.reason = reason
        """For the log: callers are not told where the store is."""


class ObjectStore:
    """Objects below an address such as `s3://bucket/path`; credentials come from the variables of its provider.

    Raises:
        ValueError: the address cannot be used.
    """

    def __init__(self, address: str) -> None:
        try:
            self._store: AnyStore = from_url(address, **_options(address))
        except Exception as error:
            raise ValueError(f"{address!r} cannot be used ({error})") from error

    def check_room(self, size_bytes: int) -> None:
        """See `Store.check_room`; an object store is never full, and its cost is limited by ESRGAN_JOBS_MAX_BYTES."""

    async def put(self, name: str, chunks: AsyncIterable[bytes]) -> int:
        """See `Store.put`."""
        size_bytes = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size_bytes
            async for chunk in chunks:
                size_bytes += len(chunk)
                yield bytes(chunk)

        await _reached(obstore.put_async(self._store, name, counted(), chunk_size=PART_BYTES))
        return size_bytes
