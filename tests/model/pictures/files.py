"""Parts of files, written by hand, and limits that small files keep."""

import struct
import zlib

from model.pictures.limits import Limits

LIMITS = Limits(
    max_picture_px=100_000, max_width_px=10_000, max_frames=20, max_metadata_bytes=50_000, max_expansion=100_000
)


def chunk(kind: bytes, body: bytes) -> bytes:
    """Make a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def box(kind: bytes, *content: bytes) -> bytes:
    """Make a box of an AVIF or HEIC."""
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)
