"""The frames of a GIF: what must be checked before a decoder opens it, and the pixels of each one."""

import io
import itertools
import struct
from collections.abc import Iterator, Set

from PIL import Image

from model.pictures import colour
from model.pictures.compositing import CLEAR, KEEP, RESTORE, Piece, rgba
from model.pictures.errors import Damaged
from model.pictures.limits import Limits

DISPOSALS = {2: CLEAR, 3: RESTORE}
"""Disposal of a frame by its method in the file; other methods keep it."""

FRAME, EXTENSION, CONTROL, APPLICATION = 0x2C, 0x21, 0x21F9, 0x21FF
"""First bytes of blocks: image descriptor, any extension, graphic control extension, application extension."""

PROFILES = frozenset({b"ICCRGBG1012"})
LOOPS = frozenset({b"NETSCAPE2.0", b"ANIMEXTS1.0"})
"""Names of the extensions with a colour profile, and with the number of times that an animation is repeated."""


def count_frames(upload: bytes, limits: Limits) -> int:
    """Count the frames of a GIF, even if its end is missing.

    Raises:
        OverLimit: more than the limits allow.
    """
    frames = 0
    for _ in _frames(upload):
        frames = limits.check_frames(frames + 1)
    return max(1, frames)


def size_of(upload: bytes) -> tuple[int, int]:
    """Return width and height of a GIF, whose first frame may make it larger than its header says."""
    width, height = struct.unpack_from("<HH", upload, 6)
    for place, _ in itertools.islice(_frames(upload), 1):
        left, top, across, down = struct.unpack_from("<4H", upload, place + 1)
        width, height = max(width, left + across), max(height, top + down)
    return width, height


def check_size(upload: bytes, limits: Limits) -> None:
    """Refuse a GIF that is too large, or whose first frame is: Pillow allocates it when it opens the file.

    Raises:
        OverLimit: it is.
    """
    if len(upload) >= 10:
        limits.check_size(*size_of(upload), len(upload))


def check_places(upload: bytes) -> None:
    """Refuse a GIF with a frame that reaches beyond the picture.

    Raises:
        Damaged: there is one.
    """
    width, height = size_of(upload)
    for number, (place, _) in enumerate(_frames(upload), 1):
        left, top, across, down = struct.unpack_from("<4H", upload, place + 1)
        if left + across > width or top + down > height:
            raise Damaged(
                f"frame {number} of the GIF reaches to {left + across} x {top + down} px, and the picture has "
                f"{width} x {height} px; save it again, or ask for frames=first"
            )


def is_partial(upload: bytes) -> bool:
    """Return True if the first frame leaves a part of the picture clear."""
    size = size_of(upload)
    return any(
        struct.unpack_from("<4H", upload, place + 1)[2:] != size for place, _ in itertools.islice(_frames(upload), 1)
    )


def pieces(upload: bytes) -> Iterator[Piece]:
    """Decode the frames, each as a GIF of its own.

    Raises:
        Exception: one is truncated or corrupt.
    """
    head = upload[10 : 13 + _table_bytes(upload[10])]
    for place, control in _frames(upload):
        left, top, width, height = struct.unpack_from("<4H", upload, place + 1)
        transparency = CONTROL.to_bytes(2) + struct.pack("<BBHBx", 4, control[0] & 1, 0, control[3])
        descriptor = struct.pack("<B4H", FRAME, 0, 0, width, height)
        rest = upload[place + 9 : _end(upload, _data(upload, place))]
        still = b"".join((b"GIF89a", struct.pack("<HH", width, height), head, transparency, descriptor, rest))
        image = Image.open(io.BytesIO(still), formats=("GIF",))
        image.load()
        samples = colour.of_image(image)
        yield Piece(
            left=left,
            top=top,
            pixels=rgba(samples),
            grey=samples.grey,
            blend=True,
            disposal=DISPOSALS.get(control[0] >> 2 & 7, KEEP),
            duration_ms=10.0 * int.from_bytes(control[1:3], "little"),
        )


def profile(upload: bytes, limits: Limits) -> bytes | None:
    """Return the colour profile of a GIF.

    Raises:
        OverLimit: it is too large.
    """
    found = b"".join(_application(upload, PROFILES))
    limits.check_metadata("the profile of the GIF", len(found))
    return found or None


def plays_of(upload: bytes) -> int:
    """Return the number of plays of an animation; 0 for endless."""
    parts = (part for part in _application(upload, LOOPS) if part[:1] == b"\1" and len(part) >= 3)
    repeats = next((int.from_bytes(part[1:3], "little") for part in parts), None)
    return 1 if repeats is None else repeats + 1 if repeats else 0


def _application(upload: bytes, names: Set[bytes]) -> list[bytes]:
    """Return the data blocks of the first application extension with one of these names."""
    for kind, place in _blocks(upload):
        if kind == APPLICATION and upload[place + 3 : place + 14] in names:
            return [*_parts(upload, place + 14)]
    return []


def _frames(upload: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the offset of each frame, and the four bytes of its graphic control extension."""
    control = bytes(4)
    for kind, place in _blocks(upload):
        if kind == FRAME:
            yield place, control
            control = bytes(4)
        elif kind == CONTROL:
            control = upload[place + 3 : place + 7].ljust(4, b"\0")


def _blocks(upload: bytes) -> Iterator[tuple[int, int]]:
    """Yield the kind and the offset of each block, as far as the file goes."""
    try:
        place = 13 + _table_bytes(upload[10])
        while (first := upload[place]) in (FRAME, EXTENSION):
            if first == FRAME:
                kind, data = FRAME, _data(upload, place)
            else:
                kind, data = EXTENSION << 8 | upload[place + 1], place + 2
            yield kind, place
            place = _end(upload, data)
    except IndexError:
        return


def _parts(upload: bytes, place: int) -> Iterator[bytes]:
    """Yield the parts of some data, as far as the file goes."""
    while place < len(upload) and (size := upload[place]):
        yield upload[place + 1 : place + 1 + size]
        place += 1 + size


def _data(upload: bytes, frame: int) -> int:
    """Return the offset of a frame's pixel data."""
    return frame + 11 + _table_bytes(upload[frame + 9])


def _end(upload: bytes, place: int) -> int:
    """Return the offset after the data blocks that begin at a place; beyond the end of a truncated file."""
    while place < len(upload) and (size := upload[place]):
        place += 1 + size
    return place + 1


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
