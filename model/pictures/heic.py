"""HEIC, read by whichever package is installed: pillow-heif, or pi-heif, its discontinued edition without an encoder.

Both have the same interface. pillow-heif is maintained, and its wheels include x265 under the GPL.
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
def reader() -> Any:
    """Return the module that reads HEIC.

    Raises:
        NotAccepted: none is installed.
    """
    for name in READERS:
        with suppress(ImportError):
            return import_module(name)
    raise NotAccepted("HEIC is not read here, since no reader for it is installed; send the picture as JPEG or PNG")


def register() -> None:
    """Let Pillow open HEIC, where a reader is installed."""
    with suppress(NotAccepted):
        reader().register_heif_opener()


def open_deep(upload: bytes) -> Any:
    """Open a HEIC file in its full depth; raises any exception over a broken one."""
    return reader().open_heif(io.BytesIO(upload), convert_hdr_to_8bit=False)
