import itertools
import math

import numpy
import pytest
import torch
from torch import Tensor

from tests.model.examples import textured
from training.recolour import _KINDS, _SHARES, Matrix, _draw_colour, _hue, draw_recolouring, recolour

NOTHING = numpy.zeros(3)
LUMA = torch.tensor([0.299, 0.587, 0.114])


def greys() -> Tensor:
    """Every grey once: uint8 RGB (3, 16, 16)."""
    return torch.arange(256, dtype=torch.uint8).view(1, 16, 16).expand(3, -1, -1)


def drawings(count: int) -> list[tuple[Matrix, Matrix]]:
    return [draw_recolouring(numpy.random.default_rng(seed)) for seed in range(count)]


def kind_of(matrix: Matrix, offset: Matrix) -> str:
    """Recognise the kind of a recolouring by its numbers."""
    if not matrix.any():
        return "flat"
    if numpy.array_equal(matrix, -numpy.eye(3)):
        return "negative"
    if set(matrix.flatten()) == {0, 1}:
        return "channels"
    if numpy.count_nonzero(matrix - numpy.diag(numpy.diag(matrix))) == 0:
        return "tone"
    return "duotone" if numpy.linalg.matrix_rank(matrix, tol=1e-9) == 1 and offset.any() else "hue"


def test_nothing_changes_under_the_identity() -> None:
    picture = textured(9, 14)
    assert torch.equal(recolour(picture, numpy.eye(3), NOTHING), picture)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_other_channel_orders_are_exact(order: tuple[int, ...]) -> None:
    picture = textured(9, 14)
    assert torch.equal(recolour(picture, numpy.eye(3)[list(order)], NOTHING), picture[list(order)])


def test_a_negative_is_exact() -> None:
    assert torch.equal(recolour(textured(9, 14), -numpy.eye(3), numpy.full(3, 255.0)), 255 - textured(9, 14))


@pytest.mark.parametrize("saturation", [0.0, 0.7, 2.5])
@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi, 5.5])
def test_grey_stays_grey_under_every_hue(angle: float, saturation: float) -> None:
    assert torch.equal(recolour(greys(), _hue(angle, saturation), NOTHING), greys())


@pytest.mark.parametrize("saturation", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi, 5.5])
def test_another_hue_keeps_the_luma(angle: float, saturation: float) -> None:
    picture = (textured(20, 20).float() * 0.15 + 110).to(torch.uint8)  # nothing is clamped
    changed = recolour(picture, _hue(angle, saturation), NOTHING)
    luma, before = (torch.einsum("c,chw->hw", LUMA, one.float()) for one in (changed, picture))
    assert (luma - before).abs().max() < 1


def test_a_hue_without_a_turn_and_with_whole_saturation_changes_nothing() -> None:
    assert _hue(0.0, 1.0) == pytest.approx(numpy.eye(3))
    assert _hue(2 * math.pi / 3, 1.0) @ numpy.ones(3) == pytest.approx(numpy.ones(3))
    assert _hue(1.0, 0.0) == pytest.approx(numpy.outer(numpy.ones(3), LUMA.numpy()), abs=1e-6)


def test_a_result_is_rounded_and_clamped() -> None:
    picture = torch.tensor([[[0, 101, 200]], [[0, 101, 200]], [[0, 101, 200]]], dtype=torch.uint8)
    made = recolour(picture, 1.5 * numpy.eye(3), numpy.array([-10.0, 0.4, 0.0]))
    assert made.tolist() == [[[0, 142, 255]], [[0, 152, 255]], [[0, 152, 255]]]
    assert made.dtype == torch.uint8


def test_equal_seeds_draw_equal_changes() -> None:
    for (matrix, offset), (again, and_again) in zip(drawings(20), drawings(20), strict=True):
        assert numpy.array_equal(matrix, again)
        assert numpy.array_equal(offset, and_again)


def test_every_kind_of_change_is_drawn_as_often_as_its_share_says() -> None:
    count = 3000
    kinds = [kind_of(*drawing) for drawing in drawings(count)]
    assert sum(_SHARES) == pytest.approx(1)
    for kind, share in zip(_KINDS, _SHARES, strict=True):
        deviation = math.sqrt(count * share * (1 - share))
        assert kinds.count(kind) == pytest.approx(count * share, abs=4 * deviation)


def test_every_channel_order_is_drawn() -> None:
    orders = {tuple(matrix.argmax(axis=1)) for matrix, offset in drawings(600) if kind_of(matrix, offset) == "channels"}
    assert orders == set(itertools.permutations(range(3)))


def test_a_duotone_has_shades_between_two_colours_and_the_colours_themselves() -> None:
    for matrix, offset in [one for one in drawings(60) if kind_of(*one) == "duotone"]:
        shades = recolour(greys(), matrix, offset).flatten(1).float()
        ends = shades[:, :1], shades[:, -1:]
        middle = (
            torch.from_numpy(matrix).float() @ torch.full((3, 1), 127.5) + torch.from_numpy(offset).float()[:, None]
        )
        assert (middle - torch.clamp(middle, 0, 255)).abs().max() < 1e-3
        assert (shades.diff(dim=1).sign().abs().amax(dim=1) <= 1).all()
        for channel, low, high in zip(shades, *ends, strict=True):
            steps = channel.diff()
            assert (
                (steps >= 0).all() if high >= low else (steps <= 0).all()
            )  # from one end to the other, and never back


def test_a_flat_change_makes_one_colour_of_every_picture() -> None:
    flat = next(one for one in drawings(200) if kind_of(*one) == "flat")
    assert len(recolour(textured(9, 14), *flat).flatten(1).unique(dim=1).T) == 1


def test_drawn_colours_fill_the_cube_with_its_corners() -> None:
    rng = numpy.random.default_rng(0)
    colours = numpy.array([_draw_colour(rng) for _ in range(4000)])
    corners = colours[numpy.isin(colours, (0, 255)).all(axis=1)]
    assert {tuple(corner) for corner in corners} == set(itertools.product((0, 255), repeat=3))
    inside = colours[((colours > 0) & (colours < 255)).all(axis=1)]
    assert len(corners) / 4000 == pytest.approx(0.3**3, abs=0.01)
    assert len(inside) / 4000 == pytest.approx(0.7**3, abs=0.03)
    assert {tuple(cell) for cell in (inside // 64).astype(int)} == set(itertools.product(range(4), repeat=3))


def test_every_corner_of_the_cube_is_seen_by_a_generator() -> None:
    """Photographs alone seldom hold pure red, green, blue, cyan, magenta and yellow."""
    picture = textured(12, 12)
    seen = {
        tuple(colour)
        for drawing in drawings(1600)
        for colour in recolour(picture, *drawing).flatten(1).unique(dim=1).T.tolist()
    }
    assert seen >= set(itertools.product((0, 255), repeat=3))
