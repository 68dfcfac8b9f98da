"""Conditional requests: an answer that the caller already has is not sent again (RFC 9110, section 13.1.2)."""

import hashlib
import re
from collections.abc import Mapping

from fastapi import Request, Response

TAG = re.compile(r'"[^"]*"')


def etag_of(content: bytes) -> str:
    """Return an `ETag` that only this content has."""
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def unchanged(request: Request, headers: Mapping[str, str]) -> Response | None:
    """Return 304 with the headers of the answer where `If-None-Match` names its `ETag`; else None."""
    fields = ", ".join(request.headers.getlist("if-none-match"))
    if fields.strip() == "*" or headers["ETag"] in TAG.findall(fields):
        return Response(status_code=304, headers=headers)
    return None
