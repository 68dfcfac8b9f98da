"""The contract of a stage: a part of a network that rows go through."""

from typing import Protocol

from torch import Tensor


class Stage(Protocol):
    """A part of the network: rows in, rows out."""

    lag: int
    """Rows by which its input stays behind the picture, at the size of its input."""
    row: int
    """Row of the picture at which its next input begins."""

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """Process the next rows (N, C, R, W), which may be the last ones, and return the rows that are complete.

        The last call has at least one row.
        """
