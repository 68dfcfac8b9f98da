"""Uploads of other kinds than pictures, each with a way out."""

import re
from typing import NamedTuple

from app.errors import UnsupportedFormat
from app.http.form import FIELD

HEAD_BYTES = 1024
"""Bytes of an upload that are looked at."""

BYTES = (
    f"send the picture's bytes as the body, or as a form (curl -F {FIELD}=@FILE); URLs of pictures go to POST /v1/jobs "
    "as application/json"
)
RENDER = "render it to a PNG, and send that"
FRAMES = "extract its frames, and send those"


class Kind(NamedTuple):
    """A kind of upload that is not a picture."""

    name: str
    beginning: bytes
    """Pattern of its first bytes, which no picture has."""
    way_out: str


KINDS = (
    Kind("a video (MP4 or MOV)", rb".{4}(?:ftyp(?:iso|mp4|avc1|M4V|qt  |3g[p2]|dash|MSNV)|moov|mdat|wide)", FRAMES),
    Kind("a video (WebM or MKV)", rb"\x1aE\xdf\xa3", FRAMES),
    Kind("a video (AVI)", rb"RIFF.{4}AVI ", FRAMES),
    Kind("a PDF", rb"%PDF-", RENDER),
    Kind("a page of HTML", rb"\s*<(?i:!doctype html|html)\b", BYTES),
    Kind("an SVG drawing", rb"(?:\xef\xbb\xbf)?\s*<(?:svg|[?!].*<svg)\b", RENDER),
    Kind("JSON", rb"\s*[{\[]", BYTES),
    Kind("base64", rb"data:image/|/9j/|iVBORw0KGgo|R0lGOD|UklGR", BYTES),
    Kind("a URL", rb"https?://", BYTES),
    Kind("a form as application/x-www-form-urlencoded", rb"(?!BM|GIF8|RIFF)[\w.-]{1,64}=", BYTES),
)


def refuse_other_kinds(upload: bytes) -> None:
    """Refuse an upload that is plainly something else than a picture.

    Raises:
        UnsupportedFormat: it is of one of `KINDS`.
    """
    head = upload[:HEAD_BYTES]
    if kind := next((kind for kind in KINDS if re.match(kind.beginning, head, re.DOTALL)), None):
        raise UnsupportedFormat(f"the upload is {kind.name}, not a picture; {kind.way_out}")
