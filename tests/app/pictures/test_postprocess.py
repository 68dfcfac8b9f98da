"""From upscaled planes to the pixels of an answer: size and colours."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from app.pictures.encode import FORMATS
from app.pictures.layout import layout_of
from app.pictures.picture import Picture, Pixels, planes_of
from app.pictures.postprocess import Postprocessor


def smooth(height: int, width: int, *, bits: int = 8) -> Pixels:
    """Make colour (H, W, 3) without sharp edges, in the middle of its range."""
    rows, columns = numpy.mgrid[:height, :width]
    waves = [numpy.sin(rows / 9 + shift) + numpy.cos(columns / 7 + shift) for shift in range(3)]
    kind = numpy.uint8 if bits == 8 else numpy.uint16
    colour: Pixels = ((0.5 + 0.12 * numpy.stack(waves, axis=-1)) * (2**bits - 1)).astype(kind)
    return colour


def enlarged(planes: Pixels, scale: int = 4) -> Pixels:
    return planes.repeat(scale, axis=1).repeat(scale, axis=2)


def finished(picture: Picture, upscaled: Pixels, size: tuple[int, int], *, lock: bool = False, band: int = 5) -> Pixels:
    layout = layout_of(picture, FORMATS["png"], height=size[0], width=size[1])
    finish = Postprocessor(picture, upscaled.shape[1] // picture.height, layout, colour_lock=lock)
    bands = [finish.rows(upscaled[:, top : top + band]) for top in range(0, upscaled.shape[1], band)]
    return numpy.concatenate(bands)


def blocks(colour: Pixels, side: int) -> NDArray[numpy.float64]:
    """Return mean colours of squares."""
    rows, columns = (length // side * side for length in colour.shape[:2])
    squares = colour[:rows, :columns].reshape(rows // side, side, columns // side, side, 3)
    means: NDArray[numpy.float64] = squares.astype(float).mean(axis=(1, 3))
    return means


def lab(colour: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """Convert sRGB in [0, 1] to CIE L*a*b*."""
    linear = numpy.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    matrix = numpy.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / matrix.sum(axis=1)
    f = numpy.where(xyz > 216 / 24389, numpy.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return numpy.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), axis=-1)


@pytest.mark.parametrize("bits", [8, 16])
def test_locked_colours_are_within_a_delta_e_of_1_of_the_upload(bits: int) -> None:
    colour = smooth(67, 90, bits=bits)
    picture = Picture(planes=colour[None], grey=False, bits=bits)
    drift = numpy.linspace(0, 0.06, 4 * 90)[:, None] * (1, 0.3, -1) * (2**bits - 1)
    upscaled = (enlarged(picture.planes) + drift).astype(colour.dtype)
    whole = 2**bits - 1

    def worst(pixels: Pixels) -> float:
        difference = lab(blocks(pixels, 32) / whole) - lab(blocks(colour, 8) / whole)
        return float(numpy.sqrt(numpy.square(difference).sum(axis=-1)).max())

    assert worst(finished(picture, upscaled, (268, 360))) > 5
    assert worst(finished(picture, upscaled, (268, 360), lock=True)) < 1


def test_locked_colours_keep_the_detail_of_the_network() -> None:
    picture = Picture(planes=smooth(40, 40)[None], grey=False, bits=8)
    detail = numpy.where(numpy.indices((160, 160)).sum(axis=0) % 2, 9, -9)[..., None]
    upscaled = (enlarged(picture.planes) + detail).astype(numpy.uint8)
    locked = finished(picture, upscaled, (160, 160), lock=True)
    assert numpy.abs(locked.astype(int) - upscaled[0]).max() <= 1


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    share=st.floats(0.25, 1),
    bits=st.sampled_from((8, 16)),
    lock=st.booleans(),
    transparent=st.booleans(),
)
def test_any_size_is_produced_exactly(
    height: int, width: int, share: float, bits: int, lock: bool, transparent: bool
) -> None:
    colour = smooth(height, width, bits=bits)
    planes = planes_of(colour, colour[..., 0]) if transparent else colour[None]
    picture = Picture(planes=planes, grey=False, bits=bits)
    size = (max(1, round(4 * share * height)), max(1, round(4 * share * width)))
    answer = finished(picture, enlarged(planes), size, lock=lock)
    assert answer.shape == (*size, 4 if transparent else 3)
    assert answer.dtype == colour.dtype


@pytest.mark.parametrize("bits", [8, 16])
def test_a_smaller_scale_keeps_local_means_and_does_not_alias(bits: int) -> None:
    picture = Picture(planes=smooth(32, 32, bits=bits)[None], grey=False, bits=bits)
    stripes = numpy.where(numpy.arange(128) % 2, 60, -60)[None, :, None] * (257 if bits == 16 else 1)
    upscaled = (enlarged(picture.planes) + stripes).astype(picture.planes.dtype)
    answer = finished(picture, upscaled, (32, 32))
    level = 257 if bits == 16 else 1
    inner = (slice(3, -3), slice(3, -3))
    assert numpy.abs(answer[inner].astype(int) - picture.planes[0][inner]).max() <= 6 * level


def test_hidden_colour_stays_out_of_a_resized_edge() -> None:
    colour = numpy.zeros((16, 16, 3), numpy.uint8)
    alpha = numpy.zeros((16, 16), numpy.uint8)
    colour[:, 8:], alpha[:, 8:] = 255, 255
    picture = Picture(planes=planes_of(colour, alpha), grey=False, bits=8)
    answer = finished(picture, enlarged(picture.planes), (24, 24))
    assert answer[answer[..., 3] > 0][:, :3].min() >= 250


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("form", ["png", "avif"])
@pytest.mark.parametrize("wraps", [False, True])
def test_colour_weighs_by_its_alpha_in_a_resize(bits: int, form: str, *, wraps: bool) -> None:
    """An opaque red object on a green screen that shines through its edge, on black and on white."""
    whole, size = 2**bits - 1, (16, 16)
    kind = numpy.uint8 if bits == 8 else numpy.uint16
    colour, alpha = numpy.zeros((64, 64, 3), kind), numpy.full((64, 64), whole, kind)
    colour[:, :33, 1], colour[:, 33:, 0] = 0.8 * whole, 0.8 * whole
    alpha[:, :33] = whole // 25
    picture = Picture(planes=planes_of(colour, alpha), grey=False, bits=bits)
    layout = layout_of(picture, FORMATS[form], height=16, width=16, bits=8)
    finish = Postprocessor(picture, 4, layout, wraps=wraps)
    answer = finish.rows(enlarged(picture.planes)).astype(float)[8, 4:-4]
    colours, opacity = answer[:, :3], answer[:, 3:] / 255
    share = alpha[..., None] / whole
    for background in (0, 255):
        shown = enlarged((colour / whole * 255 * share + background * (1 - share))[None].astype(numpy.float32))[0]
        bands = [Image.fromarray(shown[..., band]).resize(size, Image.Resampling.LANCZOS) for band in range(3)]
        expected = numpy.stack([numpy.asarray(band)[8, 4:-4] for band in bands], axis=-1)
        expected = expected.clip(shown.min((0, 1)), shown.max((0, 1)))  # alpha may not overshoot either
        assert numpy.abs(colours * opacity + background * (1 - opacity) - expected).max() <= 5


@pytest.mark.parametrize("share", [0.125, 0.2, 0.4, 0.5, 0.75])
def test_clear_stays_clear_and_solid_stays_solid_in_a_resize(share: float) -> None:
    alpha = numpy.zeros((40, 40), numpy.uint8)
    alpha[10:30, 10:30] = 255
    picture = Picture(planes=planes_of(numpy.full((40, 40, 3), 200, numpy.uint8), alpha), grey=False, bits=8)
    side = round(160 * share)
    opacity = finished(picture, enlarged(picture.planes), (side, side))[..., 3]
    first, last = side / 40 * 10, side / 40 * 30
    edge = max(1, side / 40) + 1
    inside = slice(int(first + edge), int(last - edge))
    assert (opacity[inside, inside] == 255).all()
    outside = opacity.copy()
    outside[int(first - edge) : int(last + edge) + 1, int(first - edge) : int(last + edge) + 1] = 0
    assert not outside.any()
    assert opacity.max() == 255


def test_a_resized_texture_of_many_slices_wraps() -> None:
    texture = Picture(planes=smooth(40, 30)[None], grey=False, bits=8)
    layout = layout_of(texture, FORMATS["png"], height=80, width=60)
    finish = Postprocessor(texture, 4, layout, wraps=True)
    assert finish.rows(enlarged(texture.planes)).shape == (80, 60, 3)
