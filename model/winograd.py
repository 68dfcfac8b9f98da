"""Convolutions in float32 with a quarter of the multiplications: winograd.c, where that has been compiled."""

import ctypes
import logging
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

LIBRARY = Path(__file__).with_name("libwinograd.so")

FACTORS_OF_WEIGHTS = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
"""Three weights in a line -> six factors, for the points 0, 1, -1, 2, -2 and infinity."""

log = logging.getLogger(__name__)


class _Convolution(ctypes.Structure):
    """`struct convolution` of winograd.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("window", "weights", "bias", "made")),
        *((f"{what}_{step}", ctypes.c_ssize_t) for what in ("window", "made") for step in ("plane", "row", "pixel")),
        *((name, ctypes.c_int) for name in ("planes", "rows", "width", "in_channels", "out_channels")),
        ("negative_slope", ctypes.c_float),
        ("residual_scaling", ctypes.c_float),
    )


@cache
def compiled() -> ctypes.CDLL | None:
    """The compiled convolution, or None where there is none; the first call says so in the log."""
    try:
        library = ctypes.CDLL(str(LIBRARY))  # with the threads of PyTorch, whose OpenMP is there already
        library.winograd_lanes.argtypes = (ctypes.c_int, ctypes.c_int)
        library.winograd_convolve.argtypes = (ctypes.POINTER(_Convolution), ctypes.c_int)
    except (OSError, AttributeError) as error:
        log.warning("oneDNN convolves, slowly; `make native` compiles what is faster (%s)", error)
        return None
    return library


class Packed:
    """A convolution as winograd.c takes it: float32 on the CPU, 3x3.

    Raises:
        ValueError: it is not one that winograd.c takes: `takes` tells.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        library = compiled()
        self._lanes = library.winograd_lanes(conv.in_channels, conv.out_channels) if library else 0
        if library is None or not self._lanes:
            raise ValueError(f"no Winograd convolution of {conv.in_channels} to {conv.out_channels} channels here")
        self._convolve = library.winograd_convolve
        self.out_channels = conv.out_channels
        factors = torch.einsum(
            "yj,oijk,xk->yxio", FACTORS_OF_WEIGHTS, conv.weight.detach().double(), FACTORS_OF_WEIGHTS
        )
        by_register = factors.reshape(36, conv.in_channels, -1, self._lanes).transpose(1, 2)
        self._weights = by_register.float().contiguous()
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self._bias = bias.float().contiguous()

    def __call__(
        self, window: Tensor, made: Tensor, *, negative_slope: float = 1.0, residual_scaling: float = 0.0
    ) -> None:
        """Convolve (N, in_channels, R, W), channels last, into (N, out_channels, R - 2, W), the same.

        Both may be slices of the channels of one buffer.

        Args:
            negative_slope: of the LeakyReLU that comes after it; 1 for none.
            residual_scaling: of what is added to the window's own first channels; 0 if nothing is.

        Raises:
            MemoryError: there is none to work in.
        """
        planes, in_channels, rows, width = window.shape
        assert window.stride(1) == made.stride(1) == 1, "channels are not last"
        convolution = _Convolution(
            window.data_ptr(),
            self._weights.data_ptr(),
            self._bias.data_ptr(),
            made.data_ptr(),
            *(tensor.stride(axis) for tensor in (window, made) for axis in (0, 2, 3)),
            planes,
            rows - 2,
            width,
            in_channels,
            self.out_channels,
            negative_slope,
            residual_scaling,
        )
        if self._convolve(convolution, self._lanes):
            raise MemoryError("no memory for the factors of a convolution")


def takes(conv: nn.Conv2d) -> bool:
    """Whether winograd.c runs a 3x3 convolution on this processor."""
    library = compiled()
    on_cpu = conv.weight.device.type == "cpu" and conv.weight.dtype is torch.float32
    return on_cpu and library is not None and library.winograd_lanes(conv.in_channels, conv.out_channels) > 0
