"""Read HEIC with an optional package: pillow-heif, or pi-heif (the extra `heic`), which is older and has no encoder.

Both have the same interface. pillow-heif is maintained; its wheels include x265, which is under the GPL.
"""

import io
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

from model.pictures.errors import NotAccepted

READERS = ("pillow_heif", "pi_heif")
"""Modules that read HEIC, the preferred one first."""


@cache
def installed() -> Any | None:
    """Return the module that reads HEIC; None if there is none."""
    for name in READERS:
        with suppress(ImportError):
            return import_module(name)
    return None


def reader() -> Any:
    """Return the module that reads HEIC.

    Raises:
        NotAccepted: none is installed.
    """
    if (found := installed()) is None:
        raise NotAccepted(
            "HEIC cannot be read here, since no reader is installed (the extra `heic`); send the picture as JPEG or PNG"
        )
    return found


def register() -> None:
    """Let Pillow open HEIC, if a reader is installed."""
    if (found := installed()) is not None:
        found.register_heif_opener()


def open_deep(upload: bytes) -> Any:
    """Open a HEIC file in its full depth; raises any exception for a broken one."""
    return reader().open_heif(io.BytesIO(upload), convert_hdr_to_8bit=False)
