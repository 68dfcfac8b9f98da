"""Edges of pictures, and pictures cut into bands of rows."""

from collections.abc import Iterator, Sequence
from typing import Literal

from model.transfer import Pixels

Edges = Literal["auto", "wrap"]
"""What a network sees beyond the edges of a picture: what suits it, or the opposite edge, for a picture that tiles."""


def check_sides(picture: Pixels, multiple: int) -> None:
    """Check the sides of a picture (N, H, W, 3) that is to wrap.

    Raises:
        ValueError: they are not multiples of this, so that the network's grid would not meet at the edges.
    """
    if any(side % multiple for side in picture.shape[1:3]):
        raise ValueError(f"{picture.shape[2]} x {picture.shape[1]} px are not multiples of {multiple} px")


def places_in_ring(length: int, first: int, count: int) -> list[int]:
    """Return `count` places of an axis from `first` on, where the last place is followed by the first."""
    return [place % length for place in range(first, first + count)]


def bands_of(
    picture: Pixels, rows: Sequence[int], columns: Sequence[int], *, at_once: int | None = None
) -> Iterator[Pixels]:
    """Cut some rows and columns of a picture (N, H, W, 3) into bands of `at_once` rows, by default a single one."""
    for top in range(0, len(rows), at_once or len(rows)):
        yield picture.take(rows[top : top + (at_once or len(rows))], axis=1).take(columns, axis=2)
