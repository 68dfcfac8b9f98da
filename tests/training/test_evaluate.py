from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.upscaler import Upscaler
from tests.model.examples import random_net, textured
from training.data import DataError, Pair
from training.degrade import enlarge_bicubic, shrink_bicubic
from training.evaluate import Scores, benchmark_pairs, evaluate, mean, table
from training.metrics import psnr_y, ssim_y

ONE = Scores(name="one", psnr_y=30.0, ssim_y=0.9, bicubic_psnr_y=28.0, bicubic_ssim_y=0.8)
TWO = Scores(name="two", psnr_y=33.004, ssim_y=0.7, bicubic_psnr_y=26.0, bicubic_ssim_y=0.6)


def save(picture: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)


def test_a_benchmark_folder_gives_its_own_low_res_pictures(tmp_path: Path) -> None:
    high_res, low_res = textured(33, 41), textured(8, 10, seed=1)
    save(high_res, tmp_path / "HR" / "a.png")
    save(low_res, tmp_path / "LRbicX4" / "a.png")
    (pair,) = benchmark_pairs(tmp_path, 4)
    assert pair.name == "a"
    assert torch.equal(pair.low_res, low_res)
    assert torch.equal(pair.high_res, high_res[:, :32, :40])


def test_a_plain_folder_gives_its_pictures_reduced(tmp_path: Path) -> None:
    save(textured(32, 40), tmp_path / "a.png")
    (pair,) = benchmark_pairs(tmp_path, 4)
    assert torch.equal(pair.low_res, shrink_bicubic(textured(32, 40), 4))


def test_a_low_res_picture_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    save(textured(32, 40), tmp_path / "HR" / "a.png")
    save(textured(8, 9), tmp_path / "LRbicX4" / "a.png")
    with pytest.raises(DataError, match=r"a\.png: the picture in LRbicX4 is not 4 times smaller"):
        list(benchmark_pairs(tmp_path, 4))


def test_a_picture_that_cannot_be_read_stops_a_measurement(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"a\.png: cannot be read"):
        list(benchmark_pairs(tmp_path, 4))


def test_scores_compare_what_the_service_makes_with_the_truth_and_with_bicubic() -> None:
    upscaler = Upscaler(random_net(), torch.device("cpu"), torch.float32)
    high_res = textured(48, 64)
    pair = Pair("made", shrink_bicubic(high_res, 4), high_res)
    (scores,) = evaluate(upscaler, [pair])
    pixels = upscaler.upscale(numpy.ascontiguousarray(pair.low_res.permute(1, 2, 0)[None].numpy()))
    upscaled = torch.from_numpy(pixels)[0].permute(2, 0, 1)
    bicubic = enlarge_bicubic(pair.low_res, 4)
    assert scores == Scores(
        name="made",
        psnr_y=psnr_y(upscaled, high_res, border=4),
        ssim_y=ssim_y(upscaled, high_res, border=4),
        bicubic_psnr_y=psnr_y(bicubic, high_res, border=4),
        bicubic_ssim_y=ssim_y(bicubic, high_res, border=4),
    )


def test_the_mean_of_a_set_is_that_of_its_pictures() -> None:
    average = mean("set", [ONE, TWO])
    assert average.name == "set"
    assert average.psnr_y == pytest.approx(31.502)
    assert average.ssim_y == pytest.approx(0.8)
    assert average.bicubic_psnr_y == pytest.approx(27)
    assert average.bicubic_ssim_y == pytest.approx(0.7)


def test_the_table_has_a_line_for_each_picture() -> None:
    assert table([ONE, TWO]).splitlines() == [
        "| picture | PSNR-Y | bicubic | SSIM-Y | bicubic |",
        "|---|---|---|---|---|",
        "| one | 30.00 | 28.00 | 0.9000 | 0.8000 |",
        "| two | 33.00 | 26.00 | 0.7000 | 0.6000 |",
    ]
