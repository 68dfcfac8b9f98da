import itertools

import numpy
import pytest
import torch

from model.rrdb import RRDBNet
from model.transfer import Pixels
from model.upscaler import Upscaler
from tests.model.examples import TINY, random_net
from training.flat import FLAT_PX, flat_scores, flat_table, lattice


class Moved(Upscaler):
    """Repeats every pixel, with errors that are known."""

    def __init__(self) -> None:
        super().__init__(RRDBNet(TINY).eval(), torch.device("cpu"), torch.float32)
        self.shapes: set[tuple[int, ...]] = set()

    def batch(self, pictures: list[Pixels]) -> list[Pixels]:  # type: ignore[override]  # these tests give a list
        self.shapes |= {picture.shape for picture in pictures}
        made = [picture.repeat(4, axis=1).repeat(4, axis=2) for picture in pictures]
        for picture in made:
            if picture[0, 0, 0].tolist() == [255, 0, 255]:
                picture[0, 4, 59, 1] += 7  # inside, in the last column that is
                picture[0, 3, 10, 0] -= 20  # at the border
                picture[0, 63, 63, 2] -= 10
        return made


def test_a_lattice_holds_every_combination_of_its_values() -> None:
    assert len(lattice(16)) == 4096
    assert {tuple(colour) for colour in lattice(4).tolist()} == set(itertools.product((0, 85, 170, 255), repeat=3))


def test_errors_are_distinguished_by_their_place() -> None:
    upscaler = Moved()
    scores = flat_scores("moved", upscaler, 3)
    assert upscaler.shapes == {(1, FLAT_PX, FLAT_PX, 3)}
    assert (scores.colours, scores.inside, scores.border, scores.worst) == (27, 7, 20, "#ff00ff")
    assert scores.inside_mean == pytest.approx(7 / (27 * 56 * 56 * 3))
    assert scores.border_mean == pytest.approx(30 / (27 * (64 * 64 - 56 * 56) * 3))


def test_a_generator_is_measured_on_what_the_service_would_answer() -> None:
    upscaler = Upscaler(random_net(), torch.device("cpu"), torch.float32)
    scores = flat_scores("tiny", upscaler, 2)
    errors = []
    for colour in lattice(2):
        flat = numpy.full((1, FLAT_PX, FLAT_PX, 3), colour, dtype=numpy.uint8)
        errors.append(int(numpy.abs(upscaler.upscale(flat).astype(int) - colour).max()))
    assert max(scores.inside, scores.border) == pytest.approx(max(errors), abs=1)


def test_the_table_has_a_line_for_each_generator() -> None:
    scores = flat_scores("moved", Moved(), 3)
    assert flat_table([scores, scores]).splitlines() == [
        "| flat colours | generator | inside: most | mean | border: most | mean | worst colour |",
        "| ------------ | --------- | -----------: | ---: | -----------: | ---: | -----------: |",
        *["| 27           | moved     |            7 | 0.00 |           20 | 0.00 |      #ff00ff |"] * 2,
    ]


def test_the_numbers_of_a_generator_have_names() -> None:
    scores = flat_scores("moved", Moved(), 3)
    assert scores.set == "27 flat colours"
    assert scores.numbers()["border"] == 20
