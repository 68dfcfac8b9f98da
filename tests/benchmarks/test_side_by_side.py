"""Crops of real pictures, side by side."""

import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

from app.settings import SHIPPED_MODELS
from benchmarks.side_by_side import GAP_PX, main

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


@pytest.mark.parametrize(
    ("crop", "complaint"),
    [
        *(
            (f"photo.png:{numbers}", f"{numbers} is not inside photo.png, which has 60 x 40 px")
            for numbers in ("50,0,20,10", "0,35,10,10", "-1,0,10,10", "0,0,0,10")
        ),
        *((text, f"{text!r} is not PHOTO:LEFT,TOP,WIDTH,HEIGHT") for text in ("photo.png", "photo.png:1,2,3", "a:b")),
        ("none.png:0,0,9,9", "none.png cannot be read ("),
    ],
)
def test_a_crop_that_cannot_be_cut_is_refused_with_the_reason(
    crop: str, complaint: str, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photo.parent)
    monkeypatch.setattr(sys, "argv", ["side_by_side", "--out", "out.png", crop])
    with pytest.raises(SystemExit):
        main()
    assert f"argument CROP: {complaint}" in capsys.readouterr().err
