"""3x3 convolutions of tensors in bfloat16 on AMX, in amx.c, whose first comment is the contract."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from model.convolutions.native.loading import has_amx, load

LIBRARY = Path(__file__).with_name("libamx.so")

LANES = 16
"""Channels in a tile of results."""

MAX_CHUNK = 32
"""Maximum channels in a tile of pixels."""

DENSE_BLOCKS, CONVOLUTIONS = 3, 5
"""Dense blocks of an RRDB, and convolutions of a dense block."""

BETWEEN = 3
"""Buffers for the results of dense blocks."""

MAX_STEPS = 8
"""Maximum convolutions at the end of a generator."""


class _Skip(ctypes.Structure):
    """`struct skip` of amx.c."""

    _fields_ = (
        ("earlier", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        *((step, ctypes.c_ssize_t) for step in ("plane", "row", "pixel", "earlier_plane")),
        ("earlier_rows", ctypes.c_int),
        ("is_exact", ctypes.c_int),
        ("scaling", ctypes.c_float),
    )


class _Convolution(ctypes.Structure):
    """`struct amx_convolution` of amx.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("window", "weights", "bias", "made", "exact")),
        *(
            (f"{of}_{step}", ctypes.c_ssize_t)
            for of in ("window", "made", "exact")
            for step in ("plane", "row", "pixel")
        ),
        ("skips", 2 * _Skip),
        *((name, ctypes.c_int) for name in ("planes", "rows", "width", "in_channels", "out_channels", "repeats")),
        ("factor", ctypes.c_int),
        ("negative_slope", ctypes.c_float),
    )


class Dense(ctypes.Structure):
    """`struct amx_dense` of amx.c."""

    _fields_ = (
        *((name, CONVOLUTIONS * ctypes.c_void_p) for name in ("weights", "bias")),
        *((name, ctypes.c_void_p) for name in ("halo", "waiting")),
    )


class Block(ctypes.Structure):
    """`struct amx_block` of amx.c."""

    _fields_ = (("dense", DENSE_BLOCKS * Dense), ("waiting", ctypes.c_void_p), ("taken", ctypes.c_int))


class Trunk(ctypes.Structure):
    """`struct amx_trunk` of amx.c."""

    _fields_ = (
        ("blocks", ctypes.POINTER(ctypes.POINTER(Block))),
        *((name, ctypes.c_void_p) for name in ("rows", "made")),
        ("between", BETWEEN * ctypes.c_void_p),
        ("buffer", ctypes.c_void_p),
        *((name, ctypes.c_ssize_t) for name in ("rows_plane", "made_plane")),
        *((name, ctypes.c_int) for name in ("count", "planes", "width", "channels", "growth")),
        ("reads", CONVOLUTIONS * ctypes.c_int),
        *((name, ctypes.c_int) for name in ("cleared", "height", "ends", "piece", "repeats")),
        *((name, ctypes.c_float) for name in ("negative_slope", "scaling")),
    )


class Step(ctypes.Structure):
    """`struct amx_step` of amx.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "bias", "window", "halo")),
        *((name, ctypes.c_int) for name in ("window_rows", "factor", "taken")),
    )


class Tail(ctypes.Structure):
    """`struct amx_tail` of amx.c."""

    _fields_ = (
        ("steps", (MAX_STEPS + 1) * Step),
        *((name, ctypes.c_void_p) for name in ("rows", "made", "sums")),
        *((f"{of}_plane", ctypes.c_ssize_t) for of in ("rows", "made", "sums")),
        *((name, ctypes.c_int) for name in ("planes", "height", "width", "channels", "colours", "count", "piece")),
        *((name, ctypes.c_int) for name in ("ends", "repeats")),
        ("negative_slope", ctypes.c_float),
    )


STRUCTS = (_Skip, _Convolution, Dense, Block, Trunk, Step, Tail)


@cache
def compiled() -> ctypes.CDLL | None:
    """Load amx.c; None if it is not compiled, which the first call logs."""
    functions: dict[str, tuple[type, ...]] = {"amx_multiply": (ctypes.c_long,)}
    for name, argument in (("amx_convolve", _Convolution), ("amx_trunk", Trunk), ("amx_tail", Tail)):
        functions |= dict.fromkeys((name, f"{name}_portable"), (ctypes.POINTER(argument),))
    library = load(LIBRARY, functions, structs=STRUCTS, otherwise="convolutions do not use AMX")
    if library is not None:
        library.amx_multiply.restype = ctypes.c_double
    return library


@cache
def available() -> bool:
    """Return True if amx.c is compiled and this process may use AMX."""
    return has_amx(compiled())


def multiply_tiles(rounds: int) -> float:
    """Multiply tiles that stay in their registers, on all threads, to measure the peak of AMX. Returns the FLOP.

    Raises:
        RuntimeError: AMX is not available.
    """
    library = compiled()
    if library is None or not available():
        raise RuntimeError("this processor has no AMX, or the kernel does not permit it")
    return float(library.amx_multiply(rounds))


class Packed:
    """The weights and the bias of a 3x3 convolution in the layout of amx.c.

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


