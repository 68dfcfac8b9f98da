"""Edges of pictures."""

from typing import Literal

Edges = Literal["auto", "wrap"]
"""Pixels that a network sees beyond the edges of a picture: those that suit it, or those of the opposite edge."""


def check_sides(shape: tuple[int, ...], multiple: int) -> None:
    """Check the sides of a picture (N, H, W, 3) that is to wrap.

    Raises:
        ValueError: they are not multiples of this, so that the network's grid would not meet at the edges.
    """
    if any(side % multiple for side in shape[1:3]):
        raise ValueError(f"{shape[2]} x {shape[1]} px are not multiples of {multiple} px")


def places_in_ring(length: int, first: int, count: int) -> list[int]:
    """Return `count` indices of an axis from `first` on, where the last index is followed by the first."""
    return [place % length for place in range(first, first + count)]
