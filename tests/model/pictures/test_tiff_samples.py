"""Samples of a TIFF are read as its fields describe, in every depth, byte order, compression and layout."""

import io
import itertools
import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.pictures.errors import Damaged, NotAccepted, OverLimit
from model.pictures.reading import read, read_header
from model.pictures.samples import Samples
from model.pictures.tiff_directory import MAX_SUB_DIRECTORIES, TiffFile
from tests.model.pictures.files import LIMITS
from tests.tiff_file import COMPRESSIONS, Levels, Tiff

ORDERS = ("<", ">")
HEIGHT, WIDTH = 19, 21


def levels(channels: int, bits: int = 8) -> Levels:
    """Random samples (H, W, C)."""
    return numpy.random.default_rng(bits).integers(0, 2**bits, (HEIGHT, WIDTH, channels), dtype=numpy.uint16)


def samples(file: bytes) -> Samples:
    return read(file, LIMITS).samples


def stretched(stored: Levels, bits: int) -> NDArray[numpy.int64]:
    """The levels of 8 or 16 bits that are nearest."""
    whole = 255 if bits <= 8 else 65_535
    levels: NDArray[numpy.int64] = numpy.round(stored * (whole / (2**bits - 1))).astype(numpy.int64)
    return levels


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", range(1, 17))
def test_grey_and_colour_of_every_depth_are_read(bits: int, order: str) -> None:
    for channels, photometric in ((1, 1), (3, 2)):
        stored = levels(channels, bits)
        file = Tiff(bits=bits, photometric=photometric, order=order).file(stored)
        assert (samples(file).colour == stretched(stored, bits)).all()
        assert read_header(file, LIMITS).bits == (8 if bits <= 8 else 16)


