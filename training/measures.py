"""The measures of upscaled pictures: how each is taken and printed."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from torch import Tensor

from training.colour import colour_shift
from training.data import Pair
from training.grain import grain
from training.lpips import LPIPS
from training.metrics import psnr_y, ssim_y
from training.niqe import niqe

Upscale = Callable[[Tensor], Tensor]
"""uint8 RGB (3, H, W) -> (3, scale * H, scale * W)."""


class Measure(NamedTuple):
    """A measure of an upscaled picture, next to the pair that it was made from."""

    title: str
    form: str
    """Format of its numbers in tables."""
    of: Callable[[Tensor, Pair, LPIPS | None], float | None]
    """Takes the measure; None if it does not apply."""
    unit: str = ""
    lower_is_better: bool = False


def measured(upscaled: Tensor, pair: Pair, measures: Collection[str], lpips: LPIPS | None = None) -> dict[str, float]:
    """Take some measures of a picture, by their names in `MEASURES`; those that do not apply are left out."""
    values = {name: MEASURES[name].of(upscaled, pair, lpips) for name in measures}
    return {name: value for name, value in values.items() if value is not None}


def _niqe_or_none(upscaled: Tensor, pair: Pair, _: LPIPS | None) -> float | None:
    try:
        return niqe(upscaled, border=pair.scale)
    except ValueError:  # fewer than two blocks with texture: the measure does not apply
        return None


MEASURES = {
    "psnr_y": Measure(
        "PSNR-Y", ".2f", lambda upscaled, pair, _: psnr_y(upscaled, pair.high_res, border=pair.scale), unit="dB"
    ),
    "ssim_y": Measure("SSIM-Y", ".4f", lambda upscaled, pair, _: ssim_y(upscaled, pair.high_res, border=pair.scale)),
    "lpips": Measure(
        "LPIPS",
        ".4f",
        lambda upscaled, pair, lpips: lpips.distance(upscaled, pair.high_res) if lpips else None,
        lower_is_better=True,
    ),
    "niqe": Measure("NIQE", ".2f", _niqe_or_none, lower_is_better=True),
    "colour_shift": Measure(
        "colour shift", ".2f", lambda upscaled, pair, _: colour_shift(upscaled, pair.low_res), lower_is_better=True
    ),
    "grain": Measure(
        "grain", ".2f", lambda upscaled, pair, _: grain(upscaled, pair.high_res), unit="levels", lower_is_better=True
    ),
}
"""Measures by name. PSNR and SSIM cut `scale` px from every border, as the literature does."""
