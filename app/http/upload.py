"""Read a request: the picture as the multipart field `image` or as the raw body, and further form fields."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from fastapi import Request

from app.admission import UploadReservation
from app.errors import BadRequest, TooLarge, TooSlow, UnsupportedFormat, about
from app.http.form import FIELD, Form, check_encoding
from app.http.not_pictures import refuse_other_kinds

FORM = "multipart/form-data"


@dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """Limits of a request's body."""

    max_bytes: int
    whole_s: float
    """Maximum seconds from the headers to the end of the body."""
    idle_s: float
    """Maximum seconds without a byte; also the time before the rate is checked."""
    min_bytes_per_s: int
    """Minimum average rate."""
    max_pictures: int = 1


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The body of a request."""

    pictures: Sequence[bytes]
    names: Sequence[str] = ("",)
    """File names of the pictures; see `Form.names`."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The other fields of a form."""

    @property
    def picture(self) -> bytes:
        """The only picture."""
        (picture,) = self.pictures
        return picture

    @property
    def name(self) -> str:
        """File name of the first picture; empty if it has none."""
        return self.names[0]


def media_type(request: Request) -> str:
    """Return the type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_upload(request: Request, limits: UploadLimits, reservation: UploadReservation) -> Upload:
    """Read the pictures of a request.

    Raises:
        BadRequest: there are none, or the form is malformed.
        UnsupportedFormat: the body is multipart, but not a form, or plainly something else than a picture.
        ServiceError: see `read_body`.
    """
    upload = await read_body(request, limits, reservation)
    _check_pictures(upload)
    return upload


async def read_body(request: Request, limits: UploadLimits, reservation: UploadReservation) -> Upload:
    """Read the body, within the limits and the memory.

    Args:
        reservation: memory of this upload, which grows as bytes arrive.

    Raises:
        TooLarge: the request is larger than the limit.
        TooSlow: it arrives too slowly.
        QueueFull: other uploads fill the memory.
        BadRequest: it is malformed multipart.
        UnsupportedFormat: it is multipart, but not a form.
        UnsupportedEncoding: the body is compressed or encoded.
    """
    check_encoding("Content-Encoding", ",".join(request.headers.getlist("content-encoding")))
    kind = media_type(request)
    if kind.startswith("multipart/") and kind != FORM:
        raise UnsupportedFormat(f"Content-Type: {kind[:100]} is not supported; send {FORM} or the raw body")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        _check_size(int(announced), limits)
        reservation.announce(int(announced))
    body = _chunks(request, limits, reservation)
    return await _form(request, body, limits) if kind == FORM else Upload(pictures=[await _joined(body)])


def _check_pictures(upload: Upload) -> None:
    several = len(upload.pictures) > 1
    for number, (picture, name) in enumerate(zip(upload.pictures, upload.names, strict=True), start=1):
        with about(f"picture {number}: " if several else ""):
            if not picture and (name or several):
                raise BadRequest(f"the file {name[:100]!r} has 0 bytes; send one that is a picture")
            refuse_other_kinds(picture)
    if not any(upload.pictures):
        raise BadRequest(f"the request has no picture; send it as the multipart field {FIELD!r} or as the raw body")


def _check_size(size_bytes: int, limits: UploadLimits) -> None:
    if size_bytes > limits.max_bytes:
        raise TooLarge(f"the body has more than {limits.max_bytes} bytes, which is the limit; send a smaller one")


async def _chunks(
    request: Request, limits: UploadLimits, reservation: UploadReservation
) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives, within the limits."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    size_bytes = 0
    chunks = request.stream()
    while True:
        # At the minimum rate, n bytes must have arrived after idle_s + n / min_bytes_per_s.
        rate_s = began_s + min(limits.whole_s, limits.idle_s + size_bytes / limits.min_bytes_per_s)
        try:
            async with asyncio.timeout_at(min(rate_s, loop.time() + limits.idle_s)) as timeout:
                with reservation.calling_on_eviction(partial(_end_now, timeout)):
                    chunk = await anext(chunks, None)
        except TimeoutError as error:
            reservation.check_kept()
            raise TooSlow(
                f"{size_bytes} bytes of the body arrived within {loop.time() - began_s:.1f} s; send all within "
                f"{limits.whole_s:g} s, at least {limits.min_bytes_per_s} bytes/s, without a pause of "
                f"{limits.idle_s:g} s"
            ) from error
        if chunk is None:
            reservation.complete()
            return
        size_bytes += len(chunk)
        _check_size(size_bytes, limits)
        reservation.grow_to(size_bytes)
        yield chunk


def _end_now(timeout: asyncio.Timeout) -> None:
    if not timeout.expired():
        timeout.reschedule(0)


async def _joined(body: AsyncGenerator[bytes, None]) -> bytes:
    whole = bytearray()
    async for chunk in body:
        whole += chunk
    return bytes(whole)


async def _form(request: Request, body: AsyncGenerator[bytes, None], limits: UploadLimits) -> Upload:
    form = Form(request.headers["content-type"], max_pictures=limits.max_pictures)
    await form.read(body)
    pictures = [bytes(picture) for picture in form.pictures]
    return Upload(pictures=pictures, names=form.names, parameters=form.parameters)
