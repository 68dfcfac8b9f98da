"""Request targets, which proxies may send as absolute URLs."""

import re
from urllib.parse import unquote

from starlette.types import Scope

SCHEME_AND_HOST = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


def in_origin_form(scope: Scope) -> Scope:
    """Convert an absolute target, `GET http://host/path`, to a path; its host replaces `Host` (RFC 9112, 3.2.2)."""
    found = SCHEME_AND_HOST.match(scope["raw_path"])
    if found is None:
        return scope
    raw_path = scope["raw_path"][found.end() :] or b"/"
    headers = [(b"host", found[1]), *(header for header in scope["headers"] if header[0] != b"host")]
    return {**scope, "raw_path": raw_path, "path": unquote(raw_path.decode("ascii")), "headers": headers}
