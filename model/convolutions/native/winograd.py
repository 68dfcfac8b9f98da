"""Convolutions in float32 with a quarter of the multiplications: winograd.c, where that has been compiled."""

import ctypes
import logging
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from model.convolutions.convolver import Convolver, room_for
from model.rrdb import NEGATIVE_SLOPE

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
"""Three weights in a line -> six factors, for the points 0, 2/3, -2/3, 3/2, -3/2 and infinity.

Of points that are about as cheap these round least: the usual ones, 1 and 2, weigh pixels and products with up to 5 and
8, these with up to 2.7 and 3.4. Factors of weights for 3/2 are divided by 3/2, and those of pixels multiplied.
"""

TILE_ROWS = 4
"""Rows of the result that a tile makes: SIDE of winograd.c."""

LARGEST = 2**15 - 1
MOST_SUM = 2**31 - 1
"""The largest integers of 16 bits, and of the 32 bits in which their products are added up."""

log = logging.getLogger(__name__)


class _Convolution(ctypes.Structure):
    """`struct convolution` of winograd.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("window", "weights", "units", "bias", "made")),
        *((f"{what}_{step}", ctypes.c_ssize_t) for what in ("window", "made") for step in ("plane", "row", "pixel")),
        *((name, ctypes.c_int) for name in ("planes", "rows", "width", "in_channels", "out_channels")),
        ("negative_slope", ctypes.c_float),
        ("residual_scaling", ctypes.c_float),
        ("first_rows", ctypes.c_int),
    )


@cache
def compiled() -> ctypes.CDLL | None:
    """The compiled convolution, or None where there is none; the first call says so in the log."""
    try:
        library = ctypes.CDLL(str(LIBRARY))  # with the threads of PyTorch, whose OpenMP is there already
        library.winograd_lanes.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int)
        library.winograd_convolve.argtypes = (ctypes.POINTER(_Convolution), ctypes.c_int)
    except (OSError, AttributeError) as error:
        log.warning("oneDNN convolves, slowly; `make native` compiles what is faster (%s)", error)
        return None
    return library


class Packed:
    """A convolution as winograd.c takes it: 3x3, on the CPU, in float32, or in float16 with products of integers.

    Raises:
        ValueError: it is not one that winograd.c takes: `takes` tells.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        library, lanes = compiled(), _lanes(conv)
        if library is None or not lanes:
            raise ValueError(f"no Winograd convolution of {conv.in_channels} to {conv.out_channels} channels here")
        self._convolve, self._lanes = library.winograd_convolve, lanes
        self.out_channels = conv.out_channels
        self._dtype = conv.weight.dtype
        factors = torch.einsum(
            "yj,oijk,xk->yxio", FACTORS_OF_WEIGHTS, conv.weight.detach().double(), FACTORS_OF_WEIGHTS
        ).flatten(0, 1)
        self._units = None
        if self._dtype is torch.float16:
            units = _units(factors)
            factors = _paired((factors / units).round(), lanes).to(torch.int16)
            self._units = units.float().contiguous()
        else:
            factors = factors[..., None].float()
        self._weights = factors.unflatten(2, (-1, lanes)).transpose(1, 2).contiguous()
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self._bias = bias.float().contiguous()

    def __call__(
        self,
        window: Tensor,
        made: Tensor,
        *,
        negative_slope: float = 1.0,
        residual_scaling: float = 0.0,
        grid_row: int = 0,
    ) -> None:
        """Convolve (N, in_channels, R, W), channels last, into (N, out_channels, R - 2, W - 2), the same.

        Both are in the weights' number format, and may be slices of the channels of one buffer.

        Args:
            negative_slope: of the LeakyReLU that comes after it; 1 for none.
            residual_scaling: of what is added to the window's own first channels; 0 if nothing is.
            grid_row: number of the first row of the result; tiles begin at multiples of `TILE_ROWS`.

        Raises:
            MemoryError: there is none to work in.
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
            self.out_channels,
            negative_slope,
            residual_scaling,
            TILE_ROWS - grid_row % TILE_ROWS,
        )
        if self._convolve(convolution, self._lanes):
            raise MemoryError("no memory for the factors of a convolution")


def takes(conv: nn.Conv2d) -> bool:
    """Whether winograd.c runs a 3x3 convolution on this processor."""
    return conv.weight.device.type == "cpu" and _lanes(conv) > 0


def _lanes(conv: nn.Conv2d) -> int:
    """Lanes of the registers in which winograd.c runs it; 0 if it does not."""
    library, dtype = compiled(), conv.weight.dtype
    if library is None or dtype not in (torch.float32, torch.float16):
        return 0
    return int(library.winograd_lanes(conv.in_channels, conv.out_channels, dtype is torch.float16))


def _units(factors: Tensor) -> Tensor:
    """Factors (36, in_channels, out_channels) -> units (36, 1, out_channels), of which no sum of products overflows."""
    fitting = MOST_SUM / LARGEST - factors.shape[1] / 2  # rounding adds half a unit to each
    sizes = factors.abs()
    needed = torch.maximum(sizes.sum(1, keepdim=True) / fitting, sizes.amax(1, keepdim=True) / LARGEST)
    return torch.where(needed > 0, needed, 1.0)


def _paired(factors: Tensor, lanes: int) -> Tensor:
    """(36, in_channels, out_channels) -> (36, in_channels / 2, out_channels, 2), in the order in which pixels come.

    Two registers of their channels become one by turns of four, as the processor's own instruction does it.
    """
    by_turns = factors.unflatten(1, (-1, 2, lanes // 4, 4)).transpose(2, 3).flatten(1, 4)
    paired: Tensor = by_turns.unflatten(1, (-1, 2)).transpose(2, 3)
    return paired


class WinogradConvolver:
    """The convolutions of winograd.c; those that it does not take are another convolver's."""

    def __init__(self, other: Convolver) -> None:
        self._other = other
        self._packed: dict[nn.Conv2d, Packed | None] = {}

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
            self._packed[conv] = Packed(conv) if takes(conv) else None
        packed = self._packed[conv]
        if packed is None or window.shape[2] < 3:
            return self._other(conv, window, active=active, residual=residual, skip=skip, target=target)
        window = window.to(conv.weight.dtype)
        if target is None:
            target = room_for(conv, window)
        slope = NEGATIVE_SLOPE if active else 1.0
        packed(
            window,
            target,
            negative_slope=slope,
            residual_scaling=0 if skip is not None else residual,
            grid_row=grid_row,
        )
        return target if skip is None else skip.add_(target, alpha=residual)
