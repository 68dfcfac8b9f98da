"""3x3 convolutions in bfloat16 on AMX: amx.c, whose first comment is the contract, for tensors."""

import ctypes
import logging
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions.convolver import Convolver, room_for
from model.rrdb import NEGATIVE_SLOPE

LIBRARY = Path(__file__).with_name("libamx.so")

LANES = 16
"""Channels that a tile of results holds."""

MOST_CHUNK = 32
"""Channels of the window that a tile of pixels holds."""

log = logging.getLogger(__name__)


class _Convolution(ctypes.Structure):
    """`struct amx_convolution` of amx.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("window", "weights", "bias", "skip", "made", "exact")),
        *(
            (f"{of}_{step}", ctypes.c_ssize_t)
            for of in ("window", "skip", "made", "exact")
            for step in ("plane", "row", "pixel")
        ),
        *((name, ctypes.c_int) for name in ("planes", "rows", "width", "in_channels", "out_channels")),
        ("skip_is_exact", ctypes.c_int),
        ("negative_slope", ctypes.c_float),
        ("scaling", ctypes.c_float),
    )


@cache
def compiled() -> ctypes.CDLL | None:
    """The compiled convolution, or None where there is none; the first call says so in the log."""
    try:
        library = ctypes.CDLL(str(LIBRARY))  # with the threads of PyTorch, whose OpenMP is there already
        for name in ("amx_convolve", "amx_convolve_plainly"):
            getattr(library, name).argtypes = (ctypes.POINTER(_Convolution),)
            getattr(library, name).restype = None
        library.amx_multiply.argtypes, library.amx_multiply.restype = (ctypes.c_long,), ctypes.c_double
    except (OSError, AttributeError) as error:
        log.warning("AMX is not used; `make native` compiles what uses it (%s)", error)
        return None
    return library


@cache
def available() -> bool:
    """True if this processor has AMX for bfloat16 and the kernel lets this process use it."""
    library = compiled()
    return library is not None and bool(library.amx_available())


def multiply_tiles(rounds: int) -> float:
    """Multiply tiles that stay in their registers, on every thread: the most that AMX does; returns the FLOP.

    Raises:
        RuntimeError: there is no AMX here.
    """
    library = compiled()
    if library is None or not available():
        raise RuntimeError("this processor has no AMX, or the kernel does not lend it")
    return float(library.amx_multiply(rounds))


class Packed:
    """The weights and the bias of a 3x3 convolution as amx.c takes them.

    Args:
        weight: (out_channels, in_channels, 3, 3); in_channels is even.
        bias: (out_channels,); None for zeros.

    Raises:
        ValueError: in_channels is odd.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.out_channels, self.in_channels = weight.shape[:2]
        if self.in_channels % 2:
            raise ValueError(f"in_channels is {self.in_channels}; AMX multiplies pairs of channels")
        to_fill = -self.out_channels % LANES
        self.weights = _tiles(functional.pad(weight.detach(), (0, 0, 0, 0, 0, 0, 0, to_fill)))
        bias = weight.new_zeros(self.out_channels) if bias is None else bias.detach()
        self.bias = functional.pad(bias.float(), (0, to_fill)).contiguous()


def takes(window: Tensor) -> bool:
    """Check that amx.c convolves a window on this processor."""
    return window.dtype is torch.bfloat16 and window.device.type == "cpu" and window.shape[1] % 2 == 0 and available()


