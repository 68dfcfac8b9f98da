"""Stages for pictures whose last row is followed by their first one, as in a texture that tiles.

Such a picture has no first row: a stage may begin anywhere, if it reads its first rows again after the last. Its output
is as long as its input, but begins some rows later, and so for each stage. Nothing is padded above or below; the answer
is complete, and rolled by the sum of these rows.
"""

from collections.abc import Iterator

from torch import Tensor

from model.stage import Stage
from model.workspace import SkipPath, rows_like


class WrappedStage:
    """Runs a stage over rows in a ring. Its output begins `reach` rows later than its input.

    Args:
        stage: treats its first and last row as the border of a picture.
        reach: rows of its output that such a border changes.
        factor: rows of output per row of input.
    """

    def __init__(self, stage: Stage, reach: int, factor: int = 1) -> None:
        self.lag, self.row = stage.lag, 0
        self._stage = stage
        self._factor = factor
        self._most_kept = -(-2 * reach // factor)
        self._first: Tensor | None = None
        self._taken = 0
        self._made = -reach
        """Rows of output so far; negative while the first rows are dropped."""

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        if self._first is None:
            self._first = rows_like(rows, self._most_kept)
        new = rows[:, :, : max(0, self._most_kept - self._taken)]
        self._first[:, :, self._taken : self._taken + new.shape[2]] = new
        self._taken += rows.shape[2]
        if last:
            rows = self._with_first(rows, self._first)
        made = self._stage(rows, last)
        begin = max(0, -self._made)
        end = self._factor * self._taken - self._made if last else made.shape[2]
        self._made += made.shape[2]
        return made[:, :, begin:end]

    def _with_first(self, rows: Tensor, first: Tensor) -> Tensor:
        height = rows.shape[2]
        made = rows_like(rows, height + self._most_kept)
        made[:, :, :height] = rows
        made[:, :, height:] = first[:, :, [place % self._taken for place in range(self._most_kept)]]
        return made


class WrappedSkip(SkipPath):
    """Rows of a skip connection in a ring; the convolutions' rows begin `lag` rows later."""

    def __init__(self, lag: int) -> None:
        super().__init__(lag)
        self._most_first = lag
        self._head: Tensor | None = None
        self._count = 0
        self._again = 0
        """Rows that were taken a second time."""

    def put(self, rows: Tensor, *, owned: bool = False) -> None:
        """See `SkipPath`."""
        if self._head is None:
            self._head = rows_like(rows, self._most_first)
        new = rows[:, :, : max(0, self._most_first - self._count)]
        self._head[:, :, self._count : self._count + new.shape[2]] = new
        self._count += rows.shape[2]
        super().put(rows[:, :, new.shape[2] :], owned=owned)

    def _room(self, count: int) -> Tensor:
        assert self._head is not None, "nothing was put"
        return rows_like(self._head, count)

    def _take(self, count: int) -> Iterator[Tensor]:
        for rows in super()._take(count):
            count -= rows.shape[2]
            yield rows
        while count:  # the last row was taken; behind it come the first ones
            place = (max(self._count, self._most_first) + self._again) % self._count
            known = min(self._count, self._most_first)
            assert self._head is not None, "nothing was put"
            rows = self._head[:, :, place : min(known, place + count)]
            self._again += rows.shape[2]
            count -= rows.shape[2]
            yield rows
