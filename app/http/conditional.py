"""Conditional requests: nothing is done to what has changed, and nothing is sent again (RFC 9110, section 13.1).

Nothing here has a `Last-Modified`, so conditions on times are ignored.
"""

import hashlib
import re
from collections.abc import Mapping

from fastapi import Request, Response

from app.errors import PreconditionFailed

TAG = re.compile(r'(W/)?("[^"]*")')
"""The mark of a weak tag, and the tag."""


def etag_of(content: bytes) -> str:
    """Return an `ETag` that only this content has."""
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def unchanged(request: Request, headers: Mapping[str, str]) -> Response | None:
    """Return 304 with the headers of the answer where `If-None-Match` names its `ETag`; else None.

    Raises:
        PreconditionFailed: `If-Match` does not name it.
    """
    check_match(request, headers["ETag"])
    fields = ", ".join(request.headers.getlist("if-none-match"))
    if fields.strip() == "*" or headers["ETag"] in (tag for _, tag in TAG.findall(fields)):
        return Response(status_code=304, headers=headers)
    return None


def check_match(request: Request, etag: str | None = None) -> None:
    """Check the condition of a request for something that is there.

    Args:
        etag: of what is there; None where it has none, so that only `If-Match: *` names it.

    Raises:
        PreconditionFailed: `If-Match` does not name it.
    """
    fields = request.headers.getlist("if-match")
    value = ", ".join(fields).strip()
    if fields and value != "*" and ("", etag) not in TAG.findall(value):
        now = f"its ETag is {etag}" if etag else "this has no ETag, so only * names it"
        raise PreconditionFailed(f"If-Match: {value[:100]} does not name what is there: {now}")
