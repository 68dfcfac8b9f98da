"""Measuring a generator on whole pictures while it is trained, and panels to look at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.files.checkpoint import reference_output
from model.rrdb import RRDBNet, places_with_margin
from model.streaming import upscale_rows
from training.colour import colour_shift
from training.damage import Damage
from training.data import Pair
from training.degrade import enlarge_bicubic
from training.journal import PANEL_PX
from training.lpips import LPIPS
from training.metrics import psnr_y

Scores = dict[str, dict[str, float]]
"""Means over the pictures, by measure, then by kind of upload."""

LOWER_IS_BETTER = ("lpips", "colour_shift")
WHOLE_PX = 2**17
"""Maximum LR px of pictures that are upscaled at once; larger ones are upscaled in bands."""
BAND_PX = 2**15
MAX_PANELS = 4

Upscale = Callable[[Tensor], Tensor]
"""uint8 RGB (3, H, W) -> (3, scale * H, scale * W)."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The pictures that a run is measured on."""

    pairs: Mapping[Damage, Sequence[Pair]]
    """Pictures by the kind of upload that their low-res side is."""
    lpips: LPIPS | None = None
    """None leaves that measure out."""

    def __bool__(self) -> bool:
        return any(self.pairs.values())

    def scores_of(self, upscale: Upscale) -> Scores:
        """Measure the mean over whole pictures."""
        sums: dict[str, dict[str, list[float]]] = {}
        for damage, pairs in self.pairs.items():
            for pair in pairs:
                for measure, value in self._of_picture(upscale(pair.low_res).cpu(), pair).items():
                    sums.setdefault(measure, {}).setdefault(damage, []).append(value)
        return {
            measure: {damage: sum(values) / len(values) for damage, values in kinds.items()}
            for measure, kinds in sums.items()
        }

    def bicubic(self, scale: int) -> Scores:
        """Measure what every generator must beat."""
        return self.scores_of(lambda low_res: enlarge_bicubic(low_res, scale))

    def panels(self, net: RRDBNet, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The middle of some pictures, four ways: low_res, bicubic, upscaled, high_res."""
        shown = [pair for group in zip(*self.pairs.values(), strict=True) for pair in group]
        return [_panel(net, pair, device) for pair in shown[:MAX_PANELS]]

    def _of_picture(self, upscaled: Tensor, pair: Pair) -> dict[str, float]:
        scale = pair.high_res.shape[-1] // pair.low_res.shape[-1]
        measured = {
            "psnr_y": min(MAX_PSNR_DB, psnr_y(upscaled, pair.high_res, border=scale)),
            "colour_shift": colour_shift(upscaled, pair.low_res),
        }
        if self.lpips:
            measured["lpips"] = self.lpips.distance(upscaled, pair.high_res)
        return measured


MAX_PSNR_DB = 100.0
"""PSNR-Y of a picture that is exactly right, so that one flat picture does not make a mean infinite."""


def overall(scores: Scores, measure: str) -> float:
    """One number, higher for better generators: the mean over the kinds of uploads."""
    values = scores[measure].values()
    mean = sum(values) / len(values)
    return -mean if measure in LOWER_IS_BETTER else mean


def upscaled(net: RRDBNet, picture: Tensor) -> Tensor:
    """Upscale a picture of any size as `reference_output` does: uint8 RGB (3, H, W), on the network's device."""
    if picture.shape[1] * picture.shape[2] <= WHOLE_PX:
        return reference_output(net, picture)
    config = net.config
    margin, unshuffle = config.margin_px, config.unshuffle
    rows, columns = (torch.tensor(places_with_margin(side, margin, unshuffle)) for side in picture.shape[1:])
    band_rows = max(1, BAND_PX // (len(columns) * unshuffle)) * unshuffle
    bands = (picture[:, some[:, None], columns][None].float() / 255 for some in rows.split(band_rows))
    made = (
        band[0].mul(255).round().clamp(0, 255).to(torch.uint8) for band in upscale_rows(net, bands, band_rows=band_rows)
    )
    first, (height, width) = config.scale * margin, (config.scale * side for side in picture.shape[1:])
    whole = torch.cat([band.cpu() for band in made], dim=1)
    return whole[:, first : first + height, first : first + width].contiguous()


def _panel(net: RRDBNet, pair: Pair, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scale = net.config.scale
    height, width = pair.low_res.shape[1:]
    side = min(height, width, PANEL_PX // scale)
    top, left = (height - side) // 2, (width - side) // 2
    low_res = pair.low_res[:, top : top + side, left : left + side]
    high_res = pair.high_res[:, top * scale : (top + side) * scale, left * scale : (left + side) * scale]
    return low_res, enlarge_bicubic(low_res, scale), reference_output(net, low_res.to(device)), high_res
