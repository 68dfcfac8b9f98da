"""Conditional requests (RFC 9110, section 13.1): `If-Match` and `If-None-Match`.

Answers have no `Last-Modified`, so conditions on times are ignored.
"""

import hashlib
import re
from collections.abc import Mapping

from fastapi import Request, Response

from app.errors import PreconditionFailed

TAG = re.compile(r'(W/)?("[^"]*")')
"""Prefix of a weak tag, if any, and the tag."""


def etag_of(content: bytes) -> str:
    """Return an `ETag` that is unique to this content."""
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def unchanged(request: Request, headers: Mapping[str, str]) -> Response | None:
    """Return 304 with the headers of the answer if `If-None-Match` names its `ETag`, else None.

    Raises:
        PreconditionFailed: `If-Match` does not name it.
    """
    check_match(request, headers["ETag"])
    fields = ", ".join(request.headers.getlist("if-none-match"))
    if fields.strip() == "*" or headers["ETag"] in (tag for _, tag in TAG.findall(fields)):
        return Response(status_code=304, headers=headers)
    return None


def check_match(request: Request, etag: str | None = None) -> None:
    """Check `If-Match` for a resource that exists.

    Args:
        etag: its ETag; None if it has none, so that only `If-Match: *` names it.

    Raises:
        PreconditionFailed: `If-Match` does not name it.
    """
    fields = request.headers.getlist("if-match")
    value = ", ".join(fields).strip()
    if fields and value != "*" and ("", etag) not in TAG.findall(value):
        now = f"its ETag is {etag}" if etag else "there is no ETag, so only * matches"
        raise PreconditionFailed(f"If-Match: {value[:100]} does not match: {now}")
