"""Colour profiles: which are kept, and the meaning of those made for other channels."""

import io

import numpy
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from app.pictures.icc import Space, adobe_rgb, profile_for, space_of, usable_profile
from tests.app.pictures.files import SRGB_PROFILE

GREY_PROFILE = profile_for(b"GRAY", adobe_rgb()) or b""
P3_PROFILE: bytes = pyvips.Operation.call("profile_load", "p3")
CMYK_PROFILE: bytes = pyvips.Operation.call("profile_load", "cmyk")
RAMP = numpy.arange(256, dtype=numpy.uint8)[None]


def in_srgb(levels: NDArray[numpy.uint8], profile: bytes) -> NDArray[numpy.int_]:
    """Convert levels to sRGB with Little CMS."""
    shown = ImageCms.profileToProfile(
        Image.fromarray(levels),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    return numpy.asarray(shown).astype(int)


@pytest.mark.parametrize("profile", [SRGB_PROFILE, P3_PROFILE, adobe_rgb(), GREY_PROFILE])
def test_a_valid_profile_is_kept_unchanged(profile: bytes) -> None:
    assert usable_profile(profile) == profile
    assert usable_profile(profile + b"padding") == profile


@pytest.mark.parametrize(
    "data",
    [
        None,
        "a text",
        b"",
        b"not a profile",
        bytes(200),
        SRGB_PROFILE[:-1],
        SRGB_PROFILE[:128],
        bytes(4) + SRGB_PROFILE[4:],
        SRGB_PROFILE[:36] + b"ascp" + SRGB_PROFILE[40:],
        SRGB_PROFILE[:12] + b"link" + SRGB_PROFILE[16:],
        SRGB_PROFILE[:16] + b"GRAY" + SRGB_PROFILE[20:],
        SRGB_PROFILE[:20] + b"RGB " + SRGB_PROFILE[24:],
        SRGB_PROFILE[:128] + b"\xff\xff\xff\xff" + SRGB_PROFILE[132:],
        SRGB_PROFILE[:128] + bytes(4) + SRGB_PROFILE[132:],
        SRGB_PROFILE[:136] + b"\xff\xff\xff\xff" + SRGB_PROFILE[140:],
        CMYK_PROFILE,
    ],
)
def test_a_profile_for_other_spaces_than_grey_and_rgb_is_dropped(data: object) -> None:
    assert usable_profile(data) is None


def test_adobe_rgb_means_what_its_definition_says() -> None:
    levels = numpy.random.default_rng(0).integers(64, 192, (20, 20, 3), dtype=numpy.uint8)
    to_xyz = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    to_srgb = [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    light = ((levels / 255) ** (563 / 256)) @ numpy.array(to_xyz).T @ numpy.array(to_srgb).T
    light = light.clip(0, 1)
    expected = 255 * numpy.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert numpy.abs(in_srgb(levels, adobe_rgb()) - expected).max() <= 1.5
    assert numpy.abs(in_srgb(levels, adobe_rgb()) - levels).max() > 10


@pytest.mark.parametrize("profile", [SRGB_PROFILE, P3_PROFILE, adobe_rgb()])
def test_a_grey_level_means_what_three_equal_levels_mean(profile: bytes) -> None:
    made = profile_for(b"GRAY", profile)
    assert made
    assert usable_profile(made) == made
    assert space_of(made) == b"GRAY"
    assert numpy.abs(in_srgb(RAMP, made) - in_srgb(RAMP[..., None].repeat(3, axis=-1), profile)).max() <= 1


def test_three_equal_levels_mean_what_the_grey_level_means() -> None:
    made = profile_for(b"RGB ", GREY_PROFILE)
    assert made
    assert usable_profile(made) == made
    assert space_of(made) == b"RGB "
    assert numpy.abs(in_srgb(RAMP[..., None].repeat(3, axis=-1), made) - in_srgb(RAMP, GREY_PROFILE)).max() <= 1


@pytest.mark.parametrize("profile", [SRGB_PROFILE, GREY_PROFILE])
def test_a_profile_for_the_same_channels_is_kept_byte_for_byte(profile: bytes) -> None:
    space = space_of(profile)
    assert profile_for(b"GRAY" if space == b"GRAY" else b"RGB ", profile) == profile


def test_a_profile_with_different_tone_curves_has_no_grey_equivalent() -> None:
    blue = SRGB_PROFILE.index(b"bTRC")
    other = SRGB_PROFILE[: blue + 4] + SRGB_PROFILE[SRGB_PROFILE.index(b"wtpt") + 4 :][:8] + SRGB_PROFILE[blue + 12 :]
    assert usable_profile(other) == other
    assert profile_for(b"GRAY", other) is None


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([SRGB_PROFILE, GREY_PROFILE]),
    st.lists(st.tuples(st.integers(0, 299), st.integers(0, 255)), max_size=6),
    st.integers(0, 700),
)
def test_arbitrary_damage_is_handled(profile: bytes, damage: list[tuple[int, int]], kept: int) -> None:
    data = bytearray(profile)
    for at, value in damage:
        data[at] = value
    sound = usable_profile(bytes(data[:kept]))
    if sound:
        assert space_of(sound) in (b"GRAY", b"RGB ")
        spaces: list[Space] = [b"GRAY", b"RGB "]
        for space in spaces:
            made = profile_for(space, sound)
            assert made is None or space_of(usable_profile(made) or b"") == space
