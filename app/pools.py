"""The threads that decode and encode pictures."""

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from app.admission import PictureReservation
from app.pictures.encode import PNG
from app.pictures.layout import AnswerFormat
from app.threads import in_thread

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class PicturePools:
    """Threads that work on one picture, whose memory is kept until its calls have ended."""

    codecs: Executor
    """Short calls: they decode, postprocess and encode parts."""
    files: Executor
    """Encode whole files."""

    def encoder(self, form: AnswerFormat) -> Executor:
        """Return the threads that encode a format."""
        return self.codecs if form is PNG else self.files


class Pools:
    """All threads for pictures.

    Whole files have threads of their own: these calls cannot be stopped, even when their callers have left, and may
    take minutes, during which nothing else would be decoded.
    """

    def __init__(self, threads: int) -> None:
        # Headers have a thread of their own, so that a refusal does not wait for a picture that is being decoded.
        self._headers = ThreadPoolExecutor(1, thread_name_prefix="header")
        self._codecs = ThreadPoolExecutor(threads, thread_name_prefix="codec")
        self._files = ThreadPoolExecutor(threads, thread_name_prefix="file")
        self._background = ThreadPoolExecutor(1, thread_name_prefix="background")

    async def header(self, call: Callable[[], Result]) -> Result:
        """Run a call that reads a header."""
        return await in_thread(self._headers, call)

    async def digest(self, file: bytes) -> str:
        """Hash a file; asyncio's own threads may all be blocked by a folder or a name server that hangs."""
        return await in_thread(self._codecs, lambda: hashlib.blake2b(file, digest_size=16).hexdigest())

    def of(self, memory: PictureReservation, *, background: bool) -> PicturePools:
        """Return the threads for a picture that has this memory."""
        if background:
            both = memory.watched(self._background)
            return PicturePools(codecs=both, files=both)
        return PicturePools(codecs=memory.watched(self._codecs), files=memory.watched(self._files))

    def close(self) -> None:
        """Stop the threads after their current calls."""
        for pool in (self._headers, self._codecs, self._files, self._background):
            pool.shutdown(wait=False)
