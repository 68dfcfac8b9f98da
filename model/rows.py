"""Pictures whose rows are made while they are read, so that a network can read its own result."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Protocol

import numpy

from model.edges import Edges
from model.transfer import Pixels

Start = Callable[[], Iterator[Pixels]]
"""Starts to make a picture: yields its next rows (N, some or none, W, 3), the same at each start."""


class Rows:
    """A picture (N, H, W, 3) whose rows are made while they are read, from top to bottom, and dropped after their use.

    Args:
        shape: N, H, W, 3.
        dtype: of its levels.
        start: starts to make it from the top.
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: "Pixels.dtype", start: Start) -> None:  # type: ignore[name-defined]  # numpy's alias
        self.shape = shape
        self.dtype = dtype
        self._start = start
        self._darkest = numpy.zeros(shape[1], numpy.uint16)
        self._brightest = numpy.zeros(shape[1], numpy.uint16)

    def bands(self, rows: Sequence[int], columns: Sequence[int], at_once: int) -> Iterator[Pixels]:
        """Make the picture, and cut some of its rows and columns into bands; see `bands_of`.

        Yields:
            The bands, and an empty one after each step of making the picture, so callers wait for one step at most.
        """
        last_use = {row: number // at_once for number, row in enumerate(rows)}
        held: dict[int, Pixels] = {}
        arrived = 0
        with closing(iter(self)) as source:  # type: ignore[type-var]  # a generator
            for number, top in enumerate(range(0, len(rows), at_once)):
                wanted = rows[top : top + at_once]
                while any(row not in held for row in wanted):
                    made = next(source)
                    self._note_extremes(made, arrived)
                    held |= {arrived + place: made[:, place] for place in range(made.shape[1])}
                    arrived += made.shape[1]
                    yield made[:, :0].take(columns, axis=2)
                yield numpy.stack([held[row] for row in wanted], axis=1).take(columns, axis=2)
                for row in set(wanted):
                    if last_use[row] == number:
                        del held[row]

    def __iter__(self) -> Iterator[Pixels]:
        return self._start()

    def contrast(self, first: int, end: int) -> int:
        """Return the difference of the brightest and the darkest level in rows that have been made."""
        return int(self._brightest[first:end].max()) - int(self._darkest[first:end].min())

    def _note_extremes(self, made: Pixels, first: int) -> None:
        rows = slice(first, first + made.shape[1])
        self._darkest[rows], self._brightest[rows] = made.min(axis=(0, 2, 3)), made.max(axis=(0, 2, 3))


def bands_of(
    picture: Pixels | Rows, rows: Sequence[int], columns: Sequence[int], *, at_once: int | None = None
) -> Iterator[Pixels]:
    """Cut some rows and columns of a picture (N, H, W, 3) into bands of `at_once` rows, by default a single one."""
    at_once = at_once or len(rows)
    if isinstance(picture, Rows):
        yield from picture.bands(rows, columns, at_once)
        return
    for top in range(0, len(rows), at_once):
        yield picture.take(rows[top : top + at_once], axis=1).take(columns, axis=2)


def contrast_of(picture: Pixels | Rows, first: int, end: int) -> float:
    """Return the difference of the brightest and the darkest level in some rows of a picture, in levels of 8 bits."""
    contrast = picture.contrast(first, end) if isinstance(picture, Rows) else int(numpy.ptp(picture[:, first:end]))
    return 255 * contrast / int(numpy.iinfo(picture.dtype).max)


class RowsUpscaler(Protocol):
    """Upscales pictures in bands of rows; see `model.reliable.ReliableUpscaler`."""

    def stream(self, picture: Pixels | Rows, band_rows: int, *, edges: Edges) -> Iterator[Pixels]:
        """Upscale one picture in bands of rows."""


class Passes:
    """A network that upscales its own result, as one stream: each pass reads the rows of the one before as they come.

    So memory grows with the width of the answer only, as in a single pass. Where edges wrap, the first rows depend on
    the last ones, so each pass but the last is made as a whole before the next one begins.

    Args:
        scale: of one pass.
        passes: how often the picture goes through the network; at least once.
    """

    def __init__(self, upscaler: RowsUpscaler, scale: int, passes: int) -> None:
        self._upscaler = upscaler
        self._scale = scale
        self._passes = passes

    def stream(self, picture: Pixels, band_rows: int, *, edges: Edges = "auto") -> Iterator[Pixels]:
        """Upscale one picture of any height. Between two items there is one band of one pass.

        Args:
            band_rows: rows of the picture that have as many px as a band of any pass.
            edges: of all passes.

        Yields:
            The next rows of the result, (N, some or none, W, 3).
        """
        made: Pixels | Rows = picture
        for done in range(self._passes):
            start = partial(self._upscaler.stream, made, max(1, band_rows // self._scale**done), edges=edges)
            planes, height, width, channels = made.shape
            made = Rows((planes, self._scale * height, self._scale * width, channels), picture.dtype, start)
        assert isinstance(made, Rows)
        yield from made
