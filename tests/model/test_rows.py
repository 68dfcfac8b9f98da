"""Pictures whose rows are made while they are read, and networks that read their own result."""

from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import torch

from model.device import DeviceMemoryError
from model.edges import Edges
from model.reliable import ReliableUpscaler, load
from model.rows import Passes, Rows, bands_of
from model.transfer import Pixels
from model.upscaler import Upscaler
from tests.app.conftest import write_tiny_model


def noise(*shape: int, most: int = 256) -> Pixels:
    kind = numpy.uint8 if most <= 256 else numpy.uint16
    return numpy.random.default_rng(0).integers(0, most, shape).astype(kind)


def arriving(picture: Pixels, at_once: int) -> Rows:
    def start() -> Iterator[Pixels]:
        for top in range(0, picture.shape[1], at_once):
            yield picture[:, top : top + at_once]

    planes, height, width, channels = picture.shape
    return Rows((planes, height, width, channels), picture.dtype, start)


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> ReliableUpscaler:
    return tiny(tmp_path_factory.mktemp("model"))


def tiny(folder: Path, scale: int = 4) -> ReliableUpscaler:
    path = write_tiny_model(folder, "tiny", scale=scale)
    return load(path, torch.device("cpu"), dtype=torch.float32)[0]


@pytest.mark.parametrize("at_once", [1, 3, 50])
def test_bands_of_arriving_rows_are_those_of_the_whole_picture(at_once: int) -> None:
    picture = noise(2, 20, 5, 3)
    rows = [3, 2, 1, 0, *range(20), 19, 18, 17, 0]
    expected = list(bands_of(picture, rows, [0, *range(5), 4], at_once=6))
    bands = list(bands_of(arriving(picture, at_once), rows, [0, *range(5), 4], at_once=6))
    made = [band for band in bands if band.shape[1]]
    assert len(bands) == len(made) + -(-20 // at_once)
    assert all(numpy.array_equal(one, other) for one, other in zip(made, expected, strict=True))


def test_a_picture_that_arrives_is_upscaled_like_one_that_is_there(upscaler: ReliableUpscaler) -> None:
    picture = noise(1, 41, 23, 3)
    made = numpy.concatenate(list(upscaler.stream(arriving(picture, 7), 8)), axis=1)
    assert numpy.abs(made.astype(int) - upscaler.upscale(picture)).max() <= 1


@pytest.mark.parametrize(("scale", "passes"), [(4, 2), (2, 3)])
@pytest.mark.parametrize("most", [256, 65536])
def test_passes_give_what_the_network_makes_of_its_own_result(
    tmp_path: Path, scale: int, passes: int, most: int
) -> None:
    upscaler, picture = tiny(tmp_path, scale), noise(2, 9, 5, 3, most=most)
    expected = picture
    for _ in range(passes):
        expected = upscaler.upscale(expected)
    made = numpy.concatenate(list(Passes(upscaler, scale, passes).stream(picture, 16)), axis=1)
    assert made.shape == expected.shape
    assert numpy.abs(made.astype(int) - expected).max() <= 2 * (most // 256)


def test_passes_over_a_texture_that_tiles_do_not_depend_on_where_it_begins(upscaler: ReliableUpscaler) -> None:
    texture = noise(1, 12, 9, 3)
    made = numpy.concatenate(list(Passes(upscaler, 4, 2).stream(texture, 16, edges="wrap")), axis=1)
    rolled = numpy.roll(texture, (5, 2), axis=(1, 2))
    other = numpy.concatenate(list(Passes(upscaler, 4, 2).stream(rolled, 16, edges="wrap")), axis=1)
    assert numpy.abs(numpy.roll(made, (80, 32), axis=(1, 2)).astype(int) - other).max() <= 2


def test_a_later_pass_begins_before_the_first_one_has_ended(upscaler: ReliableUpscaler) -> None:
    bands = [band.shape[1] for band in Passes(upscaler, 4, 2).stream(noise(1, 160, 2, 3), 16)]
    assert sum(bands) == 16 * 160
    first = next(number for number, rows in enumerate(bands) if rows)
    assert first < len(bands) / 3
    assert max(bands) <= 4 * 4 * 16  # each item is a band of one pass


def test_a_pass_that_runs_out_of_memory_starts_again_from_the_upload(
    upscaler: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = noise(1, 24, 5, 3)
    expected = numpy.concatenate(list(Passes(upscaler, 4, 2).stream(picture, 32)), axis=1)
    stream, failed = Upscaler.stream, False

    def failing(
        self: Upscaler, read: Pixels | Rows, band_rows: int | None = None, *, edges: Edges = "auto"
    ) -> Iterator[Pixels]:
        nonlocal failed
        for number, rows in enumerate(stream(self, read, band_rows, edges=edges)):
            if isinstance(read, Rows) and number == 9 and not failed:
                failed = True
                raise DeviceMemoryError("no memory")
            yield rows

    monkeypatch.setattr(Upscaler, "stream", failing)
    made = numpy.concatenate(list(Passes(upscaler, 4, 2).stream(picture, 32)), axis=1)
    assert failed
    assert numpy.abs(made.astype(int) - expected).max() <= 2


def test_closing_the_last_pass_closes_the_first(upscaler: ReliableUpscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, closed = Upscaler.stream, list[bool]()

    def watched(
        self: Upscaler, read: Pixels | Rows, band_rows: int | None = None, *, edges: Edges = "auto"
    ) -> Iterator[Pixels]:
        try:
            yield from stream(self, read, band_rows, edges=edges)
        finally:
            closed.append(isinstance(read, Rows))

    monkeypatch.setattr(Upscaler, "stream", watched)
    bands = Passes(upscaler, 4, 2).stream(noise(1, 60, 3, 3), 8)
    for _ in range(12):
        next(bands)
    del bands
    assert sorted(closed) == [False, True]
