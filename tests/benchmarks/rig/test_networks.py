"""Networks to measure: their files, their pictures and their graph."""

import argparse
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rig.networks import add_network_options, chosen_network, published_models, write_models
from benchmarks.rig.peaks import dense_convolutions
from benchmarks.rig.pictures import smooth_noise, square
from benchmarks.rig.timing import Case, medians_s
from model.export.ncnn_pair import write_generator
from model.files.checkpoint import read_checkpoint
from model.rrdb import RRDBConfig, RRDBNet


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_network_options(parser)
    return parser.parse_args(arguments)


def test_without_options_the_shipped_network_is_measured() -> None:
    assert chosen_network(options()).name == "compact-psnr-x4"


def test_an_unpublished_size_gets_the_same_random_weights_each_time() -> None:
    first, second = (chosen_network(options("--network", "1")) for _ in range(2))
    assert first.name == "random-1-blocks"
    assert all(map(torch.equal, first.net.parameters(), second.net.parameters()))


def test_the_chosen_network_is_written_as_a_file_that_serves(tmp_path: Path) -> None:
    network = write_models(options("--network", "1"), tmp_path)
    (path,) = tmp_path.iterdir()
    checkpoint = read_checkpoint(path)
    assert checkpoint.card.name == network.name
    assert all(map(torch.equal, checkpoint.net.parameters(), network.net.parameters()))


def test_the_graph_written_for_ncnn_is_as_large_as_the_published_one(tmp_path: Path) -> None:
    with torch.device("meta"):
        meta = RRDBNet(RRDBConfig(channels=64, blocks=23, growth=32, scale=4))
    param, _ = write_generator(meta.to_empty(device="cpu"), tmp_path)
    published = published_models() / "realesrgan-x4plus.param"
    assert param.read_text().splitlines()[:2] == published.read_text().splitlines()[:2]


def test_the_trunks_convolutions_have_the_flop_that_they_are_said_to_have() -> None:
    config = RRDBConfig(channels=8, blocks=2, growth=4, scale=4)
    run, flop = dense_convolutions(config, torch.device("cpu"), torch.float32, band_rows=4, height=10, width=6)
    with FlopCounterMode(display=False) as counted:
        run()
    assert counted.get_total_flops() == flop


@pytest.mark.parametrize("warm_ups", [1, 2])
def test_cases_run_in_turns_and_the_first_rounds_do_not_count(warm_ups: int) -> None:
    ran: list[str] = []
    cases = {name: Case(run=lambda name=name: ran.append(name)) for name in ("a", "b")}  # type: ignore[misc]  # mypy does not infer lambdas with defaults
    slow_s = iter([0.0, 9.0] * 2 * warm_ups + [0.0, 1.0] * 4)
    assert medians_s(cases, rounds=2, warm_ups=warm_ups, clock=lambda: next(slow_s)) == {"a": 1, "b": 1}
    assert ran == ["a", "b"] * (2 + warm_ups)


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_is_a_picture_of_the_size_asked_for(seed: int) -> None:
    picture = smooth_noise(5, 70, seed)
    assert picture.shape == (1, 5, 70, 3)
    assert picture.std() > 20


def test_the_middle_of_a_photograph_is_measured(tmp_path: Path) -> None:
    picture = smooth_noise(9, 11)
    Image.fromarray(picture[0]).save(tmp_path / "photo.png")
    assert (square(tmp_path / "photo.png", 5) == picture[:, 2:7, 3:8]).all()
    with pytest.raises(ValueError, match="11 x 9 px, fewer than 10 x 10"):
        square(tmp_path / "photo.png", 10)
