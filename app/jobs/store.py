"""Interface of the store of uploads and results: a folder or an object store."""

import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.errors import ServiceError, Unavailable

log = logging.getLogger(__name__)


class StoreDown(Unavailable):
    """The store cannot be reached, or refuses the call."""

    def __init__(self, reason: str) -> None:
        super().__init__("the store of the jobs' files cannot be reached; try again in a few seconds", reason=reason)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file in the store."""

    name: str
    modified: float
    """Seconds since 1970."""


class Store(Protocol):
    """Files by name; a name is `JOB_ID/FILE`."""

    def check_room(self, size_bytes: int) -> None:
        """Check that files of this size fit.

        Raises:
            StorageFull: they do not.
            StoreDown: the store cannot be reached.
        """

    async def put(self, name: str, chunks: AsyncIterable[bytes]) -> int:
        """Write a file, durably and whole or not at all; returns its size in bytes.

        Raises:
            StorageFull: it does not fit.
            StoreDown: the store cannot be reached.
        """

    def read(self, name: str, first: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Iterate over the bytes of a file from `first` up to `end`.

        Raises:
            FileNotFoundError: there is no such file.
            StoreDown: the store cannot be reached.
        """

    async def delete(self, names: Iterable[str]) -> None:
        """Delete files; names without a file are ignored.

        Raises:
            StoreDown: the store cannot be reached.
        """

    async def files(self) -> list[StoredFile]:
        """List all files.

        Raises:
            StoreDown: the store cannot be reached.
        """


async def discard(store: Store, names: Sequence[str]) -> None:
    """Delete files. The sweeper removes those that cannot be deleted now."""
    try:
        await store.delete(names)
    except ServiceError as error:
        log.warning("%s cannot be deleted now: %s", ", ".join(names), error.reason)


async def whole(chunks: AsyncIterable[bytes]) -> bytes:
    """Join chunks."""
    return b"".join([chunk async for chunk in chunks])


async def one(chunk: bytes) -> AsyncIterator[bytes]:
    """Iterate over a single chunk."""
    yield chunk