@pytest.mark.parametrize("tile_px", [None, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("order", "big"), [*itertools.product(ORDERS, (False, True))])
def test_16_bits_are_read_however_they_are_kept(
    order: str, compression: int, tile_px: int | None, *, big: bool, planar: bool
) -> None:
    stored = levels(4, 16)
    file = Tiff(bits=16, order=order, big=big, compression=compression, planar=planar, tile_px=tile_px, extra=[2])
    seen = samples(file.file(stored))
    assert (seen.colour == stored[..., :3]).all()
    assert seen.alpha is not None
    assert (seen.alpha == stored[..., 3]).all()


@pytest.mark.parametrize("tile_px", [None, 16])
@pytest.mark.parametrize(("bits", "order"), [*itertools.product((8, 16), ORDERS)])
def test_differences_of_samples_are_added_up(bits: int, order: str, tile_px: int | None) -> None:
    stored = levels(3, bits)
    file = Tiff(bits=bits, order=order, compression=8, predictor=2, tile_px=tile_px).file(stored)
    assert (samples(file).colour == stored).all()


@pytest.mark.parametrize("compression", ["tiff_lzw", "zstd", "lzma", "packbits", "tiff_deflate"])
def test_16_bits_that_another_program_has_compressed_keep_their_depth(compression: str) -> None:
    stored = levels(1, 16)
    made = io.BytesIO()
    Image.fromarray(stored[..., 0]).save(made, "TIFF", compression=compression)
    assert (samples(made.getvalue()).colour == stored).all()


@pytest.mark.parametrize(("bits", "order"), [*itertools.product((1, 2, 4, 8, 12, 16), ORDERS)])
@pytest.mark.parametrize("compression", [1, 8])
def test_white_of_a_min_is_white_picture_is_white(bits: int, order: str, compression: int) -> None:
    stored = levels(1, bits)
    file = Tiff(bits=bits, photometric=0, order=order, compression=compression).file(stored)
    assert (samples(file).colour == (255 if bits <= 8 else 65_535) - stretched(stored, bits)).all()


def test_min_is_white_inverts_no_alpha() -> None:
    stored = levels(2)
    seen = samples(Tiff(photometric=0, extra=[2]).file(stored))
    assert (seen.colour == 255 - stored[..., :1]).all()
    assert seen.alpha is not None
    assert (seen.alpha == stored[..., 1]).all()


@pytest.mark.parametrize(
    ("photometric", "colours", "extra", "alpha"),
    [
        (2, 3, [0], None),
        (2, 3, [2], 3),
        (2, 3, [999], 3),
        (2, 3, None, 3),
        (2, 3, [0, 0], None),
        (2, 3, [2, 0], 3),
        (2, 3, [0, 2], 4),
        (1, 1, [0], None),
        (1, 1, [0, 0], None),
        (1, 1, [2, 0], 1),
        (1, 1, [0, 0, 2], 3),
    ],
)
@pytest.mark.parametrize(("bits", "planar", "tile_px"), [*itertools.product((8, 16), (False, True), (None, 16))])
def test_a_channel_is_alpha_where_a_field_says_so(
    photometric: int,
    colours: int,
    extra: Sequence[int] | None,
    alpha: int | None,
    bits: int,
    tile_px: int | None,
    *,
    planar: bool,
) -> None:
    stored = levels(colours + (1 if extra is None else len(extra)), bits)
    file = Tiff(bits=bits, photometric=photometric, extra=extra, planar=planar, tile_px=tile_px).file(stored)
    seen = samples(file)
    assert (seen.colour == stored[..., :colours]).all()
    assert seen.grey == (photometric == 1)
    assert read_header(file, LIMITS).planes == (1 if alpha is None else 2)
    if alpha is None:
        assert seen.alpha is None
    else:
        assert seen.alpha is not None
        assert (seen.alpha == stored[..., alpha]).all()


@pytest.mark.parametrize(("bits", "planar"), [*itertools.product((8, 16), (False, True))])
def test_colour_that_was_multiplied_by_alpha_is_divided_by_it(bits: int, *, planar: bool) -> None:
    stored = numpy.full((HEIGHT, WIDTH, 4), 50, numpy.uint16)
    stored[..., 3] = 100
    seen = samples(Tiff(bits=bits, extra=[1], planar=planar).file(stored))
    assert (seen.colour == round((2**bits - 1) / 2)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file", [Tiff(bits=bits, order=order) for bits in (8, 12, 16) for order in ORDERS], ids=str)
def test_the_orientation_is_returned_and_the_samples_are_not_turned(file: Tiff, orientation: int) -> None:
    stored = levels(3, file.bits)
    picture = read(Tiff(bits=file.bits, order=file.order, fields={274: [orientation]}).file(stored), LIMITS)
    assert picture.orientation == orientation
    assert (picture.samples.colour == stretched(stored, file.bits)).all()


def test_an_orientation_in_xmp_is_returned() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert read(Tiff(fields={700: (1, xmp)}).file(levels(3)), LIMITS).orientation == 6
    assert read(Tiff(fields={700: (1, xmp), 274: [3]}).file(levels(3)), LIMITS).orientation == 3


@pytest.mark.parametrize("bits", [8, 16])
def test_inks_become_rgb(bits: int) -> None:
    stored = levels(4, bits)
    light = (2**bits - 1) - stored.astype(float)
    seen = samples(Tiff(bits=bits, photometric=5).file(stored))
    assert seen.converted
    assert numpy.abs(seen.colour - light[..., :3] * light[..., 3:] / (2**bits - 1)).max() <= 1


@pytest.mark.parametrize(("photometric", "bits"), [(8, 8), (9, 8), (8, 16)])
@pytest.mark.parametrize(
    ("colour", "wanted"),
    [
        ((0, 0, 0), (0, 0, 0)),
        ((50, 0, 0), (119, 119, 119)),
        ((100, 0, 0), (255, 255, 255)),
        ((60, 40, -50), (178, 119, 234)),
        ((88, -30, 60), (190, 235, 97)),
    ],
)
def test_lab_becomes_the_rgb_that_littlecms_makes_of_it(
    photometric: int, bits: int, colour: tuple[int, int, int], wanted: tuple[int, int, int]
) -> None:
    lightness, *opponents = colour
    unit = 1 if bits == 8 else 256
    kept = [round(lightness * (2**bits - 1) / 100)]
    kept += [(one + 128 if photometric == 9 else one * unit % 2**bits) for one in opponents]
    stored = numpy.full((70, 4, 3), kept, numpy.uint16)
    seen = samples(Tiff(bits=bits, photometric=photometric).file(stored))
    assert numpy.abs(seen.colour[-1, 0] / (2**bits - 1) * 255 - wanted).max() <= 1.5


RAW = {254: [0], 256: [64], 257: [48], 262: [32803]}


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (Tiff(bits=16, photometric=32803), r"camera raw file \(a mosaic"),
        (Tiff(bits=16, photometric=34892), r"camera raw file \(linear raw"),
        (Tiff(fields={50706: (1, b"\1\4\0\0")}), r"camera raw file \(a DNG"),
        (Tiff(fields={254: [1]}, inside=[RAW]), "camera raw file .* preview"),
        (Tiff(inside=[RAW]), "camera raw file .* preview"),
        (Tiff(fields={254: [1]}, after=[RAW]), "camera raw file"),
        (Tiff(fields={254: [1]}, inside=[{259: [34713], 262: [32803]}]), "camera raw file"),
        (Tiff(fields={254: [1]}, inside=[{262: [2]}]), "small copy"),
        (Tiff(photometric=4), "transparency mask"),
        (Tiff(photometric=10), "ITU"),
        (Tiff(photometric=32844), "LogL"),
        (Tiff(photometric=32845), "LogLuv"),
        (Tiff(photometric=9, bits=16), "Lab colour .* of 16 bits"),
        (Tiff(photometric=77), "photometric interpretation 77"),
        (Tiff(photometric=5, fields={332: [2]}), "other inks"),
        (Tiff(fields={339: [2] * 4}), "signed"),
        (Tiff(bits=16, fields={339: [3] * 4}), "floating-point"),
        (Tiff(compression=8, predictor=2, bits=12), "differences of samples of 12 bits"),
        (Tiff(fields={259: [34661]}), "rare kind"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_read_is_refused_by_name(file: Tiff, said: str) -> None:
    with pytest.raises(NotAccepted, match=said):
        read(file.file(levels(4, 8)), LIMITS)


def test_many_channels_in_one_plane_are_refused_and_apart_read() -> None:
    stored = levels(12)
    with pytest.raises(NotAccepted, match="12 channels; the limit is 8"):
        read(Tiff(extra=[0] * 9).file(stored), LIMITS)
    assert (samples(Tiff(extra=[0] * 9, planar=True).file(stored)).colour == stored[..., :3]).all()


@pytest.mark.parametrize(
    ("file", "frames"),
    [
        (Tiff(after=[{254: [2]}, {254: [2]}]), 3),
        (Tiff(after=[{254: [1]}, {254: [5]}]), 1),
        (Tiff(inside=[{254: [1], 262: [2]}]), 1),
        (Tiff(inside=[{256: [9], 257: [9], 262: [32803]}]), 1),
        (Tiff(fields={254: [1]}), 1),
    ],
)
def test_pages_count_and_copies_in_a_lower_resolution_do_not(file: Tiff, frames: int) -> None:
    stored = levels(3)
    picture = read(file.file(stored), LIMITS)
    assert picture.frames == frames
    assert (picture.samples.colour == stored).all()


def test_few_directories_below_another_one_are_read_and_each_once() -> None:
    many = TiffFile(Tiff(inside=[{254: [1]}] * (MAX_SUB_DIRECTORIES + 1)).file(levels(3)))
    assert len([*many.inside(many.directories[0])]) == MAX_SUB_DIRECTORIES
    loop = Tiff(fields={330: [70_000] * 50}).file(levels(3))
    (place,) = struct.unpack_from("<I", loop, 4)
    itself = TiffFile(loop.replace(struct.pack("<I", 70_000), struct.pack("<I", place)))
    assert [inner.place for inner in itself.inside(itself.directories[0])] == [place]


def test_a_thumbnail_in_front_is_passed_over() -> None:
    stored = levels(3)
    large = {256: [WIDTH], 257: [HEIGHT], 258: [8] * 3, 262: [2], 277: [3], 278: [HEIGHT], 273: [16]}
    large |= {279: [stored.size]}
    small = {254: [1], 256: [2], 257: [2], 279: [12]}
    picture = read(Tiff(rows_per_strip=HEIGHT, fields=small, after=[large]).file(stored), LIMITS)
    assert (picture.samples.colour == stored).all()
    assert picture.frames == 1


@pytest.mark.parametrize("tag", [34377, 37724, 50839, 65000, 33723])
def test_an_unused_field_may_have_any_size(tag: int) -> None:
    stored = levels(3)
    assert (samples(Tiff(fields={tag: (7, bytes(60_000))}).file(stored)).colour == stored).all()


@pytest.mark.parametrize("tag", [700, 34675, 270])
def test_a_field_that_is_read_may_not(tag: int) -> None:
    with pytest.raises(OverLimit, match=f"field {tag} has 60000 bytes; the limit is 50000"):
        read_header(Tiff(fields={tag: (7, bytes(60_000))}).file(levels(3)), LIMITS)


def test_tiles_that_are_far_larger_than_the_picture_are_refused() -> None:
    file = Tiff(tile_px=16).file(levels(3))
    wide = Tiff(tile_px=16, fields={322: [65_520], 323: [1]}).file(levels(3))
    assert read_header(file, LIMITS).width == WIDTH
    with pytest.raises(OverLimit, match="tiles of 65520 x 1 px"):
        read_header(wide, LIMITS)


@pytest.mark.parametrize("compression", [1, 7, 8, 50001])
def test_tall_tiles_count_with_their_height_in_every_compression(compression: int) -> None:
    tall = Tiff(tile_px=16, fields={323: [6000], 259: [compression]})
    assert read_header(tall.file(numpy.zeros((16, 32, 3), numpy.uint16)), LIMITS).width == 32
    with pytest.raises(OverLimit, match="tiles of 16 x 6000 px"):
        read_header(tall.file(numpy.zeros((16, 64, 3), numpy.uint16)), LIMITS)


@pytest.mark.parametrize("kind", [6, 8, 9, 17])
@pytest.mark.parametrize("tag", [258, 279, 322, 323])
def test_signed_numbers_in_a_field_that_says_how_pixels_are_stored_are_refused_by_name(kind: int, tag: int) -> None:
    tile_px = 16 if tag in (322, 323) else None
    file = Tiff(tile_px=tile_px, compression=8, fields={tag: (kind, bytes(8)), 65000: (kind, bytes(8))})
    with pytest.raises(NotAccepted, match=f"signed numbers in field {tag}"):
        read_header(file.file(levels(3)), LIMITS)


def test_signed_numbers_in_other_fields_do_not_matter() -> None:
    assert samples(Tiff(fields={65000: (9, bytes(8))}).file(levels(3))).colour.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("tile_px", [None, 16])
@pytest.mark.parametrize("compression", [7, 8])
def test_strips_and_tiles_that_share_very_many_bytes_are_refused(compression: int, tile_px: int | None) -> None:
    file = Tiff(compression=8, tile_px=tile_px, fields={259: [compression], 279: [10**6] * 60, 325: [10**6] * 60})
    with pytest.raises(OverLimit, match="strips or tiles have"):
        read_header(file.file(levels(3)), LIMITS)


def test_strips_may_share_the_bytes_of_a_blank_one() -> None:
    blank = numpy.zeros((300, WIDTH, 3), numpy.uint16)
    file = Tiff(compression=8, fields={273: [16] * 100}).file(blank)
    assert (samples(file).colour == blank).all()


@pytest.mark.parametrize("kept", [9, 40, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("compression", [1, 8])
def test_a_truncated_file_is_damaged(kept: float, compression: int) -> None:
    file = Tiff(compression=compression, fields={273: [10**6] * 7}).file(levels(3))
    whole = Tiff(compression=compression).file(levels(3))
    for one in (file, whole[: int(kept if kept > 1 else kept * len(whole))]):
        with pytest.raises(Damaged):
            read(one, LIMITS)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(
    "file",
    [Tiff(fields={257: [100]}), Tiff(fields={278: [1]}), Tiff(tile_px=16, fields={257: [100]}), Tiff(planar=True)],
    ids=["higher", "more strips", "more tiles", "another plane"],
)
def test_a_file_without_all_of_its_strips_is_damaged(file: Tiff, compression: int) -> None:
    fields = {**file.fields, 277: [4], 258: [8] * 4} if file.planar else file.fields
    with pytest.raises(Damaged, match="strips or tiles"):
        samples(replace(file, compression=compression, fields=fields).file(levels(3)))


def test_other_fields_of_the_picture_are_returned() -> None:
    image = read(
        Tiff(bits=16, order=">", fields={271: (2, b"maker\0"), 65000: (2, b"secret\0")}).file(levels(3)), LIMITS
    ).image
    assert image.getexif()[271] == "maker"
    assert 65000 not in image.getexif()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("map_bits", [8, 16])
def test_a_palette_is_looked_up_with_levels_of_8_or_16_bits(map_bits: int, bits: int, order: str) -> None:
    stored = levels(1, bits)
    colours = numpy.random.default_rng(1).integers(0, 256, (3, 2**bits))
    colours[0, 0] = 255
    said = (colours * (257 if map_bits == 16 else 1)).flatten().tolist()
    for layout in ({"compression": 5, "tile_px": 16}, {"big": True}):
        file = Tiff(bits=bits, photometric=3, order=order, fields={320: said}, **layout).file(stored)
        assert (samples(file).colour == colours[:, stored[..., 0]].transpose(1, 2, 0)).all()


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_what_an_extra_channel_of_a_palette_means_is_obeyed(extra: int, *, planar: bool) -> None:
    stored = levels(2)
    stored[..., 1] = numpy.where(stored[..., 1] < 100, 0, 255)
    colours = numpy.random.default_rng(1).integers(0, 256, (3, 256))
    file = Tiff(photometric=3, extra=[extra], planar=planar, fields={320: (colours * 257).flatten().tolist()})
    seen = samples(file.file(stored))
    shown = stored[..., 1] == 255
    assert (seen.colour[shown] == colours[:, stored[..., 0]].transpose(1, 2, 0)[shown]).all()
    assert (seen.alpha is None) == (extra == 0)
    assert seen.alpha is None or (seen.alpha == stored[..., 1]).all()


def test_a_palette_with_too_few_colours_is_damaged() -> None:
    with pytest.raises(Damaged, match="palette has 5 colours of 256"):
        samples(Tiff(photometric=3, fields={320: [7] * 15}).file(levels(1)))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_no_rows_in_a_strip_means_that_all_are_in_one(compression: int) -> None:
    stored = levels(3)
    file = Tiff(compression=compression, rows_per_strip=HEIGHT, fields={278: [0]}).file(stored)
    assert (samples(file).colour == stored).all()


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        (Tiff(rows_per_strip=2), 10),
        (Tiff(planar=True), 21),
        (Tiff(tile_px=8), 9),
        (Tiff(tile_px=16, fields={273: [8] * 9}), 9),
    ],
)
def test_a_tiff_of_very_many_strips_or_tiles_is_refused_by_its_header(
    file: Tiff, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = file.file(levels(3))
    monkeypatch.setattr("model.pictures.tiff_layout.MAX_STRIPS", parts)
    assert read_header(made, LIMITS).height == HEIGHT
    monkeypatch.setattr("model.pictures.tiff_layout.MAX_STRIPS", parts - 1)
    with pytest.raises(OverLimit, match=f"{parts} strips or tiles; the limit is {parts - 1}"):
        read_header(made, LIMITS)


def test_only_the_depths_of_real_channels_are_read_and_few_are_named() -> None:
    alike = Tiff(fields={258: [8, 8, 8, 9, 10], 339: [1, 1, 1, 3]}).file(levels(3))
    assert read_header(alike, LIMITS).bits == 8
    different = Tiff(photometric=1, planar=True, fields={258: [8, 9] * 20}).file(levels(40))
    with pytest.raises(NotAccepted, match=r"have 8, 9, 8, 9, 8, 9, 8, 9, \.\.\. bits;"):
        read_header(different, LIMITS)
