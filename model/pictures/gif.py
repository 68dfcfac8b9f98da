"""The header of a GIF, read without a decoder, and the pixels of each frame.

A decoder gets one frame at a time, in a file written here: Pillow reads on where blocks are broken, so it would find
other frames than those whose size was checked.
"""

import io
import itertools
import struct
from collections.abc import Iterator, Set
from dataclasses import dataclass

from PIL import Image

from model.pictures import colour
from model.pictures.compositing import CLEAR, KEEP, RESTORE, Piece, composed, rgba
from model.pictures.errors import Damaged, OverLimit
from model.pictures.limits import Limits
from model.pictures.samples import Samples

MAX_BLOCKS = 200_000
"""Maximum blocks of a file and their sub-blocks; each costs time. 32 MiB of full sub-blocks are 131,072."""

DISPOSALS = {2: CLEAR, 3: RESTORE}
"""Disposal of a frame by its method in the file; other methods keep it."""

FRAME, EXTENSION, CONTROL, APPLICATION = 0x2C, 0x21, 0x21F9, 0x21FF
"""First bytes of blocks: image descriptor, any extension, graphic control extension, application extension."""

PROFILES = frozenset({b"ICCRGBG1012"})
LOOPS = frozenset({b"NETSCAPE2.0", b"ANIMEXTS1.0"})
"""Names of the extensions with a colour profile, and with the number of times that an animation is repeated."""


@dataclass(frozen=True, kw_only=True)
class GifHeader:
    """The size of a GIF, and what else is known of it before a frame is decoded."""

    width: int
    height: int
    planes: int
    """Maximum planes of the picture: two if its first frame may be transparent."""
    frames: int
    profile: bytes | None
    px_per_m = (0, 0)
    """It has no resolution."""

    def samples(self, upload: bytes) -> Samples:
        """Return the samples of the first frame as it is shown."""
        return next(composed(pieces(upload), self.width, self.height)).samples


def gif_header(upload: bytes, limits: Limits) -> GifHeader:
    """Walk over the blocks of a GIF.

    Raises:
        OverLimit: more blocks, pixels or frames, or a larger profile, than the limits allow.
        Damaged: it has no frame, or no size.
    """
    _check_blocks(upload)
    profile = _profile(upload, limits)
    frames = [*itertools.islice(_frames(upload), limits.max_frames + 1)]
    if not frames:
        raise Damaged("the GIF file is truncated or corrupt: no frame follows its header")
    (place, control), (width, height) = frames[0], struct.unpack_from("<HH", upload, 6)
    left, top, across, down = struct.unpack_from("<4H", upload, place + 1)
    width, height = max(width, left + across), max(height, top + down)  # as decoders do
    partial = (across, down) != (width, height)
    limits.check_size(width, height, len(upload))
    if not width or not height:
        raise Damaged(f"the GIF file is corrupt: it says that it has {width} x {height} px")
    planes = 2 if partial or control[0] & 1 else 1
    number = limits.check_frames(len(frames))
    return GifHeader(width=width, height=height, planes=planes, frames=number, profile=profile)


def check_places(upload: bytes, width: int, height: int) -> None:
    """Refuse a GIF with a frame that reaches beyond the picture.

    Raises:
        Damaged: there is one.
    """
    for number, (place, _) in enumerate(_frames(upload), 1):
        left, top, across, down = struct.unpack_from("<4H", upload, place + 1)
        if left + across > width or top + down > height:
            raise Damaged(
                f"frame {number} of the GIF reaches to {left + across} x {top + down} px, and the picture has "
                f"{width} x {height} px; save it again, or ask for frames=first"
            )


def pieces(upload: bytes) -> Iterator[Piece]:
    """Decode the frames, each as a GIF of its own.

    Raises:
        Exception: one is truncated or corrupt.
    """
    head = upload[10 : 13 + _table_bytes(upload[10])]
    without_table = bytes((head[0] & 0x7F, *head[1:3]))
    for place, control in _frames(upload):
        left, top, width, height = struct.unpack_from("<4H", upload, place + 1)
        transparency = CONTROL.to_bytes(2) + struct.pack("<BBHBx", 4, control[0] & 1, 0, control[3])
        descriptor = struct.pack("<B4H", FRAME, 0, 0, width, height)
        rest = upload[place + 9 : _end(upload, _data(upload, place))]
        screen = without_table if rest[0] & 0x80 else head  # Pillow would take that table in place of its own grey one
        still = b"".join((b"GIF89a", struct.pack("<HH", width, height), screen, transparency, descriptor, rest))
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


def plays_of(upload: bytes) -> int:
    """Return the number of plays of an animation; 0 for endless."""
    parts = (part for part in _application(upload, LOOPS) if part[:1] == b"\1" and len(part) >= 3)
    repeats = next((int.from_bytes(part[1:3], "little") for part in parts), None)
    return 1 if repeats is None else repeats + 1 if repeats else 0


def _profile(upload: bytes, limits: Limits) -> bytes | None:
    found = b"".join(_application(upload, PROFILES))
    limits.check_metadata("the profile of the GIF", len(found))
    return found or None


def _application(upload: bytes, names: Set[bytes]) -> list[bytes]:
    """Return the sub-blocks of the first application extension with one of these names."""
    for kind, place, _ in _blocks(upload):
        if kind == APPLICATION and upload[place + 3 : place + 14] in names:
            return [*_sub_blocks(upload, place + 14)]
    return []


def _frames(upload: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the offset of each frame, and the four bytes of its graphic control extension."""
    control = bytes(4)
    for kind, place, _ in _blocks(upload):
        if kind == FRAME:
            yield place, control
            control = bytes(4)
        elif kind == CONTROL:
            control = upload[place + 3 : place + 7].ljust(4, b"\0")


def _check_blocks(upload: bytes) -> None:
    blocks = 0
    for _, _, data in _blocks(upload):
        blocks += 1 + sum(1 for _ in itertools.islice(_sub_blocks(upload, data), MAX_BLOCKS))
        if blocks > MAX_BLOCKS:
            raise OverLimit(f"the GIF has more than {MAX_BLOCKS} blocks, which is the limit; save it again")


def _blocks(upload: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the kind, the offset and the offset of the data of each block, as far as the file goes."""
    try:
        place = 13 + _table_bytes(upload[10])
        while (first := upload[place]) in (FRAME, EXTENSION):
            if first == FRAME:
                kind, data = FRAME, _data(upload, place)
            else:
                kind, data = EXTENSION << 8 | upload[place + 1], place + 2
            yield kind, place, data
            place = _end(upload, data)
    except IndexError:
        return


def _sub_blocks(upload: bytes, place: int) -> Iterator[bytes]:
    """Yield the sub-blocks of some data, as far as the file goes."""
    while place < len(upload) and (size := upload[place]):
        yield upload[place + 1 : place + 1 + size]
        place += 1 + size


def _data(upload: bytes, frame: int) -> int:
    """Return the offset of a frame's pixel data."""
    return frame + 11 + _table_bytes(upload[frame + 9])


def _end(upload: bytes, place: int) -> int:
    """Return the offset after the sub-blocks that begin at a place; beyond the end of a truncated file."""
    while place < len(upload) and (size := upload[place]):
        place += 1 + size
    return place + 1


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
