"""Measuring a generator while it is trained, and panels to look at."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from model.files.checkpoint import reference_output
from model.rrdb import RRDBNet
from training.damage import Damage
from training.data import DataError, Pair, Pairs
from training.degrade import enlarge_bicubic
from training.journal import PANEL_PX
from training.lpips import LPIPS
from training.measures import MEASURES, Upscale, measured
from training.terminal import say

MeanScores = dict[str, dict[str, float]]
"""Means over the pictures, by measure, then by kind of upload."""

PictureScores = dict[tuple[str, Damage, int], float]
"""Scores by measure, kind of upload, and the number of the picture."""

TAKEN = ("psnr_y", "colour_shift", "lpips")
"""The measures of a run; LPIPS only where AlexNet is given."""
MAX_PANELS = 6


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The pictures that a run is measured on."""

    pairs: Mapping[Damage, Pairs]
    """Pairs by the kind of upload of their low-res picture."""
    lpips: LPIPS | None = None
    """None to leave this measure out."""
    report: Callable[[str], None] = say
    """Takes a line for each picture that cannot be read any more."""

    def __bool__(self) -> bool:
        return any(self.pairs.values())

    def of_each(self, upscale: Upscale) -> PictureScores:
        """Measure every picture that can be read.

        Raises:
            DataError: there are pictures, and none can be read.
        """
        each: PictureScores = {}
        for damage, number, pair in self._readable():
            for measure, value in self._of_picture(upscale(pair.low_res).cpu(), pair).items():
                each[measure, damage, number] = value
        if self and not each:
            raise DataError("none of the validation pictures can be read any more; see the lines above")
        return each

    def bicubic(self, scale: int) -> PictureScores:
        """Measure bicubic, the baseline that every generator must beat."""
        return self.of_each(lambda low_res: enlarge_bicubic(low_res, scale))

    def panels(self, net: RRDBNet, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The middle of some pictures, four ways: low_res, bicubic, upscaled, high_res."""
        return [_panel(net, pair, device) for _, _, pair in islice(self._readable(), MAX_PANELS)]

    def _readable(self) -> Iterator[tuple[Damage, int, Pair]]:
        """Yield every kind of every picture, one after another; a picture that cannot be read is reported."""
        for number in range(min(map(len, self.pairs.values()), default=0)):
            for damage, pairs in self.pairs.items():
                try:
                    pair = pairs[number]
                except DataError as error:
                    self.report(f"not measured: {error}")
                    break
                yield damage, number, pair

    def _of_picture(self, upscaled: Tensor, pair: Pair) -> dict[str, float]:
        values = measured(upscaled, pair, TAKEN, self.lpips)
        return values | {"psnr_y": min(MAX_PSNR_DB, values["psnr_y"])}


MAX_PSNR_DB = 100.0
"""PSNR-Y of a picture that is exactly right, so that one flat picture does not make a mean infinite."""


def common_means(one: PictureScores, other: PictureScores) -> tuple[MeanScores, MeanScores]:
    """Take the means of two measurements over the pictures that both have."""

    def means(each: PictureScores) -> MeanScores:
        values: dict[str, dict[str, list[float]]] = {}
        for measure, damage, number in (key for key in each if key in one and key in other):
            values.setdefault(measure, {}).setdefault(damage, []).append(each[measure, damage, number])
        return {
            measure: {damage: sum(some) / len(some) for damage, some in kinds.items()}
            for measure, kinds in values.items()
        }

    return means(one), means(other)


def middle(pair: Pair, side: int) -> Pair:
    """Cut the middle of a pair, at most `side` low-res pixels high and wide."""
    height, width = pair.low_res.shape[1:]
    if max(height, width) <= side:
        return pair
    (top, rows), (left, columns) = (((whole - (cut := min(whole, side))) // 2, cut) for whole in (height, width))
    low_res, high_res = (
        picture[:, top * factor : (top + rows) * factor, left * factor : (left + columns) * factor].contiguous()
        for picture, factor in ((pair.low_res, 1), (pair.high_res, pair.scale))
    )
    return Pair(pair.name, low_res, high_res)


def overall(scores: MeanScores, measure: str) -> float:
    """Return one number, higher for better generators: the mean over the kinds of uploads."""
    values = scores[measure].values()
    mean = sum(values) / len(values)
    return -mean if MEASURES[measure].lower_is_better else mean


def _panel(net: RRDBNet, pair: Pair, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scale = net.config.scale
    shown = middle(pair, min(*pair.low_res.shape[1:], PANEL_PX // scale))
    upscaled = reference_output(net, shown.low_res.to(device))
    return shown.low_res, enlarge_bicubic(shown.low_res, scale), upscaled, shown.high_res
