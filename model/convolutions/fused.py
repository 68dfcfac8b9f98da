"""A 3x3 convolution with bias, LeakyReLU and residual in one GPU kernel, from some channels of a buffer to others.

A dense block that concatenates its features copies each of them several times. Here it has one channels-last buffer
(N, channels + 4 growth, rows, W): convolution j reads the first channels + j growth channels and writes the next
`growth`, so nothing is copied. Bias, LeakyReLU and residual are added in float32 before the one rounding.

The kernel is Triton's, and `fused_kernel.py` explains it. This file imports it at the first call, so that machines
without Triton or a GPU can import this one.
"""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions.convolver import Convolver, Epilogue, allocate_result
from model.convolutions.library import library_convolution
from model.workspace import Padding

CHANNEL_BLOCK = 64
"""Packed weights have a multiple of this number of input channels; every step of the kernel divides it."""

MIN_COLUMNS = 16
"""Minimum output channels of the tensor cores."""


Tiling = object
"""Sizes by which the kernel divides its work: Triton's `Config`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """The weights of a convolution in the layout of the kernel.

    weight: (9, C_in padded, C_out padded), taps from left to right and from top to bottom, zero in the padding.
    bias: float32 (C_out padded,).
    """

    weight: Tensor
    bias: Tensor
    in_channels: int
    out_channels: int


def available() -> bool:
    """Check that Triton is installed, and that there is a GPU or Triton interprets its kernels."""
    if find_spec("triton") is None:
        return False
    return torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"


def tilings(made: int) -> tuple[Tiling, ...]:
    """List the tilings for a convolution with `made` output channels."""
    from model.convolutions import fused_kernel  # it needs Triton

    return fused_kernel.tilings(_columns(made))


def _columns(made: int) -> int:
    return max(MIN_COLUMNS, 1 << (made - 1).bit_length())


def pack(conv: nn.Conv2d) -> Packed:
    """Convert a 3x3 convolution to the layout of the kernel, on its device and in its number format.

    Raises:
        ValueError: it is not a plain 3x3 convolution with stride 1.
    """
    if conv.kernel_size != (3, 3) or (conv.stride, conv.dilation, conv.groups) != ((1, 1), (1, 1), 1):
        raise ValueError(f"{conv} cannot be packed; only 3x3 with stride 1, dilation 1 and one group can")
    made, channels = conv.weight.shape[:2]
    columns = _columns(made)
    taps = conv.weight.detach().permute(2, 3, 1, 0).reshape(9, channels, made)
    bias = conv.weight.new_zeros(made) if conv.bias is None else conv.bias.detach()
    return Packed(
        weight=functional.pad(taps, (0, columns - made, 0, -channels % CHANNEL_BLOCK)).contiguous(),
        bias=functional.pad(bias.float(), (0, columns - made)),
        in_channels=channels,
        out_channels=made,
    )


def convolve(
    window: Tensor,
    weight: Packed,
    target: Tensor,
    *,
    skip: Tensor | None = None,
    negative_slope: float = 1.0,
    scaling: float = 1.0,
    padding: Padding | None = None,
    tiling: Tiling | None = None,
) -> None:
    """Write skip + scaling * leaky_relu(conv(window) + bias) into `target`.

    The window holds one pixel of padding on every side. The first call for a kind of convolution compiles the kernel;
    later ones neither wait nor allocate, so that a CUDA graph can capture them.

    Args:
        window: (N, C_in, R + 2, W + 2) float16, bfloat16 or float32 (slow, for tests), channels last: the stride of C
            is 1, all others are free.
        weight: made from the convolution in the window's number format.
        target: (N, C_out, R, W), channels last, of any float format; may be in the window's buffer, in channels that
            the window does not include.
        skip: of the target's shape, channels last, of any float format; may be the target itself.
        negative_slope: slope of the LeakyReLU; 1 for no LeakyReLU.
        padding: sizes of the pictures in a padded batch; nothing outside a picture is read, and the target is undefined
            there. None: the window is read as it is.
        tiling: one of `tilings`; None for the first of them.

    Raises:
        ValueError: shapes, layouts, formats or devices do not match.
    """
    _check(window, weight, target, skip)
    images, _, height, width = target.shape
    if target.numel() == 0:
        return
    from model.convolutions import fused_kernel  # it needs Triton

    columns = weight.weight.shape[2]
    kernel, tiling = fused_kernel.launchable(columns, window.dtype, tiling)

    def grid(sizes: Mapping[str, int]) -> tuple[int]:
        return (-(-width // sizes["pixels"]) * -(-height // sizes["rows"]) * images,)

    kernel[grid](
        window, *_strides(window), target, *_strides(target), skip, *_strides(target if skip is None else skip),
        weight.weight, weight.bias, float(negative_slope), float(scaling),
        height, width, None if padding is None else padding.sizes, 1 if padding is None else padding.factor(width),
        channels=weight.in_channels, channels_padded=weight.weight.shape[1],
        made=weight.out_channels, columns=columns, repeats=padding is not None and padding.repeats, **tiling,
    )  # fmt: skip


def _strides(pixels: Tensor) -> tuple[int, int, int]:
    """Return the strides of images, rows and pixels, in elements."""
    return pixels.stride(0), pixels.stride(2), pixels.stride(3)


def _check(window: Tensor, weight: Packed, target: Tensor, skip: Tensor | None) -> None:
    images, channels, rows, width = window.shape
    if channels != weight.in_channels:
        raise ValueError(f"the window has {channels} channels; the convolution takes {weight.in_channels}")
    if window.dtype != weight.weight.dtype:
        raise ValueError(f"the window is {window.dtype}; the convolution was packed in {weight.weight.dtype}")
    made = (images, weight.out_channels, rows - 2, width - 2)
    for name, tensor, shape in (("window", window, window.shape), ("target", target, made), ("skip", skip, made)):
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(f"the {name} is {tuple(tensor.shape)}; it must be {tuple(shape)}")
        if tensor.shape[1] > 1 and tensor.stride(1) != 1:
            raise ValueError(f"the {name} has strides {tensor.stride()}; its channels must be last in memory")
        if tensor.device != weight.weight.device or not tensor.is_floating_point():
            raise ValueError(
                f"the {name} is {tensor.dtype} on {tensor.device}; it must be float on the weights' device"
            )


LARGE_PX = 2**16
"""Minimum pixels of a result that is tiled like a large picture."""

Tilings = Mapping[tuple[int, int], tuple[Tiling, Tiling]]
"""(input channels, output channels) -> tilings for results below and from `LARGE_PX`."""


class FusedConvolver(Convolver):
    """Runs convolutions in 16 bits with the kernel, and the few in float32 with the library.

    Args:
        tilings: by kind of convolution, as `tuning.py` found them; the library runs the other kinds. None: the kernel
            runs all kinds, with its first tiling.
    """

    name = "fused"
    skips_border = True

    def __init__(self, tilings: Tilings | None = None) -> None:
        self._tilings = tilings
        self._packed: dict[nn.Conv2d, Packed] = {}
        self._padding: Padding | None = None

    def padded(self, padding: Padding) -> "FusedConvolver":
        """Return a convolver for a padded batch of whole pictures, which reads no pixels outside them."""
        made = copy.copy(self)
        made._padding = padding
        return made

    def reads_border(self, conv: nn.Conv2d) -> bool:
        """Check if a convolution reads the border of its window, which then has to be written."""
        return self._padding is None or not self._takes(conv)

    def _takes(self, conv: nn.Conv2d) -> bool:
        known = self._tilings is None or (conv.in_channels, conv.out_channels) in self._tilings
        return known and conv.weight.dtype is not torch.float32

    def _tiling(self, conv: nn.Conv2d, made: Tensor) -> Tiling | None:
        if self._tilings is None:
            return None
        small, large = self._tilings[conv.in_channels, conv.out_channels]
        return large if made[:, 0].numel() >= LARGE_PX else small

    def convolve(self, conv: nn.Conv2d, window: Tensor, then: Epilogue) -> Tensor:
        """See `Convolver`."""
        if not self._takes(conv) or window.shape[2] < 3:
            if self._padding is not None:
                self._padding.fill(window[:, :, 1:-1, 1:-1])
            return library_convolution.convolve(conv, window, then)
        if conv not in self._packed:
            self._packed[conv] = pack(conv)
        skip, target = then.skip, then.target
        if skip is not None:
            target = skip
        elif then.residual:
            skip = window[:, : conv.out_channels, 1:-1, 1:-1]
        if target is None:
            target = allocate_result(conv, window)
        convolve(
            window,
            self._packed[conv],
            target,
            skip=skip,
            negative_slope=then.slope,
            scaling=then.residual or 1.0,
            padding=self._padding,
            tiling=self._tiling(conv, target),
        )
        return target
