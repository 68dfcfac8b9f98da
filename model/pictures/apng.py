"""The frames of an animated PNG, each read as a PNG of its own."""

from collections.abc import Iterator

from model.pictures import reading
from model.pictures.apng_structure import shared_of, stored_frames
from model.pictures.compositing import Piece, rgba
from model.pictures.limits import Limits
from model.pictures.png_structure import chunks


def plays_of(file: bytes) -> int:
    """Return the number of plays of an animation; 0 for endless."""
    bodies = (chunk.body for chunk in chunks(file, whole=False) if chunk.kind == b"acTL" and len(chunk.body) == 8)
    return next((int.from_bytes(body[4:]) for body in bodies), 0)


def pieces(file: bytes, size: tuple[int, int], limits: Limits) -> Iterator[Piece]:
    """Decode the frames of an animated PNG of 8 bits.

    Args:
        size: width and height of the picture.

    Raises:
        Damaged: one is truncated or corrupt.
    """
    shared = shared_of(file)
    for stored in stored_frames(file, size):
        samples = reading.read(stored.png(shared), limits).samples
        yield Piece(
            left=stored.left,
            top=stored.top,
            pixels=rgba(samples),
            grey=samples.grey,
            blend=stored.blend,
            disposal=stored.disposal,
            duration_ms=stored.delay_ms,
        )
