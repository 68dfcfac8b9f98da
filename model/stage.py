"""The contract of a stage: a part of a network that rows go through."""

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

from torch import Tensor


class Stage(Protocol):
    """A part of the network: rows in, rows out."""

    lag: int
    """Rows by which its input lags behind the picture, in rows of that input."""
    row: int
    """Row of the picture at which its next input begins."""

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """Process the next rows (N, C, R, W), which may be the last ones, and return the rows that are complete.

        The last call has at least one row.
        """


@runtime_checkable
class JoinableStage(Stage, Protocol):
    """A stage that is faster in one call with the stages of its kind after it."""

    @classmethod
    def run(cls, stages: Sequence[Self], rows: Tensor, last: bool) -> Tensor:
        """Run stages one after the other, see `Stage`, and count the rows of all but the first in `row`."""


def run_next(stages: Sequence[Stage], rows: Tensor, last: bool) -> tuple[Tensor, Sequence[Stage]]:
    """Run the first stage, and those after it that can be joined with it.

    A stage that releases waiting rows runs alone, since its rows may have to be cut before the next one.

    Returns:
        The rows of its output, and the remaining stages.
    """
    first = stages[0]
    releases = last and first.row > 0
    first.row += rows.shape[2]
    if releases or not isinstance(first, JoinableStage):
        return first(rows, last), stages[1:]
    joined = []
    for stage in stages:
        if not isinstance(stage, type(first)):
            break
        joined.append(stage)
    return first.run(joined, rows, last), stages[len(joined) :]
