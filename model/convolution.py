"""A 3x3 convolution over a window of rows, and the ways to run it; `model.trial` finds the fastest."""

import copy
from collections.abc import Mapping
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


def library_convolution(
    conv: nn.Conv2d,
    window: Tensor,
    *,
    active: bool = False,
    residual: float = 0.0,
    skip: Tensor | None = None,
    target: Tensor | None = None,
    grid_row: int = 0,
) -> Tensor:
    """PyTorch's own convolution: oneDNN's on a CPU, cuDNN's on a GPU. See `Convolver`."""
    window = window.to(conv.weight.dtype)
    if window.shape[2] < 3:
        made = window.new_empty(window.shape[0], conv.out_channels, 0, window.shape[3] - 2)
    else:
        made = functional.conv2d(window, conv.weight, conv.bias)
        made = functional.leaky_relu(made, NEGATIVE_SLOPE, inplace=True) if active else made
    return _finished(made, window, residual, skip, target)


def _finished(made: Tensor, window: Tensor, residual: float, skip: Tensor | None, target: Tensor | None) -> Tensor:
    """Add the result of a convolution to a skip or to its window's first channels, if asked to, and put it in place."""
    if skip is not None:
        return skip.add_(made, alpha=residual)
    if residual and made.shape[2]:
        made = torch.add(window[:, : made.shape[1], 1:-1, 1:-1], made, alpha=residual)
    return made if target is None else target.copy_(made)


def _room_for(conv: nn.Conv2d, window: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Allocate the result of a convolution, channels last."""
    return rows_like(window[:, :, 1:-1, 1:-1], window.shape[2] - 2, conv.out_channels, dtype)


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
        skip: Tensor | None = None,
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """See `Convolver`."""
        if window.shape[2] < 3:
            return library_convolution(conv, window, active=active, residual=residual, skip=skip, target=target)
        window = window.to(conv.weight.dtype)
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
        return _finished(made, window, residual, skip, target)


LARGE_PX = 2**16
"""Outputs from which the kernel is cut as for a large picture."""

Tilings = Mapping[tuple[int, int], tuple[fused.Tiling, fused.Tiling]]
"""Input and output channels -> tilings for few pixels and for many."""


class FusedConvolver:
    """The kernel of `model.fused`, for convolutions in 16 bits; the few float32 ones are the library's.

    Args:
        tilings: for each kind of convolution that the kernel may run, as `model.tuning` found them; other kinds are
            the library's. None: any kind may run, cut in the first way.
    """

    def __init__(self, tilings: Tilings | None = None) -> None:
        self._tilings = tilings
        self._packed: dict[nn.Conv2d, fused.Packed] = {}
        self._padding: Padding | None = None

    def padded(self, padding: Padding) -> "FusedConvolver":
        """Return one for whole pictures in a padded batch: whatever their windows hold beyond them is not read."""
        made = copy.copy(self)
        made._padding = padding
        return made

    def reads_border(self, conv: nn.Conv2d) -> bool:
        """Tell if the border of a window has to be written for a convolution."""
        return self._padding is None or not self._takes(conv)

    def _takes(self, conv: nn.Conv2d) -> bool:
        known = self._tilings is None or (conv.in_channels, conv.out_channels) in self._tilings
        return known and conv.weight.dtype is not torch.float32

    def _tiling(self, conv: nn.Conv2d, made: Tensor) -> fused.Tiling | None:
        if self._tilings is None:
            return None
        small, large = self._tilings[conv.in_channels, conv.out_channels]
        return large if made[:, 0].numel() >= LARGE_PX else small

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
        if not self._takes(conv) or window.shape[2] < 3:
            if self._padding is not None:
                self._padding.fill(window[:, :, 1:-1, 1:-1])
            return library_convolution(conv, window, active=active, residual=residual, skip=skip, target=target)
        if conv not in self._packed:
            self._packed[conv] = fused.pack(conv)
        if skip is not None:
            target = skip
        elif residual:
            skip = window[:, : conv.out_channels, 1:-1, 1:-1]
        if target is None:
            target = _room_for(conv, window)
        slope, alpha = NEGATIVE_SLOPE if active else None, residual or 1.0
        fused.convolve(
            window,
            self._packed[conv],
            target,
            negative_slope=slope,
            skip=skip,
            alpha=alpha,
            padding=self._padding,
            tiling=self._tiling(conv, target),
        )
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
        skip: Tensor | None = None,
        target: Tensor | None = None,
        grid_row: int = 0,
    ) -> Tensor:
        """See `Convolver`."""
        if conv not in self._packed:
            self._packed[conv] = winograd.Packed(conv) if winograd.takes(conv) else None
        packed = self._packed[conv]
        if packed is None or window.shape[2] < 3:
            return self._other(conv, window, active=active, residual=residual, skip=skip, target=target)
        window = window.to(conv.weight.dtype)
        if target is None:
            target = _room_for(conv, window)
        slope = NEGATIVE_SLOPE if active else 1.0
        packed(
            window,
            target,
            negative_slope=slope,
            residual_scaling=0 if skip is not None else residual,
            grid_row=grid_row,
        )
        return target if skip is None else skip.add_(target, alpha=residual)


class AmxConvolver:
    """The convolutions of `model.amx`, for windows in bfloat16; those that it does not take are another convolver's."""

    def __init__(self, other: Convolver) -> None:
        self._other = other
        self._packed: dict[nn.Conv2d, amx.Packed] = {}
        self._rest: dict[nn.Conv2d, amx.Packed] = {}
        """The part of float32 weights that bfloat16 rounds away."""

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
        exact = conv.weight.dtype is torch.float32
        if window.shape[2] < 3 or not amx.takes(window) or (exact and (active or residual or target is not None)):
            return self._other(conv, window, active=active, residual=residual, skip=skip, target=target)
        if conv not in self._packed:
            self._pack(conv)
        packed, slope = self._packed[conv], NEGATIVE_SLOPE if active else 1.0
        if exact:
            made = _room_for(conv, window, torch.float32)
            amx.convolve(window, packed, exact=made)
            amx.convolve(window, self._rest[conv], exact=made, skip=made)
            return made
        if skip is not None:
            amx.convolve(window, packed, exact=skip, skip=skip, negative_slope=slope, scaling=residual)
            return skip
        if target is None:
            target = _room_for(conv, window)
        own = window[:, : conv.out_channels, 1:-1, 1:-1] if residual else None
        amx.convolve(window, packed, made=target, skip=own, negative_slope=slope, scaling=residual or 1.0)
        return target

    def _pack(self, conv: nn.Conv2d) -> None:
        weight = conv.weight.detach()
        self._packed[conv] = amx.Packed(weight, conv.bias)
        if weight.dtype is torch.float32:
            self._rest[conv] = amx.Packed(weight - weight.bfloat16().float())


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
