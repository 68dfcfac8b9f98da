"""Measure weight files as the literature does, next to bicubic, picture by picture.

PSNR and SSIM on Y with `scale` px cut from every border, LPIPS on RGB, NIQE on Y, all on what the service would answer;
and the colour shift, which none of them sees.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from model.reliable import ReliableUpscaler
from model.upscaler import Upscaler
from training.data import DataError, Pair
from training.degrade import enlarge_bicubic
from training.flat import FlatScores, flat_table
from training.lpips import LPIPS
from training.measures import MEASURES, Upscale, measured
from training.pairs import read_pairs
from training.tables import table

MIN_MEASURED_PX = 32
"""Shortest side of an original that every measure but NIQE applies to."""

USUAL_MEASURES = ("psnr_y", "ssim_y", "lpips", "colour_shift")
"""NIQE is no goal: it calls sharpened noise natural."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Measures of one picture, or their means over a set; None if one was not taken or does not apply."""

    psnr_y: float | None = None
    """dB; higher is nearer to the original."""
    ssim_y: float | None = None
    """Up to 1; higher is nearer."""
    lpips: float | None = None
    """From 0; lower looks nearer."""
    niqe: float | None = None
    """Lower looks more natural; knows no original. Pictures too small for it have none."""
    colour_shift: float | None = None
    """Mean distance in CIELAB between the coarse colours of the output and those of the input; 1 is just noticeable."""
    grain: float | None = None
    """Levels of noise where the original is smooth. Pictures with little of that have none."""


@dataclass(frozen=True, kw_only=True)
class SetScores:
    """Scores of one generator on one set."""

    set: str
    generator: str
    measures: tuple[str, ...]
    pictures: dict[str, Scores]

    @property
    def mean(self) -> Scores:
        """The mean over the pictures, which is what papers report."""
        return mean(list(self.pictures.values()))


def min_measured_px(scale: int) -> int:
    """Return the shortest side that an original must have, in whole low-res pixels."""
    return -(-MIN_MEASURED_PX // scale) * scale


def pairs_to_measure(folder: Path, scale: int, low_res: Path | None = None) -> Iterator[Pair]:
    """Read every pair of a folder; see `find_pairs`.

    Raises:
        DataError: there are no pictures, or one cannot be read, has no partner, or is too small to be measured.
    """
    for pair in read_pairs(folder, scale, low_res=low_res, min_px=min_measured_px(scale)):
        if isinstance(pair, str):
            raise DataError(pair)
        yield pair


def evaluate(
    name: str,
    pairs: Iterable[Pair],
    generators: Mapping[str, Upscale],
    measures: Collection[str] = USUAL_MEASURES,
    lpips: LPIPS | None = None,
    folder: Path | None = None,
) -> list[SetScores]:
    """Let every generator upscale every picture of a set, and compare.

    Args:
        name: the set's.
        generators: by name; `bicubic` and `as_service` make some.
        lpips: None leaves that measure out.
        folder: takes the upscaled pictures as PNG files, `SET/GENERATOR/PICTURE.png`.

    Raises:
        DataError: two pictures have one name.
    """
    taken = tuple(measure for measure in MEASURES if measure in measures and (lpips or measure != "lpips"))
    results = {one: SetScores(set=name, generator=one, measures=taken, pictures={}) for one in generators}
    seen: set[str] = set()
    for pair in pairs:
        if pair.name in seen:
            raise DataError(f"two pictures of {name} are named {pair.name}; rename one of them")
        seen.add(pair.name)
        for generator, upscale in generators.items():
            upscaled = upscale(pair.low_res)
            if folder:
                _save_picture(upscaled, folder / name / generator / f"{pair.name}.png")
            results[generator].pictures[pair.name] = Scores(**measured(upscaled, pair, taken, lpips))
    return list(results.values())


def _save_picture(picture: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)


def mean(pictures: Sequence[Scores]) -> Scores:
    """Take the mean of each measure over the pictures that have it."""
    means: dict[str, float | None] = {}
    for measure in MEASURES:
        values = [value for value in (getattr(one, measure) for one in pictures) if value is not None]
        means[measure] = sum(values) / len(values) if values else None
    return Scores(**means)


def bicubic(scale: int) -> Upscale:
    """Make MATLAB's bicubic enlargement, which every generator must beat."""
    return lambda low_res: enlarge_bicubic(low_res, scale)


def as_service(upscaler: Upscaler | ReliableUpscaler) -> Upscale:
    """Upscale as the service does: the same code, device and number format."""

    def upscale(low_res: Tensor) -> Tensor:
        pixels = upscaler.upscale(low_res.permute(1, 2, 0)[None].contiguous().numpy())
        return torch.from_numpy(pixels)[0].permute(2, 0, 1)

    return upscale


def picture_table(result: SetScores) -> str:
    """Write every picture of one set and generator, and the mean, as a Markdown table."""
    rows = [(name, one) for name, one in result.pictures.items()] + [("**mean**", result.mean)]
    lines = [[name, *_cells(one, result.measures)] for name, one in rows]
    return f"### {result.set}, {result.generator}\n\n" + table(["picture", *_titles(result.measures)], lines)


def summary_table(results: Sequence[SetScores]) -> str:
    """Write the mean of every set and generator as a Markdown table."""
    measures = results[0].measures
    rows = [[result.set, result.generator, *_cells(result.mean, measures)] for result in results]
    return table(["set", "generator", *_titles(measures)], rows, texts=2)


def all_tables(results: Sequence[SetScores], flat: Sequence[FlatScores]) -> list[str]:
    """List the tables: means of all sets, flat colours, then picture by picture."""
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


def _titles(measures: Sequence[str]) -> list[str]:
    return [MEASURES[measure].title for measure in measures]


def _cells(one: Scores, measures: Sequence[str]) -> list[str]:
    values = ((getattr(one, measure), MEASURES[measure].form) for measure in measures)
    return ["" if value is None else format(value, form) for value, form in values]
