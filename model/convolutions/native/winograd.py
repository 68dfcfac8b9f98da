"""3x3 convolutions in float32 with a quarter of the multiplications, in winograd.c."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions.convolver import Convolver, Epilogue, allocate_result
from model.convolutions.native.loading import load

LIBRARY = Path(__file__).with_name("libwinograd.so")

FACTORS_OF_WEIGHTS = torch.tensor(
    [
        [1, 0, 0],
        [-81 / 130, -54 / 130, -36 / 130],
        [-81 / 130, 54 / 130, -36 / 130],
        [16 / 195, 24 / 195, 36 / 195],
        [16 / 195, -24 / 195, 36 / 195],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
"""The matrix G: three weights in a line -> six factors.

Winograd's F(4, 3) computes 4 results y of a 3-tap filter g over 6 pixels d as

    y = A^T ((G g) * (B^T d))        with 6 products instead of 12

Here the polynomials are evaluated at 0, 2/3, -2/3, 3/2, -3/2 and infinity; B^T is `line_in` and A^T `line_out` of
winograd_kernel.h. Example: for d = (1, 1, 1, 1, 1, 1) and g = (1, 1, 1), every y is 3. In two dimensions, rows and then
columns are transformed: 36 products for 16 results, instead of 144.

These points have the smallest rounding errors among those of similar cost: the usual 1 and 2 multiply pixels and
products by up to 5 and 8, these by up to 2.7 and 3.4. The rows for 3/2 and -3/2 are divided by 3/2, and those of B^T
multiplied by it.
"""

TILE_ROWS = 4
"""Rows of results in a tile: SIDE of winograd.c."""

MAX_INT16 = 2**15 - 1
MAX_INT32 = 2**31 - 1
"""The largest 16-bit integer, and the largest 32-bit sum of their products."""


class _Convolution(ctypes.Structure):
    """`struct convolution` of winograd.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("window", "weights", "units", "bias", "made")),
        *((f"{what}_{step}", ctypes.c_ssize_t) for what in ("window", "made") for step in ("plane", "row", "pixel")),
        *((name, ctypes.c_int) for name in ("planes", "rows", "width", "in_channels", "out_channels", "made_channels")),
        ("negative_slope", ctypes.c_float),
        ("residual_scaling", ctypes.c_float),
        ("first_rows", ctypes.c_int),
    )


@cache
def compiled() -> ctypes.CDLL | None:
    """Load winograd.c; None if it is not compiled, which the first call logs."""
    functions = {
        "winograd_lanes": (ctypes.c_int, ctypes.c_int, ctypes.c_int),
        "winograd_convolve": (ctypes.POINTER(_Convolution), ctypes.c_int),
    }
    otherwise = "convolutions use oneDNN instead of the faster Winograd code"
    return load(LIBRARY, functions, structs=(_Convolution,), otherwise=otherwise)


