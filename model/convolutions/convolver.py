"""The contract of a 3x3 convolution over a window of rows, and the parts that its implementations share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from model.rrdb import NEGATIVE_SLOPE, RRDB, RRDBNet
from model.stage import Stage
from model.workspace import Padding, Workspace, rows_like


@dataclass(frozen=True, kw_only=True, slots=True)
class Epilogue:
    """Operations after a convolution, in the same pass over memory.

    The result is leaky_relu(conv(window) + bias), or without the LeakyReLU; then, if `residual` is not 0,

        window's first channels + residual * result        without a skip
        skip + residual * result                            with one
    """

    active: bool = False
    """Apply the LeakyReLU."""
    residual: float = 0.0
    """Factor of the result before it is added; 0 if nothing is added."""
    skip: Tensor | None = None
    """float32; changed in place and returned. Not allowed together with `target`."""
    target: Tensor | None = None
    """Memory for the result, which is then returned; may be other channels of the window's buffer."""
    grid_row: int = 0
    """Number of the first row of the result, counted from a fixed row of the picture, whatever its bands are.

    Implementations that work in tiles align them to it, so their results do not depend on the bands: with tiles of 4
    rows and grid_row 6, the first tile has the rows 6 and 7 only.
    """

    @property
    def slope(self) -> float:
        """Slope of the LeakyReLU; 1 without one."""
        return NEGATIVE_SLOPE if self.active else 1.0


class Convolver(ABC):
    """Runs the convolutions of a network."""

    name: str
    """Short name for logs and metrics."""

    skips_border: ClassVar[bool] = False
    """True if whole pictures run faster with their sizes given: the border of windows is then not read."""

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
        """Run a convolution; see `convolve` and `Epilogue`."""
        then = Epilogue(active=active, residual=residual, skip=skip, target=target, grid_row=grid_row)
        return self.convolve(conv, window, then)

    @abstractmethod
    def convolve(self, conv: nn.Conv2d, window: Tensor, then: Epilogue) -> Tensor:
        """Convolve (N, C, R, W), one pixel of padding included, to (N, out_channels, R - 2, W - 2).

        There are no rows if R is less than 3.
        """

    def block_stage(self, block: RRDB, workspace: Workspace, lag: int) -> Stage | None:
        """Return a stage that runs a whole RRDB; None to run its convolutions one by one.

        Args:
            lag: see `Stage`.
        """
        return None

    def tail_stage(self, net: RRDBNet, workspace: Workspace, lag: int) -> Stage | None:
        """Return a stage that runs everything after the trunk; None to run its convolutions one by one.

        Args:
            lag: see `Stage`.
        """
        return None

    def padded(self, padding: Padding) -> "Convolver":
        """Return a convolver for a batch of pictures that do not fill their planes, as `padding` says."""
        return PaddedConvolver(self, padding)

    def reads_border(self, conv: nn.Conv2d) -> bool:
        """Check if a convolution reads the border of its window, which then has to be written."""
        return True


def finished(made: Tensor, window: Tensor, then: Epilogue) -> Tensor:
    """Add the result of a convolution to the skip or the window's first channels, if asked to, and store it."""
    if then.skip is not None:
        return then.skip.add_(made, alpha=then.residual)
    if then.residual and made.shape[2]:
        made = torch.add(window[:, : made.shape[1], 1:-1, 1:-1], made, alpha=then.residual)
    return made if then.target is None else then.target.copy_(made)


def allocate_result(conv: nn.Conv2d, window: Tensor) -> Tensor:
    """Allocate the result of a convolution, channels last."""
    return rows_like(window[:, :, 1:-1, 1:-1], window.shape[2] - 2, conv.out_channels)


class PaddedConvolver(Convolver):
    """Runs another convolver and sets the pixels around the pictures of a batch back to padding."""

    def __init__(self, convolve: Convolver, padding: Padding) -> None:
        self._convolve = convolve
        self._padding = padding
        self.name = convolve.name

    def convolve(self, conv: nn.Conv2d, window: Tensor, then: Epilogue) -> Tensor:
        """See `Convolver`."""
        made = self._convolve.convolve(conv, window, then)
        self._padding.fill(made)
        return made
