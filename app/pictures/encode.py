"""Encodes the rows of an answer in one of the formats of answers."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

from app.errors import Unprocessable
from app.pictures.avif import AVIF, avif_file
from app.pictures.colours import SIZES
from app.pictures.jpeg import JPEG, jpeg_file
from app.pictures.jxl import JXL, is_installed, jxl_file
from app.pictures.layout import AnswerFormat, Layout
from app.pictures.picture import Pixels
from app.pictures.webp import WEBP, webp_file
from app.png.encoder import MAX_SIDE_PX, PngLayout, png_pieces
from app.threads import in_thread

PNG = AnswerFormat(
    name="png",
    media_type="image/png",
    max_side_px=MAX_SIDE_PX,
    depths=(8, 16),
    transparent=True,
    grey=True,
    colours=frozenset(SIZES),
    narrow_range=True,
    texts=True,
    animated=True,
)

FORMATS: Mapping[str, AnswerFormat] = {form.name: form for form in (PNG, WEBP, JPEG, AVIF, JXL)}
"""Formats of answers, best first; see `writable_formats`."""

SAME: Mapping[str, AnswerFormat] = {"JPEG": JPEG, "MPO": JPEG, "WEBP": WEBP, "AVIF": AVIF, "HEIF": AVIF}
"""Formats of answers to uploads, by Pillow's name; PNG, which loses nothing, for all others."""

ENCODERS: Mapping[str, Callable[[Pixels, Layout], bytes]] = {
    "webp": webp_file,
    "jpeg": jpeg_file,
    "avif": avif_file,
    "jxl": jxl_file,
}
"""Encoders of whole answers."""


def writable_formats() -> Sequence[AnswerFormat]:
    """Return the formats that this installation writes, best first."""
    return [form for form in FORMATS.values() if form is not JXL or is_installed()]


def formats_like(upload_format: str) -> Sequence[AnswerFormat]:
    """Return the format of an upload or the one nearest to it, and PNG for answers that it cannot hold."""
    return [SAME[upload_format], PNG] if upload_format in SAME else [PNG]


def suitable_formats(formats: Sequence[AnswerFormat], *, bits: int | None, animated: bool) -> Sequence[AnswerFormat]:
    """Return those formats that have this depth, and that hold animations if the answer is one.

    Raises:
        Unprocessable: none does.
    """
    held = [form for form in formats if form.animated or not animated]
    if not held:
        raise Unprocessable(
            f"frames=all: {_names(formats)} holds no animation; ask for format=png or format=webp, or for frames=first"
        )
    deep = [form for form in held if bits is None or bits in form.depths]
    if not deep:
        depths = "; ".join(f"{form.name} has {', '.join(map(str, form.depths))}" for form in held)
        raise Unprocessable(f"bits={bits}: {depths}; ask for one of these, or for another format")
    return deep


def _names(formats: Sequence[AnswerFormat]) -> str:
    return ", ".join(form.name for form in formats)


def encoded(rows: AsyncIterable[Pixels], layout: Layout, pool: Executor) -> AsyncGenerator[bytes, None]:
    """Encode an answer in pieces: a PNG while its rows arrive, other formats at the end.

    Args:
        rows: of the layout, in order.
        pool: runs the encoding; that of a whole file cannot be stopped once it runs.
    """
    if layout.format is PNG:
        return png_pieces(png_layout(layout), rows, pool)
    return _whole(rows, layout, pool)


def png_layout(layout: Layout) -> PngLayout:
    """Return the header and metadata of a PNG."""
    metadata = layout.metadata
    return PngLayout(
        width=layout.width,
        height=layout.height,
        channels=layout.channels,
        bits=layout.bits,
        icc_profile=metadata.icc_profile,
        exif=metadata.exif,
        xmp=metadata.xmp,
        dpi=metadata.dpi,
        colours=[(kind, metadata.colours[kind]) for kind in SIZES if kind in metadata.colours],
        texts=metadata.texts,
        compression=layout.compression,
    )


async def _whole(rows: AsyncIterable[Pixels], layout: Layout, pool: Executor) -> AsyncGenerator[bytes, None]:
    picture = await layout.whole(rows)
    yield await in_thread(pool, partial(ENCODERS[layout.format.name], picture, layout))
