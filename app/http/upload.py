"""Reads a request: the picture as the multipart field `image` or as the raw body, and parameters next to it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from functools import partial

from fastapi import Request

from app.admission import Held
from app.errors import BadRequest, TooLarge, TooSlow, UnsupportedFormat
from app.http.form import FIELD, Form, check_encoding

FORM = "multipart/form-data"


@dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """What a body may take."""

    most_bytes: int
    whole_s: float
    """Seconds from the headers to the end of the body."""
    idle_s: float
    """Seconds without a byte; and before the rate is looked at."""
    bytes_per_s: int
    """The least rate, on average."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The body of a request."""

    picture: bytes
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The other fields of a form."""


async def read_upload(request: Request, limits: UploadLimits, held: Held) -> Upload:
    """Read the body as far as the limits and the memory allow.

    Args:
        held: the memory of this upload, which grows with what comes.

    Raises:
        TooLarge: the request is larger than the limit.
        TooSlow: it comes too slowly.
        QueueFull: other uploads fill the memory.
        BadRequest: no picture in it, or broken multipart.
        UnsupportedFormat: multipart of another kind than a form.
        UnsupportedEncoding: the body is compressed or encoded.
    """
    check_encoding("Content-Encoding", ",".join(request.headers.getlist("content-encoding")))
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    is_form = media_type == FORM
    if media_type.startswith("multipart/") and not is_form:
        raise UnsupportedFormat(f"Content-Type: {media_type[:100]} is not taken; send {FORM} or the raw body")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        _check_size(int(announced), limits)
        held.announce(int(announced))
    body = _parts(request, limits, held)
    upload = await _form(content_type, body) if is_form else Upload(picture=await _joined(body))
    if not upload.picture:
        raise BadRequest(f"the request holds no picture; send it as the multipart field {FIELD!r} or as the raw body")
    return upload


def _check_size(size_bytes: int, limits: UploadLimits) -> None:
    if size_bytes > limits.most_bytes:
        raise TooLarge(f"the upload has more than {limits.most_bytes} bytes, which is the limit; send a smaller file")


async def _parts(request: Request, limits: UploadLimits, held: Held) -> AsyncGenerator[bytes, None]:
    """The body as it comes."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    size_bytes = 0
    parts = request.stream()
    while True:
        enough_s = began_s + min(limits.whole_s, limits.idle_s + size_bytes / limits.bytes_per_s)
        try:
            async with asyncio.timeout_at(min(enough_s, loop.time() + limits.idle_s)) as timeout:
                with held.interrupting(partial(timeout.reschedule, 0)):
                    part = await anext(parts, None)
        except TimeoutError as error:
            held.check_kept()
            raise TooSlow(
                f"{size_bytes} bytes of the body came within {loop.time() - began_s:.1f} s; send all within "
                f"{limits.whole_s:g} s, at least {limits.bytes_per_s} bytes/s, without a pause of {limits.idle_s:g} s"
            ) from error
        if part is None:
            held.complete()
            return
        size_bytes += len(part)
        _check_size(size_bytes, limits)
        held.grow_to(size_bytes)
        yield part


async def _joined(body: AsyncGenerator[bytes, None]) -> bytes:
    whole = bytearray()
    async for part in body:
        whole += part
    return bytes(whole)


async def _form(content_type: str, body: AsyncGenerator[bytes, None]) -> Upload:
    form = Form(content_type)
    await form.read(body)
    return Upload(picture=bytes(form.picture or b""), parameters=form.parameters)
