"""What a request sends: the picture as the multipart field `image` or as the raw body, and parameters beside it."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.errors import BadRequest, TooLarge

FIELD = "image"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """The body of a request."""

    picture: bytes
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The other fields of a form."""


async def read_upload(request: Request, max_bytes: int) -> Upload:
    """Read the body, and stop reading at the limit.

    Raises:
        TooLarge: the request is larger than `max_bytes`.
        BadRequest: no picture in it, or broken multipart.
    """
    body = await _read_body(request, max_bytes)
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    upload = await _parse_form(request, body) if is_form else Upload(picture=body)
    if not upload.picture:
        raise BadRequest(f"the request holds no picture; send it as the multipart field {FIELD!r} or as the raw body")
    return upload


async def _read_body(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    body = bytearray()
    if not (announced.isdecimal() and int(announced) > max_bytes):
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                break
        else:
            return bytes(body)
    raise TooLarge(f"the upload has more than {max_bytes} bytes, which is the limit; send a smaller file")


async def _parse_form(request: Request, body: bytes) -> Upload:
    async def whole_body() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole_body(), max_files=1, max_fields=8)
    parser.spool_max_size = len(body) + 1  # it is in memory already; no second copy on the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise BadRequest(f"the multipart body is broken: {error.message}") from error
    try:
        file = form.get(FIELD)
        picture = await file.read() if isinstance(file, UploadFile) else b""
        parameters = {name: value for name, value in form.items() if isinstance(value, str) and name != FIELD}
        return Upload(picture=picture, parameters=parameters)
    finally:
        await form.close()
