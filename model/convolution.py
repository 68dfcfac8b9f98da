"""A 3x3 convolution over a window of rows, and the ways to run it; `model.trial` finds the fastest."""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from model import fused, winograd
from model.amx import convolution as amx
from model.rrdb import NEGATIVE_SLOPE
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
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """(N, C, R, W), one pixel of padding included -> (N, out_channels, R - 2, W - 2); no rows if R is less than 3.

        Args:
            active: LeakyReLU comes after it.
            residual: factor of the result, which is added to the window's own first channels; 0 if nothing is.
            target: where the result goes, and what is returned; may be other channels of the window's buffer.
            grid_row: number of the first row of the result, counted from a row that does not depend on how a picture
                is cut into bands. Results that are computed in tiles then never depend on it either.
        """


def library_convolution(
    conv: nn.Conv2d,
    window: Tensor,
    *,
    active: bool = False,
    residual: float = 0.0,
    target: Tensor | None = None,
    grid_row: int = 0,
) -> Tensor:
    """PyTorch's own convolution: oneDNN's on a CPU, cuDNN's on a GPU. See `Convolver`."""
    if window.shape[2] < 3:
        made = window.new_empty(window.shape[0], conv.out_channels, 0, window.shape[3] - 2)
    else:
        made = functional.conv2d(window, conv.weight, conv.bias)
        made = functional.leaky_relu(made, NEGATIVE_SLOPE, inplace=True) if active else made
    return _finished(made, window, residual, target)


def _finished(made: Tensor, window: Tensor, residual: float, target: Tensor | None) -> Tensor:
    """Add what a convolution made to its window's first channels, if asked to, and put it where it goes."""
    if residual and made.shape[2]:
        made = torch.add(window[:, : made.shape[1], 1:-1, 1:-1], made, alpha=residual)
    return made if target is None else target.copy_(made)


def _room_for(conv: nn.Conv2d, window: Tensor) -> Tensor:
    """Allocate the result of a convolution, channels last."""
    return rows_like(window[:, :, 1:-1, 1:-1], window.shape[2] - 2, conv.out_channels)


class OneDnnConvolver:
    """oneDNN's convolution with LeakyReLU on the way out, its weights laid out once instead of in every call."""

    def __init__(self) -> None:
        self._packed: dict[nn.Conv2d, Tensor] = {}

    def __call__(
        self,
        conv: nn.Conv2d,
        window: Tensor,
        *,
        active: bool = False,
        residual: float = 0.0,
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """See `Convolver`."""
        if window.shape[2] < 3:
            return library_convolution(conv, window, active=active, residual=residual, target=target)
        padding, one = [0, 0], [1, 1]
        if conv not in self._packed:
            # The shape is a hint for the layout; windows of others are right as well.
            self._packed[conv] = torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight, padding, one, one, 1, window.shape
            )
        after = ("leaky_relu", [NEGATIVE_SLOPE], "") if active else ("none", [], "")
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            window, self._packed[conv], conv.bias, padding, one, one, 1, *after
        )
        return _finished(made, window, residual, target)


class FusedConvolver:
    """The kernel of `model.fused`, for convolutions in 16 bits; the few float32 ones are the library's."""

    def __init__(self) -> None:
        self._packed: dict[nn.Conv2d, fused.Packed] = {}

    def __call__(
        self,
        conv: nn.Conv2d,
        window: Tensor,
        *,
        active: bool = False,
        residual: float = 0.0,
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """See `Convolver`."""
        if conv.weight.dtype is torch.float32 or window.shape[2] < 3:
            return library_convolution(conv, window, active=active, residual=residual, target=target)
        if conv not in self._packed:
            self._packed[conv] = fused.pack(conv)
        if target is None:
            target = _room_for(conv, window)
        slope = NEGATIVE_SLOPE if active else None
        skip = window[:, : conv.out_channels, 1:-1, 1:-1] if residual else None
        fused.convolve(window, self._packed[conv], target, negative_slope=slope, skip=skip, alpha=residual or 1.0)
        return target


class WinogradConvolver:
    """The convolutions of `model.winograd`; those that it does not take are another convolver's."""

    def __init__(self, other: Convolver) -> None:
        self._other = other
        self._packed: dict[nn.Conv2d, winograd.Packed | None] = {}

    def __call__(
        self,
        conv: nn.Conv2d,
        window: Tensor,
        *,
        active: bool = False,
        residual: float = 0.0,
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """See `Convolver`."""
        if conv not in self._packed:
            self._packed[conv] = winograd.Packed(conv) if winograd.takes(conv) else None
        packed = self._packed[conv]
        if packed is None or window.shape[2] < 3:
            return self._other(conv, window, active=active, residual=residual, target=target)
        if target is None:
            target = _room_for(conv, window)
        slope = NEGATIVE_SLOPE if active else 1.0
        packed(window, target, negative_slope=slope, residual_scaling=residual, grid_row=grid_row)
        return target


class AmxConvolver:
    """The convolutions of `model.amx`; those that it does not take are another convolver's."""

    def __init__(self, other: Convolver) -> None:
        self._other = other
        self._packed: dict[nn.Conv2d, amx.Packed | None] = {}

    def __call__(
        self,
        conv: nn.Conv2d,
        window: Tensor,
        *,
        active: bool = False,
        residual: float = 0.0,
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """See `Convolver`."""
        if conv not in self._packed:
            self._packed[conv] = amx.Packed(conv.weight, conv.bias) if amx.takes(conv) else None
        packed = self._packed[conv]
        if packed is None or window.shape[2] < 3:
            return self._other(conv, window, active=active, residual=residual, target=target)
        if target is None:
            target = _room_for(conv, window)
        skip = window[:, : conv.out_channels, 1:-1, 1:-1] if residual else None
        slope = NEGATIVE_SLOPE if active else 1.0
        amx.convolve(window, packed, made=target, skip=skip, negative_slope=slope, scaling=residual or 1.0)
        return target


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
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """See `Convolver`."""
        made = self._convolve(conv, window, active=active, residual=residual, target=target, grid_row=grid_row)
        self._padding.fill(made)
        return made
