from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.model.examples import textured
from training.data import read_picture
from training.degrade import enlarge_bicubic
from training.metrics import luma
from training.niqe import BLOCK_PX, niqe

# Expected numbers without another source are results of BasicSR's published NIQE for the same picture. It computes in
# float32, this in float64.
FLOAT32 = 1e-3


def with_a_flat_block() -> Tensor:
    picture = textured(192, 288)
    picture[:, :112, :112] = 128  # no window of the first block reaches past it
    return picture


def with_flat_halves() -> Tensor:
    picture = textured(192, 288)
    for left in (0, 96, 192):
        picture[..., left : left + 48] = 46  # a level whose local mean float64 cannot get exactly
    return picture


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (textured(192, 288), 8.12130),
        (textured(96, 192), 8.86264),  # two blocks are the fewest
        (with_a_flat_block(), 9.54102),  # it counts in the mean of some features, not in the covariance
        (with_flat_halves(), 18.92910),
    ],
    ids=["six blocks", "two blocks", "a flat block", "flat halves"],
)
def test_niqe_is_that_of_the_published_code(picture: Tensor, expected: float) -> None:
    assert niqe(picture) == pytest.approx(expected, abs=FLOAT32)


def test_the_border_does_not_count() -> None:
    picture = textured(210, 300)
    whole = niqe(picture, border=4)
    assert whole == pytest.approx(8.18026, abs=FLOAT32)
    picture[:, :4] = picture[:, -4:] = 0
    picture[:, :, :4] = picture[:, :, -4:] = 0
    assert niqe(picture, border=4) == whole
    assert niqe(picture, border=3) != whole


def test_what_follows_the_last_whole_block_does_not_count() -> None:
    picture = textured(191 + 96, 383)
    cropped = niqe(picture[:, :192, :288])
    assert niqe(picture) == cropped
    picture[:, 191, 287] ^= 255
    assert niqe(picture) != cropped


def test_only_luma_counts() -> None:
    picture = textured(96, 192)
    tinted = picture.clone()
    tinted[2] ^= 1  # one level of blue is a tenth of a level of Y, which is rounded
    tinted = torch.where(luma(tinted) == luma(picture), tinted, picture)
    assert not tinted.equal(picture)
    assert niqe(tinted) == niqe(picture)


@pytest.mark.parametrize(
    ("height", "width", "border", "blocks"), [(96, 191, 0, 1), (191, 191, 0, 1), (95, 960, 0, 0), (199, 96, 4, 0)]
)
def test_a_picture_of_fewer_than_two_blocks_is_refused(height: int, width: int, border: int, blocks: int) -> None:
    message = f"a picture of {width} x {height} px with a border of {border} px holds {blocks} whole blocks of 96 x 96"
    with pytest.raises(ValueError, match=message):
        niqe(textured(height, width), border=border)


def test_the_named_size_is_large_enough_with_any_border() -> None:
    side = 2 * BLOCK_PX + 8
    assert niqe(textured(side, side), border=4) > 0


def test_a_border_wider_than_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="holds 0 whole blocks"):
        niqe(textured(192, 192), border=150)


@pytest.mark.parametrize("level", [0, 1, 77, 200, 255])
def test_a_flat_picture_has_no_statistics(level: int) -> None:
    with pytest.raises(ValueError, match="0 of 4 blocks have texture; NIQE needs 2"):
        niqe(torch.full((3, 192, 192), level, dtype=torch.uint8))


def test_niqe_of_baboon_is_that_of_matlab(shared_folder: Path) -> None:
    # BasicSR's documentation: 5.72957338 in MATLAB R2021a.
    picture = read_picture(shared_folder / "bench" / "Set14" / "HR" / "baboon.png")
    assert niqe(picture) == pytest.approx(5.729573, abs=1e-4)


@pytest.mark.parametrize("name", ["baboon", "lenna", "zebra"])
def test_a_photograph_is_more_natural_than_its_bicubic_enlargement(shared_folder: Path, name: str) -> None:
    folder = shared_folder / "bench" / "Set14"
    enlarged = enlarge_bicubic(read_picture(folder / "LRbicX4" / f"{name}.png"), 4)
    assert niqe(read_picture(folder / "HR" / f"{name}.png"), border=4) + 0.5 < niqe(enlarged, border=4)
