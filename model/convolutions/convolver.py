"""The contract of a 3x3 convolution over a window of rows, and the parts that its implementations share."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from model.workspace import Padding, rows_like


class Convolver(ABC):
    """Runs the convolutions of a network."""

    name: str
    """Short name for logs and metrics."""

    skips_border: ClassVar[bool] = False
    """Whole pictures are faster with their sizes, because the border of windows is then not read."""

    @abstractmethod
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

        The result is leaky_relu(conv(window) + bias), or without the LeakyReLU; then, if `residual` is not 0,

            window's first channels + residual * result        without a skip
            skip + residual * result                            with one

        Args:
            active: apply the LeakyReLU.
            residual: factor of the result before it is added; 0 if nothing is added.
            skip: float32, changed in place and returned. Excludes a target.
            target: memory for the result, which is then returned; may be other channels of the window's buffer.
            grid_row: number of the first row of the result, counted from a row that does not depend on how a picture
                is cut into bands. Implementations that work in tiles align them to it, so their results do not
                depend on the bands: with tiles of 4 rows and grid_row 6, the first tile has the rows 6 and 7 only.
        """

    def padded(self, padding: Padding) -> "Convolver":
        """Return a convolver for a batch of pictures that do not fill their planes, as `padding` says."""
        return PaddedConvolver(self, padding)

    def reads_border(self, conv: nn.Conv2d) -> bool:
        """Check if a convolution reads the border of its window, which then has to be written."""
        return True


def finished(made: Tensor, window: Tensor, residual: float, skip: Tensor | None, target: Tensor | None) -> Tensor:
    """Add the result of a convolution to the skip or the window's first channels, if asked to, and store it."""
    if skip is not None:
        return skip.add_(made, alpha=residual)
    if residual and made.shape[2]:
        made = torch.add(window[:, : made.shape[1], 1:-1, 1:-1], made, alpha=residual)
    return made if target is None else target.copy_(made)


def room_for(conv: nn.Conv2d, window: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Allocate the result of a convolution, channels last."""
    return rows_like(window[:, :, 1:-1, 1:-1], window.shape[2] - 2, conv.out_channels, dtype)


class PaddedConvolver(Convolver):
    """Runs another convolver and sets the pixels around the pictures of a batch back to padding."""

    def __init__(self, convolve: Convolver, padding: Padding) -> None:
        self._convolve = convolve
        self._padding = padding
        self.name = convolve.name

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
