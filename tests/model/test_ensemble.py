"""The mean of a picture's eight turns."""

from collections.abc import Iterator, Sequence

import numpy
import pytest
import torch

from model.edges import Edges
from model.ensemble import ORIENTATIONS, ensemble_batch, ensemble_stream
from model.rrdb import RRDBConfig, RRDBNet
from model.transfer import Pixels
from model.upscaler import Upscaler
from tests.model.examples import random_net

CONFIG = RRDBConfig(channels=8, blocks=1, growth=4, scale=2)
DEPTHS = [numpy.uint8, numpy.uint16]
Depth = type[numpy.uint8 | numpy.uint16]


class Nearest:
    """A network that commutes with turns and mirrors."""

    def batch(self, pictures: Sequence[Pixels], edges: Edges = "auto") -> Sequence[Pixels]:
        return [picture.repeat(2, axis=1).repeat(2, axis=2) for picture in pictures]

    def stream(self, picture: Pixels, band_rows: int, *, edges: Edges = "auto") -> Iterator[Pixels]:
        for top in range(0, picture.shape[1], band_rows):
            yield from self.batch([picture[:, top : top + band_rows]])


@pytest.fixture(scope="module")
def net() -> RRDBNet:
    return random_net(CONFIG)


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler(random_net(CONFIG), torch.device("cpu"), torch.float32, margin_px=0)


def noise(height: int, width: int, depth: Depth = numpy.uint8, planes: int = 1) -> Pixels:
    levels = numpy.random.default_rng(height).integers(0, numpy.iinfo(depth).max + 1, (planes, height, width, 3))
    made: Pixels = levels.astype(depth)
    return made


def streamed(upscaler: Upscaler | Nearest, picture: Pixels, band_px: int = 60) -> Pixels:
    made: Pixels = numpy.concatenate(list(ensemble_stream(upscaler, picture, scale=2, band_px=band_px)), axis=1)
    return made


def reference(net: RRDBNet, picture: Pixels) -> Pixels:
    """The mean in floating point, of runs that PyTorch has turned."""
    most = int(numpy.iinfo(picture.dtype).max)
    low_res = torch.from_numpy(picture.astype(numpy.float32) / most).permute(0, 3, 1, 2)
    runs = [
        torch.rot90(made.flip(3) if flipped else made, quarters, (2, 3))
        for flipped in (False, True)
        for quarters in range(4)
        for made in [_run(net, torch.rot90(low_res, -quarters, (2, 3)), flipped=flipped)]
    ]
    mean: Pixels = (torch.stack(runs).mean(0) * most).round().permute(0, 2, 3, 1).numpy().astype(picture.dtype)
    return mean


def _run(net: RRDBNet, low_res: torch.Tensor, *, flipped: bool) -> torch.Tensor:
    upscaled = net(low_res.flip(3) if flipped else low_res).clamp(0, 1)
    assert isinstance(upscaled, torch.Tensor)
    return upscaled


def test_the_turns_are_eight_different_ones() -> None:
    picture = numpy.arange(27).reshape(1, 3, 3, 3)
    assert len({turn.of(picture).tobytes() for turn in ORIENTATIONS}) == 8
    assert (ORIENTATIONS[0].of(picture) == picture).all()


@pytest.mark.parametrize("depth", DEPTHS)
def test_it_is_the_mean_of_eight_turned_runs(net: RRDBNet, upscaler: Upscaler, depth: Depth) -> None:
    picture = noise(11, 7, depth, planes=2)
    (made,) = ensemble_batch(upscaler, [picture])
    expected = reference(net, picture)
    assert (made.dtype, made.shape) == (picture.dtype, (2, 22, 14, 3))
    assert numpy.abs(made.astype(int) - expected).max() <= 1
    assert (made != expected).mean() < (0.01 if depth is numpy.uint8 else 0.5)  # rounded once, not nine times
    (single,) = upscaler.batch([picture])
    assert numpy.abs(single.astype(int) - expected).max() > 1


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("band_px", [1, 60, 10_000])
def test_a_stream_makes_what_a_batch_makes(upscaler: Upscaler, depth: Depth, band_px: int) -> None:
    picture = noise(9, 14, depth, planes=2)
    (whole,) = ensemble_batch(upscaler, [picture])
    assert numpy.abs(streamed(upscaler, picture, band_px).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_ensemble_of_a_symmetric_network_is_exactly_its_own_result(depth: Depth) -> None:
    pictures = [noise(5, 9, depth), noise(1, 1, depth), noise(9, 5, depth, planes=2)]
    for made, picture, alone in zip(
        ensemble_batch(Nearest(), pictures), pictures, Nearest().batch(pictures), strict=True
    ):
        assert made.dtype == picture.dtype
        assert (made == alone).all()
        assert (streamed(Nearest(), picture) == alone).all()


def test_a_symmetric_picture_stays_symmetric(upscaler: Upscaler) -> None:
    corner = noise(6, 6)
    corner = corner // 2 + corner.swapaxes(1, 2) // 2
    half = numpy.concatenate((corner, corner[:, ::-1]), axis=1)
    picture = numpy.concatenate((half, half[:, :, ::-1]), axis=2)
    (single,) = upscaler.batch([picture])
    assert (single != single[:, ::-1]).any()
    for made in (ensemble_batch(upscaler, [picture])[0], streamed(upscaler, picture)):
        for turn in ORIENTATIONS:
            assert numpy.abs(turn.of(made).astype(int) - made).max() <= 1


def test_rows_come_with_the_last_of_the_turns_and_bands_hold_no_more_than_asked_for() -> None:
    seen: list[int] = []

    class Watched(Nearest):
        def stream(self, picture: Pixels, band_rows: int, *, edges: Edges = "auto") -> Iterator[Pixels]:
            seen.append(band_rows * picture.shape[2])
            return super().stream(picture, band_rows, edges=edges)

    rows = [made.shape[1] for made in ensemble_stream(Watched(), noise(10, 20), scale=2, band_px=40)]
    assert rows == [0] * (3 * 5 + 4 * 5) + [4] * 5
    assert seen == [40] * 8
