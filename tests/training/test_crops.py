from collections.abc import Iterator

import numpy
import pytest
import torch
from torch import Tensor

from tests.training.photographs import decoded, made_pair, map_pair
from training.crop_sources import DecodedPhotographs
from training.crops import CropPlan, Places, turned
from training.data import DataError, Pair
from training.degrade import shrink_bicubic

BOTH = [made_pair(1, height=80, width=104, scale=4), made_pair(2, height=72, width=60, scale=4)]

TURNS_BY_HAND = ["12 34", "21 43", "34 12", "43 21", "13 24", "24 13", "31 42", "42 31"]
"""The picture 12 above 34 in each turn: bit 0 mirrors columns, bit 1 rows, bit 2 then exchanges the two."""


def plan_of(*pairs: Pair, crop_px: int = 8, batch: int = 8, seed: int = 0, share: tuple[int, int] = (0, 1)) -> CropPlan:
    sizes = [(pair.low_res.shape[1], pair.low_res.shape[2]) for pair in pairs]
    return CropPlan(sizes, crop_px=crop_px, batch=batch, seed=seed, share=share)


def source_of(*pairs: Pair, crop_px: int = 8, batch: int = 8, seed: int = 0) -> DecodedPhotographs:
    plan = plan_of(*pairs, crop_px=crop_px, batch=batch, seed=seed)
    return decoded(pairs, plan, 4)


def numbers(places: Places) -> list[tuple[int, int, int, int]]:
    """Picture, top, left and turn of each crop."""
    columns = (places.picture, places.top, places.left, places.turn)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def crops_with_turn(turn: int) -> Iterator[tuple[Pair, int, int, Tensor, Tensor]]:
    """Picture, top, left, low-res and high-res crop of some crops that are turned so."""
    plan = plan_of(*BOTH, batch=64)
    places = plan.of_step(0)
    ((low_res, high_res),) = decoded(BOTH, plan, 4).batches(0, 1)
    for place, low, high in zip(numbers(places), low_res, high_res, strict=True):
        if place[3] == turn:
            yield BOTH[place[0]], place[1], place[2], low, high


def test_the_crops_of_a_step_depend_on_the_seed_and_the_step_alone() -> None:
    in_order = plan_of(*BOTH, seed=3)
    drawn = [numbers(in_order.of_step(step)) for step in range(4)]
    torch.manual_seed(99)
    numpy.random.seed(99)  # the global state must not matter
    for step in (3, 1, 1, 0, 2):
        assert numbers(plan_of(*BOTH, seed=3).of_step(step)) == drawn[step]


def test_other_steps_seeds_and_attempts_give_other_crops() -> None:
    drawn = [
        numbers(plan_of(*BOTH, seed=seed).of_step(step, attempt=attempt))
        for seed in (0, 2**40)
        for step in (0, 1)
        for attempt in (0, 1)
    ]
    assert not any(one == other for number, one in enumerate(drawn) for other in drawn[:number])


def test_the_shares_of_two_processes_make_up_the_whole_batch() -> None:
    whole = numbers(plan_of(*BOTH).of_step(5))
    first, second = (numbers(plan_of(*BOTH, share=(process, 2)).of_step(5)) for process in (0, 1))
    assert len(first) == len(second) == 4
    assert [crop for both in zip(first, second, strict=True) for crop in both] == whole


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(DataError, match="a batch of 8 cannot be shared by 3 processes; start 8 or a divisor"):
        plan_of(*BOTH, batch=8, share=(0, 3))


def test_a_plan_without_a_photograph_is_refused() -> None:
    with pytest.raises(DataError, match="no photograph of the folder can be used"):
        plan_of()


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    plan_of(*BOTH).of_step(0)
    assert torch.equal(torch.get_rng_state(), before)


def damage_of(plan: CropPlan, step: int) -> list[float]:
    """The first number that the degradation of each crop draws."""
    return [rng.random() for rng in plan.degradation_rngs(step)]


def test_every_crop_of_every_step_and_seed_is_damaged_by_its_own_draw() -> None:
    drawn = [number for seed in (0, 1) for step in (0, 1) for number in damage_of(plan_of(*BOTH, seed=seed), step)]
    assert len(set(drawn)) == 2 * 2 * 8
    assert damage_of(plan_of(*BOTH, seed=1), 1) == drawn[-8:]


