"""Puts frames that were encoded as WebP files into an animated one (RFC 9649, section 2.7).

Pillow's own writer needs all frames in memory before it encodes the first.
"""

import struct
from collections.abc import Iterator, Sequence

from app.pictures.layout import Layout
from app.png.animation import EncodedFrame

PROFILE, ALPHA, EXIF, XMP, ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02
"""Flags of the header."""

REPLACE = 0x02
"""Flag of a frame that replaces what is below; the frame stays until the next one."""

IMAGE_CHUNKS = (b"ALPH", b"VP8 ", b"VP8L")
MAX_DURATION_MS = 2**24 - 1
MAX_PLAYS = 2**16 - 1


def webp_animation(frames: Sequence[EncodedFrame], layout: Layout, plays: int) -> bytes:
    """Return an animated WebP.

    Args:
        frames: each rectangle as a WebP of its own; left and top are even.
        plays: number of plays; 0 for endless.
    """
    metadata = layout.metadata
    flags = ANIMATION | (ALPHA if layout.transparent else 0)
    for part, flag in ((metadata.icc_profile, PROFILE), (metadata.exif, EXIF), (metadata.xmp, XMP)):
        flags |= flag if part else 0
    chunks = [_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + _three(layout.width - 1) + _three(layout.height - 1))]
    if metadata.icc_profile:
        chunks.append(_chunk(b"ICCP", metadata.icc_profile))
    chunks.append(_chunk(b"ANIM", bytes(4) + min(plays, MAX_PLAYS).to_bytes(2, "little")))
    chunks += [_chunk(b"ANMF", body) for body in _frames(frames)]
    if metadata.exif:
        chunks.append(_chunk(b"EXIF", metadata.exif))
    if metadata.xmp:
        chunks.append(_chunk(b"XMP ", metadata.xmp))
    body = b"".join((b"WEBP", *chunks))
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _frames(frames: Sequence[EncodedFrame]) -> Iterator[bytes]:
    shown_ms, ended_ms = 0.0, 0
    for frame in frames:
        shown_ms += frame.duration_ms
        duration_ms = min(round(shown_ms) - ended_ms, MAX_DURATION_MS)  # so that rounding errors do not add up
        ended_ms = round(shown_ms)
        place = map(_three, (frame.left // 2, frame.top // 2, frame.width - 1, frame.height - 1, duration_ms))
        yield b"".join((*place, bytes([REPLACE]), *_image_chunks(frame.data)))


def _image_chunks(file: bytes) -> Iterator[bytes]:
    place = 12
    while place + 8 <= len(file):
        kind, size = struct.unpack_from("<4sI", file, place)
        end = place + 8 + size + size % 2
        if kind in IMAGE_CHUNKS:
            yield file[place:end]
        place = end


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")
