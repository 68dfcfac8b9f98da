"""Measure weight files as the literature does, next to bicubic, picture by picture.

PSNR and SSIM on Y with `scale` px cut from every border, LPIPS on RGB, NIQE on Y, all on what the service would answer;
and the colour shift, which none of them sees.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from model.reliable import ReliableUpscaler
from model.upscaler import Upscaler
from training.colour import colour_shift
from training.damage import Damage, damaged_pair
from training.data import DataError, Pair, originals, picture_files, read_pairs, read_picture, too_small
from training.degrade import crop_to_multiple, enlarge_bicubic
from training.flat import FlatScores, flat_table
from training.lpips import LPIPS
from training.metrics import psnr_y, ssim_y
from training.niqe import niqe

LEAST_PX = 32
"""Shortest side of an original that every measure but NIQE applies to."""

Upscale = Callable[[Tensor], Tensor]
"""uint8 RGB (3, H, W) -> (3, scale * H, scale * W)."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Measures of one picture, or their means over a set; None where a measure does not apply."""

    psnr_y: float
    """dB; higher is nearer to the original."""
    ssim_y: float
    """Up to 1; higher is nearer."""
    lpips: float | None
    """From 0; lower looks nearer."""
    niqe: float | None
    """Lower looks more natural; knows no original. None for pictures too small for it."""
    colour_shift: float
    """Mean distance in CIELAB between the coarse colours of the output and those of the input; 1 is just noticeable."""


MEASURES = tuple(field.name for field in fields(Scores))
TITLES = ("PSNR-Y", "SSIM-Y", "LPIPS", "NIQE", "colour shift")
FORMATS = (".2f", ".4f", ".4f", ".2f", ".2f")


@dataclass(frozen=True, kw_only=True)
class SetScores:
    """Scores of one generator on one set."""

    set: str
    generator: str
    pictures: dict[str, Scores]

    @property
    def mean(self) -> Scores:
        """The mean over the pictures, which is what papers report."""
        return mean(list(self.pictures.values()))


def benchmark_pairs(folder: Path, scale: int) -> Iterator[Pair]:
    """Read the pairs of a set: `HR` and `LRbicX4` where the folder has them, else its originals, reduced by bicubic.

    Raises:
        DataError: there is no picture, one is too small to be measured, or a low-res one has the wrong size.
        OSError: a picture is missing or cannot be read.
    """
    low_res_folder = folder / f"LRbicX{scale}"
    if not low_res_folder.is_dir():
        yield from reduced_originals(folder, scale)
        return
    for path in picture_files(folder / "HR"):
        high_res = crop_to_multiple(read_picture(path), scale)
        low_res = read_picture(low_res_folder / path.name)
        height, width = high_res.shape[-2:]
        if problem := too_small(path, height, width, LEAST_PX):
            raise DataError(problem)
        if any(high != scale * low for high, low in zip(high_res.shape[1:], low_res.shape[1:], strict=True)):
            raise DataError(f"{path.name}: the picture in {low_res_folder.name} is not {scale} times smaller")
        yield Pair(path.stem, low_res, high_res)


def reduced_originals(folder: Path, scale: int) -> Iterator[Pair]:
    """Reduce every original of a folder by bicubic.

    Raises:
        DataError: there is no picture, or one cannot be read or is too small to be measured.
    """
    for pair in read_pairs(originals(folder), scale, least_px=math.ceil(LEAST_PX / scale)):
        if isinstance(pair, str):
            raise DataError(pair)
        yield pair


def damaged_originals(folder: Path, scale: int, damage: Damage) -> Iterator[Pair]:
    """Make an upload of one kind from every original of a folder; raises as `reduced_originals` does."""
    return (damaged_pair(pair, damage) for pair in reduced_originals(folder, scale))


def evaluate(name: str, pairs: Iterable[Pair], generators: dict[str, Upscale], lpips: LPIPS | None) -> list[SetScores]:
    """Let every generator upscale every picture of a set, and compare.

    Args:
        name: the set's.
        generators: by name; `bicubic` and `as_service` make some.
        lpips: None leaves that measure out.

    Raises:
        DataError: two pictures have one name.
    """
    results = {generator: SetScores(set=name, generator=generator, pictures={}) for generator in generators}
    seen: set[str] = set()
    for pair in pairs:
        if pair.name in seen:
            raise DataError(f"two pictures of {name} are named {pair.name}; rename one of them")
        seen.add(pair.name)
        for generator, upscale in generators.items():
            results[generator].pictures[pair.name] = scores(pair, upscale(pair.low_res), lpips)
    return list(results.values())


