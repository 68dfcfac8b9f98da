import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy
import pytest
import torch

from model.upscaler import Upscaler
from tests.model.examples import random_net, textured
from tests.training.photographs import made_pair, save
from training.colour import colour_shift
from training.data import DataError
from training.degrade import enlarge_bicubic
from training.evaluate import (
    USUAL_MEASURES,
    Scores,
    SetScores,
    as_service,
    bicubic,
    evaluate,
    mean,
    min_measured_px,
    pairs_to_measure,
    picture_table,
    summary_table,
)
from training.evaluate import (
    save as save_results,
)
from training.lpips import LPIPS
from training.measures import MEASURES, measured
from training.metrics import psnr_y, ssim_y
from training.niqe import niqe

ONE = Scores(psnr_y=30.0, ssim_y=0.9, lpips=0.25, niqe=None, colour_shift=0.5)
TWO = Scores(psnr_y=33.004, ssim_y=0.7, lpips=0.35, niqe=4.0, colour_shift=1.5)
BARE = Scores(psnr_y=20.0, ssim_y=0.5, lpips=None, niqe=None, colour_shift=0.0)
TABLED = ("psnr_y", "ssim_y", "lpips", "niqe", "colour_shift")
RESULTS = [
    SetScores(set="Set5", generator="bicubic", measures=TABLED, pictures={"baby": BARE}),
    SetScores(set="Set5", generator="tiny", measures=TABLED, pictures={"baby": ONE, "bird": TWO}),
]


@pytest.fixture(scope="module")
def lpips() -> LPIPS:
    """LPIPS with random weights: its values mean nothing, but have to be reported."""
    chance = torch.Generator().manual_seed(0)
    metric = LPIPS()
    for weight in metric.parameters():
        weight.copy_(torch.rand(weight.shape, generator=chance) / max(1, weight[0].numel()))
    return metric


def test_a_picture_that_cannot_be_read_stops_a_measurement(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"a\.png: cannot be read"):
        list(pairs_to_measure(tmp_path, 4))


def test_the_scores_of_a_picture_are_what_each_metric_gives(lpips: LPIPS) -> None:
    pair = made_pair(1, height=208, width=224, scale=4)
    upscaled = enlarge_bicubic(pair.low_res, 4)
    assert measured(upscaled, pair, MEASURES, lpips) == {
        "psnr_y": psnr_y(upscaled, pair.high_res, border=4),
        "ssim_y": ssim_y(upscaled, pair.high_res, border=4),
        "lpips": lpips.distance(upscaled, pair.high_res),
        "niqe": niqe(upscaled, border=4),
        "colour_shift": colour_shift(upscaled, pair.low_res),
    }


def test_a_picture_too_small_for_niqe_has_none() -> None:
    small = made_pair(1, height=96, width=196, scale=4)  # 88 x 188 px within the border
    assert measured(small.high_res, small, ["niqe"]) == {}


def test_measures_that_are_not_asked_for_are_not_taken(lpips: LPIPS) -> None:
    pair = made_pair(1, height=208, width=224, scale=4)
    upscaled = enlarge_bicubic(pair.low_res, 4)
    whole = measured(upscaled, pair, MEASURES, lpips)
    assert measured(upscaled, pair, ["lpips"], lpips) == {"lpips": whole.pop("lpips")}
    assert measured(upscaled, pair, ["niqe"]) == {"niqe": whole.pop("niqe")}
    assert measured(upscaled, pair, USUAL_MEASURES) == whole


def test_without_alexnet_there_is_no_column_for_lpips() -> None:
    (result,) = evaluate("made", [made_pair(1, scale=4)], {"bicubic": bicubic(4)})
    assert result.measures == ("psnr_y", "ssim_y", "colour_shift")
    assert "LPIPS" not in summary_table([result])


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_the_smallest_picture_that_is_measured_has_every_usual_measure(
    scale: int, tmp_path: Path, lpips: LPIPS
) -> None:
    side = min_measured_px(scale)
    save(textured(side, side), tmp_path / "a.png")
    (pair,) = pairs_to_measure(tmp_path, scale)
    ((one,),) = (r.pictures.values() for r in evaluate("a", [pair], {"bicubic": bicubic(scale)}, USUAL_MEASURES, lpips))
    assert None not in (one.psnr_y, one.ssim_y, one.lpips, one.colour_shift)
    save(textured(side - 1, 200), tmp_path / "a.png")
    with pytest.raises(DataError, match=rf"px is less than {side} px a side"):
        list(pairs_to_measure(tmp_path, scale))