def convolve(
    window: Tensor,
    packed: Packed,
    *,
    made: Tensor | None = None,
    exact: Tensor | None = None,
    skip: Tensor | None = None,
    negative_slope: float = 1.0,
    scaling: float = 1.0,
    plainly: bool = False,
) -> None:
    """Convolve (N, in_channels, R, W) into (N, out_channels, R - 2, W - 2), all of them channels last.

    Each may be a slice of the channels of a larger buffer, as long as no result overlaps the channels that are read.

    Args:
        window: bfloat16, one pixel of padding on every side included; R and W are at least 3.
        made: bfloat16, where the result goes.
        exact: float32, where the result goes before it is rounded.
        skip: bfloat16 or float32, what `scaling` times the result is added to; may be `made` or `exact`.
        negative_slope: of the LeakyReLU that comes after the convolution; 1 for none.
        plainly: by plain C instead of AMX: slowly, on any processor, with the same bits.
    """
    planes, in_channels, rows, width = window.shape
    assert in_channels == packed.in_channels, f"{in_channels} channels instead of {packed.in_channels}"
    assert rows > 2, f"a window of {rows} rows makes none"
    assert width > 2, f"a window of {width} columns makes none"
    result = (planes, packed.out_channels, rows - 2, width - 2)
    _check("window", window, torch.bfloat16, window.shape)
    _check("made", made, torch.bfloat16, result)
    _check("exact", exact, torch.float32, result)
    exact_skip = skip is not None and skip.dtype is torch.float32
    _check("skip", skip, torch.float32 if exact_skip else torch.bfloat16, result)
    arguments = _Convolution(
        window.data_ptr(),
        packed.weights.data_ptr(),
        packed.bias.data_ptr(),
        *(None if tensor is None else tensor.data_ptr() for tensor in (skip, made, exact)),
        *(0 if tensor is None else tensor.stride(axis) for tensor in (window, skip, made, exact) for axis in (0, 2, 3)),
        *(planes, rows - 2, width - 2, in_channels, packed.out_channels),
        exact_skip,
        negative_slope,
        scaling,
    )
    run(arguments, plainly)


def run(arguments: _Convolution, plainly: bool) -> None:
    """Call amx.c."""
    library = compiled()
    assert library is not None, "nothing is compiled"
    assert plainly or available(), "no AMX here"
    (library.amx_convolve_plainly if plainly else library.amx_convolve)(arguments)


def _check(name: str, tensor: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor is not None:
        assert tensor.shape == shape, f"{name} is {tuple(tensor.shape)} instead of {tuple(shape)}"
        assert tensor.dtype is dtype, f"{name} is {tensor.dtype}"
        assert tensor.stride(1) == 1 or tensor.shape[1] == 1, f"channels of {name} are not last"


def _tiles(weight: Tensor) -> Tensor:
    """(out_channels, in_channels, 3, 3) -> (out tiles, chunks, columns, rows, pairs, LANES, 2), bfloat16."""
    in_channels = weight.shape[1]
    chunk = min(in_channels, MOST_CHUNK)
    *whole, last = weight.split(chunk, dim=1)
    if missing := chunk - last.shape[1]:  # channels that the chunk before has, too
        last = functional.pad(last, (0, 0, 0, 0, missing, 0))
    chunks = torch.stack((*whole, last)).unflatten(2, (-1, 2)).unflatten(1, (-1, LANES))
    tiles: Tensor = chunks.permute(1, 0, 6, 5, 3, 2, 4).to(torch.bfloat16).contiguous()
    return tiles


class AmxConvolver:
    """The convolutions of amx.c, for windows in bfloat16; those that it does not take are another convolver's."""

    def __init__(self, other: Convolver) -> None:
        self._other = other
        self._packed: dict[nn.Conv2d, Packed] = {}
        self._rest: dict[nn.Conv2d, Packed] = {}
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
        if window.shape[2] < 3 or not takes(window) or (exact and (active or residual or target is not None)):
            return self._other(conv, window, active=active, residual=residual, skip=skip, target=target)
        if conv not in self._packed:
            self._pack(conv)
        packed, slope = self._packed[conv], NEGATIVE_SLOPE if active else 1.0
        if exact:
            made = room_for(conv, window, torch.float32)
            convolve(window, packed, exact=made)
            convolve(window, self._rest[conv], exact=made, skip=made)
            return made
        if skip is not None:
            convolve(window, packed, exact=skip, skip=skip, negative_slope=slope, scaling=residual)
            return skip
        if target is None:
            target = room_for(conv, window)
        own = window[:, : conv.out_channels, 1:-1, 1:-1] if residual else None
        convolve(window, packed, made=target, skip=own, negative_slope=slope, scaling=residual or 1.0)
        return target

    def _pack(self, conv: nn.Conv2d) -> None:
        weight = conv.weight.detach()
        self._packed[conv] = Packed(weight, conv.bias)
        if weight.dtype is torch.float32:
            self._rest[conv] = Packed(weight - weight.bfloat16().float())
