"""Crops of real pictures, side by side."""

import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

from app.settings import SHIPPED_MODELS
from benchmarks.side_by_side import GAP_PX, main, parse_crop

GENERATOR = SHIPPED_MODELS / "compact-real-psnr-x4.safetensors"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    ramp = numpy.linspace(0, 255, 60 * 40 * 3).reshape(40, 60, 3).astype(numpy.uint8)
    Image.fromarray(ramp).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_each_crop_is_a_row_of_bicubic_and_the_generators(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.png"
    crops = [f"{photo}:8,4,20,10", f"{photo}:30,20,20,12"]
    weights = [str(GENERATOR), str(GENERATOR)]
    monkeypatch.setattr(sys, "argv", ["side_by_side", *crops, "--out", str(out), "--weights", *weights])
    main()
    with Image.open(out) as made, Image.open(photo) as image:
        pixels = numpy.asarray(made).astype(int)
        bicubic = image.resize((240, 160), Image.Resampling.BICUBIC).crop((32, 16, 112, 56))
    assert pixels.shape == ((10 + 12) * 4 + GAP_PX, 3 * 80 + 2 * GAP_PX, 3)
    assert (pixels[40 : 40 + GAP_PX] == 255).all()
    assert abs(pixels[:40, :80] - numpy.asarray(bicubic)).max() <= 1
    first, second = pixels[:40, 84:164], pixels[:40, 168:248]
    assert (first == second).all()
    assert abs(first - pixels[:40, :80]).mean() < 12  # the same piece of the picture


@pytest.mark.parametrize("numbers", ["50,0,20,10", "0,35,10,10", "-1,0,10,10", "0,0,0,10"])
def test_a_crop_outside_the_photo_is_refused(photo: Path, numbers: str) -> None:
    with pytest.raises(ValueError, match=f"{numbers} is not inside .*photo.png, which has 60 x 40 px"):
        parse_crop(f"{photo}:{numbers}")