def test_every_generator_upscales_every_picture() -> None:
    pairs = [replace(made_pair(seed, scale=4), name=name) for seed, name in enumerate(("a", "b"))]
    results = evaluate("made", iter(pairs), {"bicubic": bicubic(4), "zero": lambda low: 0 * bicubic(4)(low)})
    assert [(result.set, result.generator, list(result.pictures)) for result in results] == [
        ("made", "bicubic", ["a", "b"]),
        ("made", "zero", ["a", "b"]),
    ]
    for pair in pairs:
        for result, upscaled in zip(results, (enlarge_bicubic(pair.low_res, 4), 0 * pair.high_res), strict=True):
            assert result.pictures[pair.name] == Scores(**measured(upscaled, pair, USUAL_MEASURES))


def test_two_pictures_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="made 1"):
        evaluate("made", [made_pair(1, scale=4), made_pair(1, scale=4)], {"bicubic": bicubic(4)})


def test_a_generator_is_measured_on_what_the_service_would_answer() -> None:
    upscaler = Upscaler(random_net(), torch.device("cpu"))
    picture = textured(10, 13)
    pixels = upscaler.upscale(numpy.ascontiguousarray(picture.permute(1, 2, 0)[None].numpy()))
    assert torch.equal(as_service(upscaler)(picture), torch.from_numpy(pixels)[0].permute(2, 0, 1))


def test_the_mean_of_a_set_is_that_of_its_pictures() -> None:
    average = mean([ONE, TWO])
    assert average.psnr_y == pytest.approx(31.502)
    assert average.ssim_y == pytest.approx(0.8)
    assert average.lpips == pytest.approx(0.3)
    assert average.colour_shift == pytest.approx(1.0)
    assert RESULTS[1].mean == average


def test_a_mean_is_that_of_the_pictures_that_have_the_measure() -> None:
    average = mean([ONE, TWO, BARE])
    assert average.niqe == 4.0
    assert average.lpips == pytest.approx(0.3)


def test_a_measure_that_no_picture_has_has_no_mean() -> None:
    assert mean([ONE, BARE]).niqe is None


def test_the_table_of_a_set_has_a_line_for_each_picture_and_the_mean() -> None:
    assert picture_table(RESULTS[1]).splitlines() == [
        "### Set5, tiny",
        "",
        "| picture  | PSNR-Y | SSIM-Y |  LPIPS | NIQE | colour shift |",
        "| -------- | -----: | -----: | -----: | ---: | -----------: |",
        "| baby     |  30.00 | 0.9000 | 0.2500 |      |         0.50 |",
        "| bird     |  33.00 | 0.7000 | 0.3500 | 4.00 |         1.50 |",
        "| **mean** |  31.50 | 0.8000 | 0.3000 | 4.00 |         1.00 |",
    ]


def test_the_summary_has_a_line_for_each_set_and_generator() -> None:
    assert summary_table(RESULTS).splitlines() == [
        "| set  | generator | PSNR-Y | SSIM-Y |  LPIPS | NIQE | colour shift |",
        "| ---- | --------- | -----: | -----: | -----: | ---: | -----------: |",
        "| Set5 | bicubic   |  20.00 | 0.5000 |        |      |         0.00 |",
        "| Set5 | tiny      |  31.50 | 0.8000 | 0.3000 | 4.00 |         1.00 |",
    ]


def test_the_tables_are_saved_with_the_summary_first(tmp_path: Path) -> None:
    tables, _ = save_results(RESULTS, tmp_path / "deep" / "scores")
    assert tables == tmp_path / "deep" / "scores.md"
    parts = [summary_table(RESULTS), *map(picture_table, RESULTS)]
    assert tables.read_text() == "\n\n".join(parts) + "\n"


def test_the_numbers_are_saved_unrounded_with_their_means(tmp_path: Path) -> None:
    _, numbers = save_results(RESULTS, tmp_path / "scores")
    assert numbers == tmp_path / "scores.json"
    read = json.loads(numbers.read_text())
    assert [(one["set"], one["generator"]) for one in read] == [("Set5", "bicubic"), ("Set5", "tiny")]
    assert read[1]["pictures"] == {"baby": asdict(ONE), "bird": asdict(TWO)}
    assert Scores(**read[1]["mean"]) == RESULTS[1].mean
