"""`edges="wrap"`: pictures whose opposite edges meet, whole, as streams, in ensembles and in tiles."""

import copy
from collections.abc import Iterator

import numpy
import pytest
import torch

from model.edges import Edges
from model.ensemble import ensemble_batch, ensemble_stream
from model.pipeline import reach_rows
from model.rrdb import RRDBConfig, RRDBNet
from model.streaming import rows_before, upscale_rows
from model.transfer import Pixels
from model.upscaler import Upscaler
from tests.model.examples import random_net

CPU = torch.device("cpu")

CONFIGS = (
    RRDBConfig(channels=8, blocks=2, growth=4, scale=4),
    RRDBConfig(channels=8, blocks=1, growth=4, scale=3, padding_mode="replicate"),
    RRDBConfig(channels=6, blocks=1, growth=4, scale=2, inputs=1),
    RRDBConfig(channels=6, blocks=1, growth=4, scale=2, unshuffle=2, padding_mode="replicate"),
    RRDBConfig(channels=6, blocks=1, growth=4, scale=1, unshuffle=4, inputs=4),
)


@pytest.fixture(params=CONFIGS, ids=str, scope="module")
def net(request: pytest.FixtureRequest) -> RRDBNet:
    return random_net(request.param)


def float32(net: RRDBNet) -> Upscaler:
    return Upscaler(copy.deepcopy(net), CPU, torch.float32)


def noise(height: int, width: int, planes: int = 1) -> Pixels:
    levels = numpy.random.default_rng(0).integers(0, 2**16, (planes, height, width, 3))
    return levels.astype(numpy.uint16)


def difference(made: Pixels, other: Pixels) -> float:
    """Return the largest difference in levels of 8 bits."""
    return float(numpy.abs(made.astype(int) - other).max()) / 257


def streamed(upscaler: Upscaler, picture: Pixels, rows: int) -> Pixels:
    return numpy.concatenate(list(upscaler.stream(picture, rows, edges="wrap")), axis=1)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (28, 12)])
def test_the_answer_is_the_middle_of_the_picture_repeated(net: RRDBNet, height: int, width: int) -> None:
    upscaler, picture = float32(net), noise(height, width)
    around = -(-(reach_rows(net) // net.config.scale + 1) // min(height, width))
    (repeated,) = Upscaler(copy.deepcopy(net), CPU, torch.float32, margin_px=0).batch(
        [numpy.tile(picture, (1, 2 * around + 1, 2 * around + 1, 1))]
    )
    (made,) = upscaler.batch([picture], "wrap")
    rows, columns = (
        slice(around * upscaler.scale * side, (around + 1) * upscaler.scale * side) for side in (height, width)
    )
    assert difference(made, repeated[:, rows, columns]) < 0.1


@pytest.mark.parametrize(("down", "right"), [(4, 0), (12, 8)])
def test_the_answer_of_a_rolled_picture_is_the_rolled_answer(net: RRDBNet, down: int, right: int) -> None:
    upscaler, picture = float32(net), noise(24, 16, planes=2)
    made, of_rolled = upscaler.batch([picture, numpy.roll(picture, (down, right), (1, 2))], "wrap")
    scale = upscaler.scale
    assert difference(numpy.roll(made, (scale * down, scale * right), (1, 2)), of_rolled) < 0.1


@pytest.mark.parametrize("rows", [5, 16])
def test_bands_of_any_height_give_what_the_whole_picture_gives(net: RRDBNet, rows: int) -> None:
    upscaler, picture = float32(net), noise(44, 8)
    (whole,) = upscaler.batch([picture], "wrap")
    assert difference(streamed(upscaler, picture, rows), whole) < 0.1


def test_a_picture_lower_than_a_band_and_than_the_reach_of_the_network_wraps_as_well() -> None:
    upscaler = float32(random_net())
    for height, width in ((1, 1), (5, 3)):
        picture = noise(height, width)
        made = streamed(upscaler, picture, 64)
        of_rolled = streamed(upscaler, numpy.roll(picture, (1, 1), (1, 2)), 1)
        assert difference(numpy.roll(made, (4, 4), (1, 2)), of_rolled) < 0.1


def test_a_stream_answers_before_it_has_read_the_last_row() -> None:
    net = random_net()
    read = 0

    def bands() -> Iterator[torch.Tensor]:
        nonlocal read
        for _ in range(100):
            read += 4
            yield torch.rand(1, 3, 4, 8)

    with torch.inference_mode():
        made = upscale_rows(net, bands(), band_rows=4, wraps=True)
        while not next(made).shape[2]:
            pass
        assert read <= 2 * rows_before(net) + 8
        made.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize("edges", ["auto", "wrap"])
def test_a_flat_picture_stays_flat_where_its_edges_meet(edges: Edges) -> None:
    upscaler = Upscaler(random_net(), CPU, torch.float32, margin_px=0)
    (made,) = upscaler.batch([numpy.full((1, 40, 40, 3), 30_000, numpy.uint16)], edges)
    assert (numpy.ptp(made, axis=(1, 2)).max() / 257 < 0.1) == (edges == "wrap")


def test_an_ensemble_wraps_whole_and_as_a_stream() -> None:
    upscaler, picture = float32(random_net()), noise(12, 8)
    made, of_rolled = ensemble_batch(upscaler, [picture, numpy.roll(picture, (5, 3), (1, 2))], "wrap")
    assert difference(numpy.roll(made, (20, 12), (1, 2)), of_rolled) < 0.1
    bands = ensemble_stream(upscaler, picture, scale=4, band_px=100, edges="wrap")
    assert difference(numpy.concatenate(list(bands), axis=1), made) < 0.1


def test_sides_that_the_grid_of_the_network_does_not_divide_are_refused() -> None:
    upscaler = float32(random_net(CONFIGS[3]))
    assert upscaler.wrap_multiple_px == 2
    with pytest.raises(ValueError, match="7 x 8 px are not multiples of 2"):
        upscaler.batch([noise(8, 7)], "wrap")
