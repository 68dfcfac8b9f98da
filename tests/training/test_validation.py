from collections.abc import Sequence

import pytest
import torch

from model.files.checkpoint import reference_output
from model.rrdb import RRDBConfig
from tests.model.examples import random_net
from tests.training.photographs import made_pair, map_pair
from training.colour import colour_shift
from training.damage import DAMAGES, Damage, damaged_pair
from training.data import DataError, Pair, Pairs
from training.degrade import enlarge_bicubic
from training.lpips import LPIPS
from training.metrics import psnr_y
from training.validation import MeanScores, PictureScores, Validation, common_means, middle, overall

PAIRS = [made_pair(3), made_pair(4, height=34, width=50)]


class Sometimes:
    """Pairs of files, some unreadable, and the indices of the requested ones."""

    def __init__(self, pairs: Sequence[Pair], *broken: int) -> None:
        self.pairs, self.broken = pairs, broken
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> Pair:
        self.asked.append(number)
        if number in self.broken:
            raise DataError(f"{number}.png: cannot be read (gone)")
        return self.pairs[number]


def means(each: PictureScores) -> MeanScores:
    return common_means(each, each)[0]


def test_scores_are_means_over_the_pictures() -> None:
    net = random_net(RRDBConfig(channels=4, blocks=1, growth=2, scale=2))
    made = [reference_output(net, pair.low_res) for pair in PAIRS]
    scores = means(Validation(pairs={"clean": PAIRS}).of_each(lambda low_res: reference_output(net, low_res)))
    expected = {
        "psnr_y": sum(psnr_y(one, pair.high_res, border=2) for one, pair in zip(made, PAIRS, strict=True)) / 2,
        "colour_shift": sum(colour_shift(one, pair.low_res) for one, pair in zip(made, PAIRS, strict=True)) / 2,
    }
    assert scores == {measure: {"clean": pytest.approx(value)} for measure, value in expected.items()}


def test_lpips_is_measured_where_there_is_alexnet() -> None:
    torch.manual_seed(0)
    lpips = LPIPS()
    for weights in lpips.linear:
        weights.data.fill_(0.1)
    scores = means(Validation(pairs={"clean": PAIRS}, lpips=lpips).bicubic(2))
    distances = [lpips.distance(enlarge_bicubic(pair.low_res, 2), pair.high_res) for pair in PAIRS]
    assert scores["lpips"] == {"clean": pytest.approx(sum(distances) / 2)}


def test_every_kind_of_upload_has_scores_of_its_own() -> None:
    pairs = {"clean": PAIRS[:1], "web50": [damaged_pair(PAIRS[0], "web50")]}
    scores = means(Validation(pairs=pairs).bicubic(2))  # type: ignore[arg-type]  # the keys are kinds
    assert scores["psnr_y"].keys() == {"clean", "web50"}
    assert scores["psnr_y"]["clean"] > scores["psnr_y"]["web50"]


def test_a_picture_that_cannot_be_read_any_more_is_left_out_of_every_kind_and_named_once() -> None:
    lines: list[str] = []
    pairs: dict[Damage, Pairs] = {damage: Sometimes(PAIRS, 0) for damage in DAMAGES}
    scores = Validation(pairs=pairs, report=lines.append).bicubic(2)
    assert scores == {
        (measure, damage, 1): value
        for (measure, damage, number), value in Validation(pairs=dict.fromkeys(DAMAGES, PAIRS)).bicubic(2).items()
        if number == 1
    }
    assert lines == ["not measured: 0.png: cannot be read (gone)"]


def test_two_measurements_are_compared_over_the_pictures_that_both_have() -> None:
    one: PictureScores = {("psnr_y", "clean", 0): 20.0, ("psnr_y", "clean", 1): 30.0}
    other: PictureScores = {("psnr_y", "clean", 1): 29.0, ("psnr_y", "clean", 2): 10.0}
    assert common_means(one, other) == ({"psnr_y": {"clean": 30.0}}, {"psnr_y": {"clean": 29.0}})


def test_a_measurement_without_any_picture_ends_in_an_error() -> None:
    validation = Validation(pairs={"clean": Sometimes(PAIRS, 0, 1)}, report=lambda line: None)
    with pytest.raises(DataError, match="none of the validation pictures can be read any more"):
        validation.bicubic(2)


def test_only_the_pictures_that_a_panel_shows_are_read_for_it() -> None:
    net = random_net(RRDBConfig(channels=4, blocks=1, growth=2, scale=2))
    kinds = {damage: Sometimes([made_pair(3)] * 9) for damage in DAMAGES}
    one_kind: dict[Damage, Sometimes] = {"clean": Sometimes([made_pair(3)] * 9)}
    for pairs, read in ((kinds, [0]), (one_kind, [0, 1, 2, 3, 4, 5])):
        assert len(Validation(pairs=pairs).panels(net, torch.device("cpu"))) == len(pairs) * len(read)
        assert all(one.asked == read for one in pairs.values())


def test_the_middle_of_a_pair_is_cut_alike_on_both_sides() -> None:
    pair = map_pair(9, 6, scale=2)
    cut = middle(pair, 4)
    assert torch.equal(cut.low_res, pair.low_res[:, 2:6, 1:5])
    assert torch.equal(cut.high_res, pair.high_res[:, 4:12, 2:10])
    assert middle(pair, 9) is pair


def test_no_pictures_are_no_scores() -> None:
    validation = Validation(pairs={"clean": []})
    assert not validation
    assert validation.bicubic(2) == {}


def test_higher_is_better_overall_whatever_the_measure() -> None:
    scores = {"psnr_y": {"clean": 30.0, "web50": 20.0}, "lpips": {"clean": 0.25, "web50": 0.75}}
    assert overall(scores, "psnr_y") == 25
    assert overall(scores, "lpips") == -0.5


def test_a_picture_that_comes_out_exactly_leaves_the_mean_a_number() -> None:
    exact, other = PAIRS
    originals = {id(pair.low_res): pair.high_res for pair in PAIRS[:1]}
    scores = means(
        Validation(pairs={"clean": PAIRS}).of_each(
            lambda low_res: originals.get(id(low_res), enlarge_bicubic(low_res, 2))
        )
    )
    of_other = psnr_y(enlarge_bicubic(other.low_res, 2), other.high_res, border=2)
    assert scores["psnr_y"]["clean"] == pytest.approx((100 + of_other) / 2)
    assert exact.low_res is not other.low_res