@pytest.mark.parametrize("sharing", [2, 4])
def test_the_damage_of_a_crop_does_not_depend_on_how_many_processes_share_the_batch(sharing: int) -> None:
    whole = damage_of(plan_of(*BOTH), 5)
    for process in range(sharing):
        assert damage_of(plan_of(*BOTH, share=(process, sharing)), 5) == whole[process::sharing]


def test_every_place_of_a_picture_is_reached_up_to_the_last_row_and_column() -> None:
    plan = plan_of(map_pair(10, 11), batch=400)
    corners = {(top, left) for _, top, left, _ in numbers(plan.of_step(0))}
    assert corners == {(top, left) for top in range(3) for left in range(4)}


def test_every_turn_is_drawn_about_equally_often() -> None:
    counts = numpy.bincount(plan_of(*BOTH, batch=8000).of_step(0).turn, minlength=8)
    assert len(counts) == 8
    assert counts.min() > 850
    assert counts.max() < 1150


def test_a_photograph_is_drawn_as_often_as_it_has_places_for_a_crop() -> None:
    plan = plan_of(map_pair(8, 8), map_pair(9, 56), map_pair(8, 8), batch=10_000)  # 1, 98 and 1 places
    first, second, third = numpy.bincount(plan.of_step(0).picture, minlength=3)
    assert 60 <= first <= 140  # 100 expected, deviation 10
    assert 60 <= third <= 140
    assert first + second + third == 10_000


@pytest.mark.parametrize("turn", range(8))
def test_a_turn_is_the_symmetry_that_it_says(turn: int) -> None:
    square = torch.tensor([[1, 2], [3, 4]])
    rows = turned(square, turn).tolist()
    assert " ".join("".join(map(str, row)) for row in rows) == TURNS_BY_HAND[turn]


@pytest.mark.parametrize("turn", range(8))
def test_a_crop_is_the_slice_at_its_place_turned(turn: int) -> None:
    seen = 0
    for pair, top, left, low, high in crops_with_turn(turn):
        assert torch.equal(low, turned(pair.low_res[:, top : top + 8, left : left + 8], turn))
        rows, columns = slice(4 * top, 4 * top + 32), slice(4 * left, 4 * left + 32)
        assert torch.equal(high, turned(pair.high_res[:, rows, columns], turn))
        seen += 1
    assert seen > 1


@pytest.mark.parametrize("turn", range(8))
def test_both_crops_show_the_same_place_the_same_way_round(turn: int) -> None:
    inside = (..., slice(2, -2), slice(2, -2))  # the kernel reaches two low-res pixels
    for *_, low, high in crops_with_turn(turn):
        difference = shrink_bicubic(high, 4)[inside].int() - low[inside].int()
        assert difference.abs().max() <= 1  # a transposed picture rounds its columns first
        shifted = shrink_bicubic(high.roll(4, -1), 4)[inside].int() - low[inside].int()
        assert shifted.abs().max() > 10


def test_a_batch_is_bytes_with_the_shapes_that_were_asked_for() -> None:
    ((low_res, high_res),) = source_of(*BOTH, crop_px=6, batch=3).batches(0, 1)
    assert (low_res.shape, high_res.shape) == ((3, 3, 6, 6), (3, 3, 24, 24))
    assert low_res.dtype == high_res.dtype == torch.uint8


def test_the_channels_of_a_batch_are_last_in_memory() -> None:
    for pictures in next(source_of(*BOTH).batches(0, 1)):
        assert pictures.is_contiguous(memory_format=torch.channels_last)


def test_a_run_that_begins_in_the_middle_sees_what_an_uninterrupted_one_sees() -> None:
    whole = list(source_of(*BOTH).batches(0, 5))
    rest = list(source_of(*BOTH).batches(2, 5))
    assert (len(whole), len(rest)) == (5, 3)
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_a_crop_of_a_picture_that_is_no_larger_is_the_whole_picture() -> None:
    pair = map_pair(8, 8)
    ((low_res, _),) = source_of(pair, batch=1).batches(0, 1)
    assert sorted(low_res[0, :2].flatten(1).T.tolist()) == sorted(pair.low_res[:2].flatten(1).T.tolist())
