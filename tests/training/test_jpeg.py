import math
from io import BytesIO

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.model.examples import textured
from training.jpeg import _CHROMINANCE_STEPS, _LUMINANCE_STEPS, quantisation_steps, simulate_jpeg


def jpeg_file(picture: Tensor, quality: int) -> BytesIO:
    """Encode uint8 RGB (3, H, W) by Pillow, which uses libjpeg-turbo."""
    file = BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(file, "JPEG", quality=quality, subsampling=2)
    return file


def through_pillow(picture: Tensor, quality: int) -> Tensor:
    with Image.open(jpeg_file(picture, quality)) as image:
        return torch.from_numpy(numpy.array(image)).permute(2, 0, 1).float()


def simulated(picture: Tensor, quality: int) -> Tensor:
    """One uint8 picture through the simulation, in levels."""
    return (simulate_jpeg(picture[None] / 255, torch.tensor([float(quality)]))[0] * 255).round()


def wave(amplitude: float, *, across: bool) -> Tensor:
    """Grey 16 x 16 px: the highest horizontal frequency of a block, or vertical if not `across`."""
    row = 128 + amplitude * torch.cos((2 * torch.arange(16) + 1) * 7 * math.pi / 16)
    rows = row.round().to(torch.uint8).expand(3, 16, 16)
    return rows if across else rows.transpose(1, 2)


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
@pytest.mark.parametrize(("height", "width"), [(96, 128), (77, 93), (17, 16), (9, 11)])
def test_the_result_is_that_of_a_real_encoder_within_half_a_level(height: int, width: int, quality: int) -> None:
    picture = textured(height, width)
    real = through_pillow(picture, quality)
    assert (real - picture).abs().mean() > 5  # there is something to get wrong
    assert (simulated(picture, quality) - real).abs().mean() < 0.5


@pytest.mark.parametrize("quality", range(1, 101, 3))
def test_the_quantisation_tables_are_those_that_a_real_encoder_writes(quality: int) -> None:
    with Image.open(jpeg_file(textured(16, 16), quality)) as image:
        written: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]  # only a JPEG has it
    for table, base in enumerate((_LUMINANCE_STEPS, _CHROMINANCE_STEPS)):
        steps = quantisation_steps(torch.tensor(base, dtype=torch.float32), torch.tensor([float(quality)]))
        assert steps[0].tolist() == written[table]


def test_a_wave_below_half_a_step_vanishes_and_one_above_becomes_a_whole_step() -> None:
    # A wave of amplitude a has one coefficient, a * 4 * sqrt(2); at quality 50 its step is 61 across and 72 down.
    assert (simulated(wave(6, across=False), 50) == 128).all()
    survivor = simulated(wave(6, across=True), 50)
    assert (survivor - wave(61 / (4 * math.sqrt(2)), across=True)).abs().max() <= 1


def test_a_block_does_not_touch_its_neighbours() -> None:
    picture = torch.full((3, 24, 24), 128, dtype=torch.uint8)
    picture[:, 8:16, 8:16] = textured(8, 8)[:1]
    changed = (simulated(picture, 30) != 128).any(dim=0)
    assert changed[8:16, 8:16].any()
    changed[8:16, 8:16] = False
    assert not changed.any()


def test_colour_loses_its_single_pixels_and_brightness_does_not() -> None:
    stripes = torch.zeros(3, 16, 16, dtype=torch.uint8)
    stripes[2, :, ::2] = 255  # blue is hardly brightness
    blue = simulated(stripes, 100)[2]
    grey = simulated(stripes[2:].expand(3, -1, -1).contiguous(), 100)[2]
    assert (blue[:, ::2] - blue[:, 1::2]).mean() < 60
    assert (grey[:, ::2] - grey[:, 1::2]).mean() > 250


@pytest.mark.parametrize("level", [0, 77, 128, 255])
def test_a_flat_grey_stays_within_half_a_step(level: int) -> None:
    flat = torch.full((3, 20, 20), level, dtype=torch.uint8)
    assert (simulated(flat, 50) - level).abs().max() <= 1  # the step of a block's sum is 16, that of its mean 2


def test_each_picture_has_its_own_quality() -> None:
    picture = textured(32, 32)
    both = simulate_jpeg(torch.stack([picture, picture]) / 255, torch.tensor([30.0, 90.0]))
    assert torch.equal((both[0] * 255).round(), simulated(picture, 30))
    assert torch.equal((both[1] * 255).round(), simulated(picture, 90))


def test_less_quality_is_more_loss() -> None:
    picture = textured(64, 64)
    losses = [(simulated(picture, quality) - picture).abs().mean().item() for quality in (5, 30, 60, 95)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 2 * losses[-1]


def test_what_lies_between_or_beyond_the_levels_of_a_file_is_rounded_and_clamped() -> None:
    pictures = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    quality = torch.tensor([40.0, 80.0])
    result = simulate_jpeg(pictures, quality)
    assert torch.equal(result, (result * 255).round() / 255)
    assert result.min() >= 0
    assert result.max() <= 1
    assert torch.equal(result, simulate_jpeg((pictures.clamp(0, 1) * 255).round() / 255, quality))
