"""The compiled library: the arguments of its functions, and the memory of their feature maps."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from model.convolutions.native.loading import has_amx, has_avx512_bf16, load

LIBRARY = Path(__file__).with_name("libconvolutions.so")

Instructions = Literal["plain C", "AVX512-BF16", "AMX"]
INSTRUCTIONS: tuple[Instructions, ...] = ("plain C", "AVX512-BF16", "AMX")
"""In the order of their numbers in convolutions.c."""

CHUNK = 32
"""Channels that a tile multiplies at once: feature maps have a multiple of them."""

TILE = 16
"""Channels of the result that a tile holds."""

MAX_CHANNELS = 512

ROWS_AROUND, PIXELS_BEHIND = 3, 32
"""Rows above and below a map in its frame, and pixels that follow: `place` and `span` of convolutions.c."""


class TrunkWork(ctypes.Structure):
    """`struct trunk` of convolutions.c."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("images", "height", "width", "channels", "growth", "blocks", "replicate")),
        *((name, ctypes.c_ssize_t) for name in ("packed_block", "gradients_block")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("weights", "biases", "packed", "mirrored", "features", "made", "carry", "outer", "gradients"),
            )
        ),
    )


class ConvWork(ctypes.Structure):
    """`struct conv` of convolutions.c."""

    _fields_ = (
        *(
            (name, ctypes.c_int)
            for name in (
                *("images", "height", "width", "enlarge", "replicate", "in_channels", "out_channels", "colours"),
            )
        ),
        *((name, ctypes.c_float) for name in ("slope", "in_slope")),
        *((name, ctypes.c_ssize_t) for name in ("in_pixel", "made_pixel", "residual_pixel")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("weights", "bias", "packed", "mirrored", "features", "residual", "made", "picture"),
                *("gradient", "in_gradient", "carry", "gradients"),
            )
        ),
    )


class FeaturesWork(ctypes.Structure):
    """`struct features` of convolutions.c."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("images", "height", "width", "channels")),
        *((name, ctypes.c_void_p) for name in ("first", "second", "pooled", "pooled_gradient", "gradient", "sums")),
        ("weight", ctypes.c_float),
    )


class MapsWork(ctypes.Structure):
    """`struct maps` of convolutions.c."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("images", "height", "width", "channels")),
        *((name, ctypes.c_void_p) for name in ("first", "second", "of", "made")),
        ("slope", ctypes.c_float),
    )


CALLS: dict[str, type[ctypes.Structure]] = {
    "trunk_forward": TrunkWork,
    "trunk_backward": TrunkWork,
    "conv_forward": ConvWork,
    "conv_backward": ConvWork,
    **{f"features_{name}": FeaturesWork for name in ("compare", "pool", "back")},
    **{f"maps_{name}": MapsWork for name in ("join", "enlarge", "shrink", "shuffle", "unshuffle")},
}
"""Functions of convolutions.c and their arguments."""


@cache
def compiled() -> ctypes.CDLL | None:
    """Load convolutions.c; None if it is not compiled, which the first call logs."""
    functions = {f"step_{name}": (ctypes.POINTER(work), ctypes.c_int, ctypes.c_int) for name, work in CALLS.items()}
    structs = tuple(dict.fromkeys(CALLS.values()))
    return load(LIBRARY, functions, structs=structs, otherwise="training leaves all convolutions to PyTorch")


@cache
def available() -> tuple[Instructions, ...]:
    """Return the instructions that a step can use on this processor, fastest first; plain C is for tests alone."""
    library = compiled()
    found: dict[Instructions, bool] = {"AMX": has_amx(library), "AVX512-BF16": has_avx512_bf16(library)}
    return tuple(name for name, there in found.items() if there)


def span(height: int, width: int) -> int:
    """Return the number of pixels of a map with its frame."""
    return (height + 2 * ROWS_AROUND) * (width + 2) + PIXELS_BEHIND


def framed(maps: Tensor, height: int, width: int, border: int = 0) -> Tensor:
    """View the pixels of (N, span, C) as (N, height, width, C), with `border` more on every side."""
    rows: Tensor = maps[:, :-PIXELS_BEHIND].unflatten(1, (height + 2 * ROWS_AROUND, width + 2))
    return rows[:, ROWS_AROUND - border : ROWS_AROUND + height + border, 1 - border : 1 + width + border]


class Buffers:
    """Memory for feature maps that is reused from step to step, and calls of convolutions.c.

    Args:
        instructions: one of `available`, or plain C, which is slow and runs on any processor.
    """

    def __init__(self, instructions: Instructions) -> None:
        self._instructions = INSTRUCTIONS.index(instructions)
        self._size = (0, 0)
        self._kept: dict[str, dict[tuple[int, ...], Tensor]] = {}
        self._passes = 0

    def begin(self, height: int, width: int) -> int:
        """Number a forward pass over pictures of this size, which overwrites the maps of the one before."""
        self._passes += 1
        self._size = height, width
        return self._passes

    def check(self, number: int) -> None:
        """Refuse the backward pass if its maps are overwritten.

        Raises:
            RuntimeError: another forward pass has begun since.
        """
        if number != self._passes:
            raise RuntimeError("a later forward pass has overwritten the maps of this one; go back before it")

    def zeros(self, name: str, *shape: int) -> Tensor:
        """Return memory for maps in bfloat16: zeros at first, later the content of the last pass."""
        kept = self._kept.setdefault(name, {})
        key = (*self._size, *shape)  # maps of another size have their frame of zeros elsewhere
        if key not in kept:
            kept[key] = torch.zeros(shape, dtype=torch.bfloat16)
        return kept[key]

    def run(self, function: str, work: ctypes.Structure) -> None:
        """Call convolutions.c with PyTorch's number of threads.

        Raises:
            MemoryError: there is not enough memory.
        """
        if getattr(compiled(), f"step_{function}")(work, torch.get_num_threads(), self._instructions):
            raise MemoryError("no memory for the convolutions of a training step")


def laid_out(weight: Tensor) -> Tensor:
    """(out, in, 3, 3) -> [out][3][3][in], channels padded to a multiple of `CHUNK`."""
    rows = weight.detach().permute(0, 2, 3, 1)
    if rows.shape[0] % CHUNK == rows.shape[3] % CHUNK == 0:
        return rows.contiguous()
    padded = rows.new_zeros(padded_to_chunks(rows.shape[0]), 3, 3, padded_to_chunks(rows.shape[3]))
    padded[: rows.shape[0], :, :, : rows.shape[3]] = rows
    return padded


def padded_to_chunks(channels: int) -> int:
    """Round up to a multiple of `CHUNK`."""
    return -(-channels // CHUNK) * CHUNK
