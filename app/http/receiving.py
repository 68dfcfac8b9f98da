"""Functions of the endpoints that receive pictures: description of the body, its limits, and checks of the query."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from app.errors import BadRequest
from app.http.form import FIELD
from app.http.upload import UploadLimits
from app.settings import Settings

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
ACCEPTED = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/tiff",
    "image/bmp",
    "image/gif",
    "image/avif",
    "image/heic",
)


def pictures_in(parameters: type[BaseModel], *, several: bool = False) -> dict[str, Any]:
    """Describe a body for the OpenAPI document: a form with the parameters as fields, or a raw picture.

    Args:
        several: True if the form may have more than one picture.
    """
    image = {"type": "array", "items": BINARY["schema"]} if several else BINARY["schema"]
    fields = {FIELD: image} | parameters.model_json_schema()["properties"]
    form = {"schema": {"type": "object", "required": [FIELD], "properties": fields}}
    return {"multipart/form-data": form} | dict.fromkeys(ACCEPTED, BINARY)


def upload_limits(settings: Settings) -> UploadLimits:
    """Return the limits of a body with one picture."""
    return UploadLimits(
        max_bytes=settings.max_upload_bytes,
        whole_s=settings.upload_s,
        idle_s=settings.upload_idle_s,
        min_bytes_per_s=settings.upload_bytes_per_s,
    )


async def request_scope() -> AsyncIterator[AsyncExitStack]:
    """Provide a stack for resources that a request holds until the last byte of its answer has been sent."""
    async with AsyncExitStack() as stack:
        yield stack


def check_given_once(request: Request) -> None:
    """Refuse a query with two values for one parameter.

    Raises:
        BadRequest: a parameter has two values.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if repeated := next((name for name, times in Counter(names).items() if times > 1), None):
        raise BadRequest(f"the parameter {repeated[:100]!r} is given more than once; give it once")