class Packed:
    """The weights of a convolution for winograd.c: 3x3, on the CPU, in float32, or as integers for float16.

    Raises:
        ValueError: winograd.c does not support the convolution; see `takes`.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        library, lanes = compiled(), _lanes(conv)
        if library is None or not lanes:
            raise ValueError(f"no Winograd convolution of {conv.in_channels} to {conv.out_channels} channels here")
        self._convolve, self._lanes = library.winograd_convolve, lanes
        self._made_channels = conv.out_channels
        self._dtype = conv.weight.dtype
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        empty = -conv.out_channels % lanes  # zero channels that fill the last register
        self._bias = functional.pad(bias.float(), (0, empty))
        weights = functional.pad(conv.weight.detach().double(), (0, 0, 0, 0, 0, 0, 0, empty))
        factors = torch.einsum("yj,oijk,xk->yxio", FACTORS_OF_WEIGHTS, weights, FACTORS_OF_WEIGHTS).flatten(0, 1)
        self._units = None
        if self._dtype is torch.float16:
            units = _units(factors)
            factors = _paired((factors / units).round(), lanes).to(torch.int16)
            self._units = units.float().contiguous()
        else:
            factors = factors[..., None].float()
        self._weights = factors.unflatten(2, (-1, lanes)).transpose(1, 2).contiguous()

    def __call__(
        self,
        window: Tensor,
        made: Tensor,
        *,
        negative_slope: float = 1.0,
        residual_scaling: float = 0.0,
        grid_row: int = 0,
    ) -> None:
        """Convolve (N, in_channels, R, W) into `made`, (N, out_channels, R - 2, W - 2); both channels last.

        Both have the number format of the weights, and may be slices of the channels of one buffer.

        Args:
            negative_slope: slope of the LeakyReLU; 1 for no LeakyReLU.
            residual_scaling: factor of the result, which is then added to the window's first channels; 0 for no sum.
            grid_row: number of the first row of the result; tiles begin at multiples of `TILE_ROWS`.

        Raises:
            MemoryError: there is not enough memory.
        """
        planes, in_channels, rows, width = window.shape
        assert window.stride(1) == made.stride(1) == 1, "channels are not last"
        assert window.dtype is made.dtype is self._dtype, "another number format than the weights'"
        convolution = _Convolution(
            window.data_ptr(),
            self._weights.data_ptr(),
            None if self._units is None else self._units.data_ptr(),
            self._bias.data_ptr(),
            made.data_ptr(),
            *(tensor.stride(axis) for tensor in (window, made) for axis in (0, 2, 3)),
            planes,
            rows - 2,
            width - 2,
            in_channels,
            len(self._bias),
            self._made_channels,
            negative_slope,
            residual_scaling,
            TILE_ROWS - grid_row % TILE_ROWS,
        )
        if self._convolve(convolution, self._lanes):
            raise MemoryError("no memory for the factors of a convolution")


def takes(conv: nn.Conv2d) -> bool:
    """Check if winograd.c supports a 3x3 convolution on this processor."""
    return conv.weight.device.type == "cpu" and _lanes(conv) > 0


def _lanes(conv: nn.Conv2d) -> int:
    """Return the number of SIMD lanes that winograd.c uses for a convolution; 0 if it does not support it."""
    library, dtype = compiled(), conv.weight.dtype
    if library is None or dtype not in (torch.float32, torch.float16):
        return 0
    return int(library.winograd_lanes(conv.in_channels, conv.out_channels, dtype is torch.float16))


def _units(factors: Tensor) -> Tensor:
    """Choose units (36, 1, out_channels) for factors (36, in_channels, out_channels), so that no sum can overflow.

    A factor f becomes the integer round(f / unit), of at most 32,767. Factors of pixels have at most that, too, so a
    sum over the input channels fits into 32 bits if the integers of the weights add up to at most 2^31 / 32,767 =
    65,538 in magnitude. Example: 64 channels of equal weights become integers of about 1,000 each.
    """
    fitting = MAX_INT32 / MAX_INT16 - factors.shape[1] / 2  # rounding adds half a unit to each
    sizes = factors.abs()
    needed = torch.maximum(sizes.sum(1, keepdim=True) / fitting, sizes.amax(1, keepdim=True) / MAX_INT16)
    return torch.where(needed > 0, needed, 1.0)


def _paired(factors: Tensor, lanes: int) -> Tensor:
    """Reorder (36, in_channels, out_channels) to (36, in_channels / 2, out_channels, 2), like the factors of pixels.

    The instruction that packs two registers of 32-bit integers into one of 16 bits alternates groups of four: channels
    0-3 of the first register, 0-3 of the second, 4-7 of the first, and so on. A last register alone stays in order.
    """
    pairs_end = factors.shape[1] // (2 * lanes) * 2 * lanes
    by_turns = factors[:, :pairs_end].unflatten(1, (-1, 2, lanes // 4, 4)).transpose(2, 3).flatten(1, 4)
    paired: Tensor = torch.cat((by_turns, factors[:, pairs_end:]), dim=1).unflatten(1, (-1, 2)).transpose(2, 3)
    return paired


class WinogradConvolver(Convolver):
    """Runs the convolutions that winograd.c supports, and the others with another convolver."""

    name = "winograd"

    def __init__(self, other: Convolver) -> None:
        self._other = other
        self._packed: dict[nn.Conv2d, Packed | None] = {}

    def convolve(self, conv: nn.Conv2d, window: Tensor, then: Epilogue) -> Tensor:
        """See `Convolver`."""
        if conv not in self._packed:
            self._packed[conv] = Packed(conv) if takes(conv) else None
        packed = self._packed[conv]
        if packed is None or window.shape[2] < 3:
            return self._other.convolve(conv, window, then)
        window = window.to(conv.weight.dtype)
        target = allocate_result(conv, window) if then.target is None else then.target
        packed(
            window,
            target,
            negative_slope=then.slope,
            residual_scaling=0 if then.skip is not None else then.residual,
            grid_row=then.grid_row,
        )
        return target if then.skip is None else then.skip.add_(target, alpha=then.residual)
