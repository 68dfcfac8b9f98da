"""Flat colours: how far a generator moves them, inside a picture and at its border."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from model.reliable import ReliableUpscaler
from model.transfer import Pixels
from model.upscaler import Upscaler
from training.tables import table

LATTICE = 16
"""Values of each channel, evenly from 0 to 255; so 4,096 colours."""

FLAT_PX = 16
"""Side of the flat pictures, in low-res pixels: most networks reach across."""

BORDER_PX = 4
"""Width of the border, in pixels of the output."""

_BATCH = 64

Colours = NDArray[numpy.uint8]


@dataclass(frozen=True, kw_only=True)
class FlatScores:
    """Errors of one generator on flat colours, in levels of 255."""

    generator: str
    colours: int
    inside: float
    """The largest error of any channel of any pixel of any colour."""
    inside_mean: float
    border: float
    border_mean: float
    worst: str
    """The colour with the largest error of all, as `#rrggbb`."""

    @property
    def set(self) -> str:
        """Name of the measured colours, like that of a set of pictures."""
        return f"{self.colours} flat colours"

    def numbers(self) -> dict[str, float]:
        """The errors by name."""
        return {
            "inside": self.inside,
            "inside_mean": self.inside_mean,
            "border": self.border,
            "border_mean": self.border_mean,
        }


def lattice(side: int) -> Colours:
    """Every combination of `side` values of red, green and blue, evenly from 0 to 255: (side ** 3, 3)."""
    values = numpy.linspace(0, 255, side).round().astype(numpy.uint8)
    return numpy.stack(numpy.meshgrid(values, values, values, indexing="ij"), axis=-1).reshape(-1, 3)


def flat_scores(generator: str, upscaler: Upscaler | ReliableUpscaler, side: int = LATTICE) -> FlatScores:
    """Upscale a flat picture of every colour of a lattice, as the service does, and compare."""
    colours = lattice(side)
    inside, border = (numpy.concatenate(errors) for errors in zip(*_errors(upscaler, colours), strict=True))
    worst = colours[numpy.maximum(inside.max(axis=1), border.max(axis=1)).argmax()]
    return FlatScores(
        generator=generator,
        colours=len(colours),
        inside=float(inside.max()),
        inside_mean=float(inside.mean()),
        border=float(border.max()),
        border_mean=float(border.mean()),
        worst=f"#{bytes(worst.tolist()).hex()}",
    )


def _errors(
    upscaler: Upscaler | ReliableUpscaler, colours: Colours
) -> Iterator[tuple[NDArray[numpy.int16], NDArray[numpy.int16]]]:
    """Absolute errors of some colours at a time, inside and at the border: each (colours, values)."""
    for first in range(0, len(colours), _BATCH):
        some = colours[first : first + _BATCH]
        pictures: list[Pixels] = [numpy.full((1, FLAT_PX, FLAT_PX, 3), colour, dtype=numpy.uint8) for colour in some]
        upscaled = numpy.concatenate(upscaler.batch(pictures)).astype(numpy.int16)
        error = numpy.abs(upscaled - some[:, None, None])
        at_border = numpy.ones(error.shape[1:3], dtype=bool)
        at_border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
        yield error[:, ~at_border].reshape(len(some), -1), error[:, at_border].reshape(len(some), -1)


def flat_table(results: Sequence[FlatScores]) -> str:
    """One line for each generator, as a Markdown table."""
    head = ("flat colours", "generator", "inside: most", "mean", "border: most", "mean", "worst colour")
    rows = []
    for one in results:
        inside = (f"{one.inside:.0f}", f"{one.inside_mean:.2f}")
        border = (f"{one.border:.0f}", f"{one.border_mean:.2f}")
        rows.append((str(one.colours), one.generator, *inside, *border, one.worst))
    return table(head, rows, texts=2)
