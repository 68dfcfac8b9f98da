"""File names of results, derived from those of the uploads."""

import unicodedata
from urllib.parse import unquote, urlsplit

from app.answer import Answer
from app.pictures.size import Size

MAX_STEM_BYTES = 200
"""Limit on the stem in UTF-8: most file systems take names of 255 bytes, and the number, size and suffix are added."""

RESERVED = frozenset('<>:"/\\|?*')
"""Characters that Windows forbids in file names."""


def name_of_result(upload: str, answer: Answer, size: Size) -> str:
    """Return `photo_x4.png` for `photo.jpg`, or `photo_3840x2560.png` if the caller gave a size in px.

    Args:
        upload: file name of the upload; not trusted.

    Returns:
        A name without folders and control characters; empty if the upload has no name.
    """
    stem = _stem(upload)
    if not stem:
        return ""
    scale = answer.model.scale if size.scale is None else size.scale
    in_px = size.given.keys() - {"scale"}
    tail = f"{answer.width}x{answer.height}" if in_px else f"x{round(scale, 2):g}"
    return f"{stem}_{tail}{answer.format.suffix}"


def name_in(url: str) -> str:
    """Return the file name at the end of a URL."""
    return printable(unquote(urlsplit(url).path.rpartition("/")[2]))


def printable(name: str) -> str:
    """Leave out control characters and lone surrogates."""
    return "".join(char for char in name if not unicodedata.category(char).startswith("C"))


def _stem(name: str) -> str:
    last = name.replace("\\", "/").rpartition("/")[2]
    stem = last.rpartition(".")[0] or last
    shown = printable(unicodedata.normalize("NFC", stem))
    taken = "".join("_" if char in RESERVED else char for char in shown).strip(" .")
    return taken.encode()[:MAX_STEM_BYTES].decode(errors="ignore").rstrip(" .")
