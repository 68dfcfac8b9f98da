"""The pixels beyond the edges of pictures: mirrored ones, or those of the opposite edge."""

from typing import Literal

Edges = Literal["auto", "wrap"]
"""Pixels that a network sees beyond the edges of a picture: `auto`, those that suit it; `wrap`, the opposite edge."""


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


def places_with_margin(length: int, margin_px: int, multiple: int = 1) -> list[int]:
    """Return the indices of the pixels of one axis with mirrored ones on both sides.

    Returns:
        `length` + 2 * `margin_px` indices, rounded up to a multiple. The border pixel is repeated once, as in
        1 0 0 1 2 2 1 for a length of 3 and a margin of 2.
    """
    padded = -(-(length + 2 * margin_px) // multiple) * multiple
    places = (place % (2 * length) for place in range(-margin_px, padded - margin_px))
    return [min(place, 2 * length - 1 - place) for place in places]


def mirrored(length: int, multiple: int) -> list[int]:
    """Return the indices of pixels for a side that is mirrored up to a multiple: 0 1 2 1 for length 3, multiple 4."""
    there_and_back = max(1, 2 * (length - 1))
    places = (place % there_and_back for place in range(-(-length // multiple) * multiple))
    return [min(place, there_and_back - place) for place in places]
