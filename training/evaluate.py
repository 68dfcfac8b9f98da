"""Measures a weight file as the literature does: PSNR and SSIM on Y, beside bicubic, picture by picture."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.upscaler import Upscaler
from training.data import DataError, Pair, picture_files, read_pairs, read_picture
from training.degrade import crop_to_multiple, enlarge_bicubic
from training.metrics import psnr_y, ssim_y


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One picture, or the mean of a set."""

    name: str
    psnr_y: float
    """dB."""
    ssim_y: float
    bicubic_psnr_y: float
    """dB."""
    bicubic_ssim_y: float


def benchmark_pairs(folder: Path, scale: int) -> Iterator[Pair]:
    """The pictures of a set: `HR` and `LRbicX4` where the folder has them, else its pictures, reduced by bicubic.

    Raises:
        DataError: there is no picture, or a low-res one has the wrong size.
        OSError: a picture is missing or cannot be read.
    """
    low_res_folder = folder / f"LRbicX{scale}"
    if not low_res_folder.is_dir():
        for pair in read_pairs(folder, scale):
            if isinstance(pair, str):
                raise DataError(pair)
            yield pair
        return
    for path in picture_files(folder / "HR"):
        high_res = crop_to_multiple(read_picture(path), scale)
        low_res = read_picture(low_res_folder / path.name)
        if any(high != scale * low for high, low in zip(high_res.shape[1:], low_res.shape[1:], strict=True)):
            raise DataError(f"{path.name}: the picture in {low_res_folder.name} is not {scale} times smaller")
        yield Pair(path.stem, low_res, high_res)


def evaluate(upscaler: Upscaler, pairs: Iterable[Pair]) -> list[Scores]:
    """Upscale every picture as the service does, and compare; `scale` px are cut from every border."""
    return [_scores(pair, _upscaled(upscaler, pair.low_res), upscaler.scale) for pair in pairs]


def mean(name: str, scores: list[Scores]) -> Scores:
    """The mean of a set, which is what papers report."""
    measures = ("psnr_y", "ssim_y", "bicubic_psnr_y", "bicubic_ssim_y")
    return Scores(name=name, **{m: sum(getattr(score, m) for score in scores) / len(scores) for m in measures})


def table(scores: Iterable[Scores]) -> str:
    """Scores as a Markdown table."""
    lines = ["| picture | PSNR-Y | bicubic | SSIM-Y | bicubic |", "|---|---|---|---|---|"]
    lines += [
        f"| {s.name} | {s.psnr_y:.2f} | {s.bicubic_psnr_y:.2f} | {s.ssim_y:.4f} | {s.bicubic_ssim_y:.4f} |"
        for s in scores
    ]
    return "\n".join(lines)


def _upscaled(upscaler: Upscaler, low_res: Tensor) -> Tensor:
    pixels = upscaler.upscale(low_res.permute(1, 2, 0)[None].contiguous().numpy())
    return torch.from_numpy(pixels)[0].permute(2, 0, 1)


def _scores(pair: Pair, upscaled: Tensor, scale: int) -> Scores:
    bicubic = enlarge_bicubic(pair.low_res, scale)
    return Scores(
        name=pair.name,
        psnr_y=psnr_y(upscaled, pair.high_res, border=scale),
        ssim_y=ssim_y(upscaled, pair.high_res, border=scale),
        bicubic_psnr_y=psnr_y(bicubic, pair.high_res, border=scale),
        bicubic_ssim_y=ssim_y(bicubic, pair.high_res, border=scale),
    )
