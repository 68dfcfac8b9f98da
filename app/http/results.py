"""Results of jobs as answers: whole, a range (RFC 9110, section 14), or several as a zip file."""

import asyncio
import logging
import re
import zipfile
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from typing import IO, Literal, cast
from urllib.parse import quote

from fastapi import Request, Response

from app.errors import NoSuchJob, NoSuchRange, NotReady
from app.http.conditional import etag_of, unchanged
from app.http.streaming import ClosedStream
from app.jobs.job import ENDED, Result, StoredJob
from app.jobs.service import JobService
from app.jobs.store import whole

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
CHECKED_AT_A_TIME = 32

log = logging.getLogger(__name__)


async def result_response(jobs: JobService, request: Request, job: StoredJob, number: int) -> Response:
    """Return the result of a picture, or the requested range of it.

    Raises:
        NotReady: there is no result, or not yet.
        NoSuchJob: its file is gone.
        PreconditionFailed: `If-Match` does not name it.
        NoSuchRange: the range lies outside the result.
    """
    result = _result(job, number)
    headers = {
        "ETag": result.etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition("attachment", result.file_name or f"{job.id}-{number}{result.suffix}"),
        "X-Model": result.model,
        "Cache-Control": "private, no-cache",
        **result.notes,
    }
    if (same := unchanged(request, headers)) is not None:
        return same
    wanted = None
    if request.headers.get("if-range", result.etag) == result.etag:
        wanted = wanted_range(request.headers.get("range", ""), result.size_bytes)
    sent, status = range(result.size_bytes), 200
    if wanted is not None:
        if not wanted:
            raise NoSuchRange(
                f"Range: {request.headers['range'][:100]} is not in the {result.size_bytes} bytes of the result; ask "
                "for less, or leave Range out",
                headers={"Content-Range": f"bytes */{result.size_bytes}"},
            )
        sent, status = wanted, 206
        headers["Content-Range"] = f"bytes {sent[0]}-{sent[-1]}/{result.size_bytes}"
    headers["Content-Length"] = str(len(sent))
    body = _after_the_first(jobs.read(result, sent.start, sent.stop))
    with _no_file_is_no_result(job):
        await anext(body)
    return ClosedStream(body, status_code=status, media_type=result.media_type, headers=headers)


def disposition(kind: Literal["attachment", "inline"], name: str) -> str:
    """Return a Content-Disposition (RFC 6266) for saving a file under a name with any characters."""
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'{kind}; filename="{plain}"{extended}'


def wanted_range(value: str, size_bytes: int) -> range | None:
    """Return the bytes that `Range` asks for: no bytes for a range outside the file.

    Returns:
        None for the whole file, also if there are several ranges, which a server may ignore.
    """
    found = RANGE.fullmatch(value.replace(" ", ""))
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        return range(max(0, size_bytes - int(found[2])), size_bytes)
    first, end = int(found[1]), int(found[2]) + 1 if found[2] else size_bytes
    if found[2] and end <= first:
        return None
    return range(first, min(end, size_bytes))


async def zip_response(jobs: JobService, request: Request, job: StoredJob) -> Response:
    """Return the results of all pictures that are done as a zip file, written while it is sent.

    Raises:
        NotReady: the job has not ended, or no picture is done.
        NoSuchJob: the file of a result is gone.
        PreconditionFailed: `If-Match` does not name it.
    """
    files = {_name_in_zip(it.number, it.result): it.result for it in job.pictures if it.result}
    if job.state not in ENDED:
        raise NotReady(f"the job {job.id} is {job.state.value}; results/NUMBER has each picture once it is done")
    if not files:
        raise NotReady(f"the job {job.id} is {job.state.value}: none of its pictures is done")
    content = "\n".join(f"{name}{result.etag}" for name, result in files.items())
    headers = {
        "ETag": etag_of(content.encode()),
        "Content-Disposition": disposition("attachment", f"{job.id}.zip"),
        "Cache-Control": "private, no-cache",
    }
    if (same := unchanged(request, headers)) is not None:
        return same
    await _check_files(jobs, job, list(files.values()))
    return ClosedStream(_zipped(jobs, job, files), media_type="application/zip", headers=headers)


def _name_in_zip(number: int, result: Result) -> str:
    """Return `2_photo_x4.png`, or `2.png` if the upload has no name: the number makes it unique."""
    return f"{number}_{result.file_name}" if result.file_name else f"{number}{result.suffix}"


async def _zipped(jobs: JobService, job: StoredJob, files: Mapping[str, Result]) -> AsyncGenerator[bytes, None]:
    """Yield a zip file of results by name; the pictures are stored without further compression."""
    sink = _Sink()
    when = datetime.fromtimestamp(job.ended or job.created, UTC).timetuple()[:6]
    with zipfile.ZipFile(cast("IO[bytes]", sink), "w", zipfile.ZIP_STORED) as archive:
        for name, result in files.items():
            info = zipfile.ZipInfo(name, date_time=when)
            with archive.open(info, "w", force_zip64=True) as member:
                async with aclosing(jobs.read(result)) as chunks:
                    async for chunk in chunks:
                        await asyncio.to_thread(member.write, chunk)  # computes the checksum
                        yield sink.take()
    yield sink.take()


async def _after_the_first(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield nothing as soon as the first chunk is there, while the answer can still be an error; then all chunks."""
    async with aclosing(chunks):
        first = await anext(chunks, b"")
        yield b""
        yield first
        async for chunk in chunks:
            yield chunk


async def _check_files(jobs: JobService, job: StoredJob, results: Sequence[Result]) -> None:
    """Read a byte of each result, while the answer can still be an error.

    Raises:
        NoSuchJob: the file of one is gone.
    """
    with _no_file_is_no_result(job):
        for start in range(0, len(results), CHECKED_AT_A_TIME):
            some = results[start : start + CHECKED_AT_A_TIME]
            await asyncio.gather(*(whole(jobs.read(result, 0, 1)) for result in some))


@contextmanager
def _no_file_is_no_result(job: StoredJob) -> Iterator[None]:
    """Replace the error for a file that is gone: the job was just removed, or the store has lost it.

    Raises:
        NoSuchJob: a file is gone.
    """
    try:
        yield
    except FileNotFoundError as error:
        log.warning("job %s: the file of a result is gone: %s", job.id, error)
        raise NoSuchJob(f"a result of the job {job.id} is gone; send the picture again") from error


class _Sink:
    """A write-only file; its bytes can be taken while it is written."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def _result(job: StoredJob, number: int) -> Result:
    picture = job.pictures[number - 1]
    if picture.result is None:
        when = "it has no result" if picture.state in ENDED else "try again later"
        raise NotReady(f"picture {number} of the job {job.id} is {picture.state.value}; {when}")
    return picture.result