def convolve(
    window: Tensor,
    packed: Packed,
    *,
    made: Tensor | None = None,
    exact: Tensor | None = None,
    skip: Tensor | None = None,
    negative_slope: float = 1.0,
    scaling: float = 1.0,
    portable: bool = False,
) -> None:
    """Convolve (N, in_channels, R, W) into (N, out_channels, R - 2, W - 2), all of them channels last.

    Each may be a slice of the channels of a larger buffer, as long as no result overlaps the channels that are read.

    Args:
        window: bfloat16, one pixel of padding on every side included; R and W are at least 3.
        made: bfloat16, memory for the result.
        exact: float32, memory for the result before it is rounded.
        skip: bfloat16 or float32; `scaling` times the result is added to it. May be `made` or `exact`.
        negative_slope: slope of the LeakyReLU; 1 for no LeakyReLU.
        portable: use plain C instead of AMX: slow, on any processor, with the same bits.
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
        *(None if tensor is None else tensor.data_ptr() for tensor in (made, exact)),
        *(0 if tensor is None else tensor.stride(axis) for tensor in (window, made, exact) for axis in (0, 2, 3)),
        planes=planes,
        rows=rows - 2,
        width=width - 2,
        in_channels=in_channels,
        out_channels=packed.out_channels,
        factor=1,
        negative_slope=negative_slope,
    )
    if skip is not None:
        steps = (skip.stride(axis) for axis in (0, 2, 3))
        arguments.skips[0] = _Skip(None, skip.data_ptr(), *steps, is_exact=exact_skip, scaling=scaling)
    run("amx_convolve", arguments, portable)


def run(name: str, arguments: ctypes.Structure, portable: bool) -> None:
    """Call a function of amx.c, or its version in plain C."""
    library = compiled()
    assert library is not None, "amx.c is not compiled"
    assert portable or available(), "no AMX here"
    getattr(library, f"{name}_portable" if portable else name)(arguments)


def _check(name: str, tensor: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor is not None:
        assert tensor.shape == shape, f"{name} is {tuple(tensor.shape)} instead of {tuple(shape)}"
        assert tensor.dtype is dtype, f"{name} is {tensor.dtype}"
        assert tensor.stride(1) == 1 or tensor.shape[1] == 1, f"channels of {name} are not last"


def _tiles(weight: Tensor) -> Tensor:
    """Reorder (out_channels, in_channels, 3, 3) to (out tiles, chunks, columns, rows, pairs, LANES, 2), bfloat16."""
    in_channels = weight.shape[1]
    chunk = min(in_channels, MAX_CHUNK)
    *whole, last = weight.split(chunk, dim=1)
    if missing := chunk - last.shape[1]:  # repeats channels of the chunk before, with weights of zero
        last = functional.pad(last, (0, 0, 0, 0, missing, 0))
    chunks = torch.stack((*whole, last)).unflatten(2, (-1, 2)).unflatten(1, (-1, LANES))
    tiles: Tensor = chunks.permute(1, 0, 6, 5, 3, 2, 4).to(torch.bfloat16).contiguous()
    return tiles
