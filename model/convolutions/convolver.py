"""The contract of a 3x3 convolution over a window of rows, and what the ways to run it share."""

from typing import Protocol

import torch
from torch import Tensor, nn

from model.workspace import Padding, rows_like


class Convolver(Protocol):
    """Runs the convolutions of a network."""

    def __call__(
        self,
        conv: nn.Conv2d,
        window: Tensor,
        *,
        active: bool = False,
        residual: float = 0.0,
        skip: Tensor | None = None,
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """(N, C, R, W), one pixel of padding included -> (N, out_channels, R - 2, W - 2); no rows if R is less than 3.

        Args:
            active: LeakyReLU comes after it.
            residual: factor of the result, which is added to the window's own first channels; 0 if nothing is.
            skip: float32, what the result is added to instead, in place; then this is returned, and there is no target.
            target: where the result goes, and what is returned; may be other channels of the window's buffer.
            grid_row: number of the first row of the result, counted from a row that does not depend on how a picture
                is cut into bands. Results that are computed in tiles then never depend on it either.
        """


def name_of(convolver: Convolver) -> str:
    """Return a short name for logs and metrics: `fused` is our kernel for GPUs, `winograd` and `amx` ours for CPUs."""
    name = getattr(convolver, "__name__", type(convolver).__name__)
    return "library" if name == "library_convolution" else name.removesuffix("Convolver").lower()


def finished(made: Tensor, window: Tensor, residual: float, skip: Tensor | None, target: Tensor | None) -> Tensor:
    """Add the result of a convolution to a skip or to its window's first channels, if asked to, and put it in place."""
    if skip is not None:
        return skip.add_(made, alpha=residual)
    if residual and made.shape[2]:
        made = torch.add(window[:, : made.shape[1], 1:-1, 1:-1], made, alpha=residual)
    return made if target is None else target.copy_(made)


def room_for(conv: nn.Conv2d, window: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Allocate the result of a convolution, channels last."""
    return rows_like(window[:, :, 1:-1, 1:-1], window.shape[2] - 2, conv.out_channels, dtype)


class PaddedConvolver:
    """Another convolver, after which the pixels next to the pictures of a batch are padding again."""

    def __init__(self, convolve: Convolver, padding: Padding) -> None:
        self._convolve = convolve
        self._padding = padding

    def __call__(
        self,
        conv: nn.Conv2d,
        window: Tensor,
        *,
        active: bool = False,
        residual: float = 0.0,
        skip: Tensor | None = None,
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """See `Convolver`."""
        made = self._convolve(
            conv, window, active=active, residual=residual, skip=skip, target=target, grid_row=grid_row
        )
        self._padding.fill(made)
        return made
