"""Limit what a decoder copies of an AVIF or HEIC when it opens it: its items may share the same bytes many times."""

from collections.abc import Iterable

from model.pictures.boxes import Item, Items, boxes, places_in
from model.pictures.errors import OverLimit
from model.pictures.limits import Limits

SHARED_BYTES = 2**20
"""Bytes that all items may have more than the file: encoders store equal tiles, which are small, once."""

MAX_METADATA_ITEMS = 32
"""Maximum items without pixels: portraits of phones have EXIF and XMP, and further XMP for each of their masks."""

MAX_TRACKS = 4
"""Maximum tracks: real ones are one of colours and one of alpha."""

PICTURES = frozenset(
    {b"av01", b"hvc1", b"hev1", b"lhv1", b"avc1", b"vvc1", b"jpeg", b"j2k1", b"unci", b"mski"}
    | {b"grid", b"iovl", b"iden", b"tili"}
)
"""Kinds of items that a decoder does not copy as metadata."""


def check_data(file: bytes, found: Items | None, limits: Limits) -> None:
    """Refuse an AVIF or HEIC whose items have far more bytes than the file, or that has too much metadata.

    Args:
        file: one with boxes that were checked.
        found: its items.

    Raises:
        OverLimit: it is one.
        KeyError, IndexError, struct.error: its boxes are broken.
    """
    items = [found.primary, *found.others.values()] if found else []
    tracks = _in_tracks(file)
    if sum(item.size_bytes for item in (*items, *tracks)) > len(file) + SHARED_BYTES:
        raise OverLimit("the AVIF or HEIC has items that share the same bytes many times; save it again")
    metadata = [*tracks, *(item for item in items if item.kind not in PICTURES)]
    if len(metadata) > MAX_METADATA_ITEMS:
        raise OverLimit(
            f"the AVIF or HEIC has {len(metadata)} items of metadata; the limit is {MAX_METADATA_ITEMS}; "
            "save it without them"
        )
    copied_bytes = sum(item.size_bytes * max(1, len(item.references.get(b"cdsc", ()))) for item in metadata)
    limits.check_metadata("all metadata of the AVIF or HEIC, counted for each of its pictures,", copied_bytes)
    properties_bytes = sum(len(body) for item in items for _, body in item.properties)
    limits.check_metadata("all properties of the AVIF or HEIC, counted for each of its pictures,", properties_bytes)


def _in_tracks(file: bytes) -> list[Item]:
    """Return the items in the film and in its tracks, which are all metadata."""
    films = [(start, end) for kind, start, end in boxes(file, 0, len(file)) if kind == b"moov"]
    tracks = _named(file, films, b"trak")
    if len(tracks) > MAX_TRACKS:
        raise OverLimit(f"the AVIF or HEIC has {len(tracks)} tracks; the limit is {MAX_TRACKS}; save it again")
    return [
        item
        for start, end in _named(file, [*films, *tracks], b"meta")
        for item in places_in(file, (start, end)).values()
    ]


def _named(file: bytes, spans: Iterable[tuple[int, int]], name: bytes) -> list[tuple[int, int]]:
    """Return the boxes of one kind in parts of a file."""
    return [(start, end) for span in spans for kind, start, end in boxes(file, *span) if kind == name]