def scores(pair: Pair, upscaled: Tensor, lpips: LPIPS | None) -> Scores:
    """Every measure of one upscaled picture."""
    scale = pair.high_res.shape[-1] // pair.low_res.shape[-1]
    return Scores(
        psnr_y=psnr_y(upscaled, pair.high_res, border=scale),
        ssim_y=ssim_y(upscaled, pair.high_res, border=scale),
        lpips=lpips.distance(upscaled, pair.high_res) if lpips else None,
        niqe=_niqe_or_none(upscaled, border=scale),
        colour_shift=colour_shift(upscaled, pair.low_res),
    )


def _niqe_or_none(upscaled: Tensor, *, border: int) -> float | None:
    try:
        return niqe(upscaled, border=border)
    except ValueError:  # fewer than two blocks with texture: the measure does not apply
        return None


def mean(pictures: Sequence[Scores]) -> Scores:
    """The mean of each measure over the pictures that have it."""
    means = {}
    for measure in MEASURES:
        values = [value for value in (getattr(one, measure) for one in pictures) if value is not None]
        means[measure] = sum(values) / len(values) if values else None
    return Scores(**means)  # type: ignore[arg-type]  # the three that are never None have a mean


def bicubic(scale: int) -> Upscale:
    """MATLAB's bicubic enlargement, which every generator must beat."""
    return lambda low_res: enlarge_bicubic(low_res, scale)


def as_service(upscaler: Upscaler | ReliableUpscaler) -> Upscale:
    """Upscale as the service does: the same code, device and number format."""

    def upscale(low_res: Tensor) -> Tensor:
        pixels = upscaler.upscale(low_res.permute(1, 2, 0)[None].contiguous().numpy())
        return torch.from_numpy(pixels)[0].permute(2, 0, 1)

    return upscale


def picture_table(result: SetScores) -> str:
    """Every picture of one set and generator, and the mean, as a Markdown table."""
    rows = [(name, one) for name, one in result.pictures.items()] + [("**mean**", result.mean)]
    lines = [f"### {result.set}, {result.generator}", "", _head("picture")]
    return "\n".join([*lines, *(f"| {name} | {_cells(one)} |" for name, one in rows)])


def summary_table(results: Iterable[SetScores]) -> str:
    """The mean of every set and generator as a Markdown table."""
    rows = (f"| {result.set} | {result.generator} | {_cells(result.mean)} |" for result in results)
    return "\n".join([_head("set | generator"), *rows])


def all_tables(results: Sequence[SetScores], flat: Sequence[FlatScores]) -> list[str]:
    """The tables that there are: means of all sets, flat colours, then picture by picture."""
    means = [summary_table(results)] if results else []
    return [*means, *([flat_table(flat)] if flat else []), *map(picture_table, results)]


def save(results: Sequence[SetScores], out: Path, flat: Sequence[FlatScores] = ()) -> tuple[Path, Path]:
    """Write `out`.md, the tables, and `out`.json, every number; returns both."""
    out.parent.mkdir(parents=True, exist_ok=True)
    tables, numbers = (out.with_name(out.name + suffix) for suffix in (".md", ".json"))
    text = "\n\n".join(all_tables(results, flat)) + "\n"
    tables.write_text(text, encoding="utf-8", errors="backslashreplace")
    everything = [asdict(result) | {"mean": asdict(result.mean)} for result in results]
    everything += [{"set": one.set} | asdict(one) for one in flat]
    numbers.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    return tables, numbers


def printable(text: str) -> str:
    """A text with names of files as any terminal can show it: characters that it lacks become escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _head(first: str) -> str:
    columns = [*first.split(" | "), *TITLES]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def _cells(one: Scores) -> str:
    values = ((getattr(one, measure), form) for measure, form in zip(MEASURES, FORMATS, strict=True))
    return " | ".join("" if value is None else format(value, form) for value, form in values)
