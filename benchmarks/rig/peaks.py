"""Upper bounds of the device's speed: matrix products, and the trunk's convolutions alone."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from model.convolutions.native.amx import multiply_tiles
from model.rrdb import RRDBConfig

MATRIX_SIDE = {"cpu": 1024, "cuda": 8192}
"""Large enough to keep the device busy; on a CPU small enough to stay in its cache."""

Run = Callable[[], object]


def dense_convolutions(
    config: RRDBConfig, device: torch.device, dtype: torch.dtype, *, band_rows: int, height: int, width: int
) -> tuple[Run, float]:
    """Prepare all convolutions of the trunk on a picture, band by band, with nothing between them.

    Returns:
        A call that runs them, and their FLOP.
    """
    widths_in = [config.channels + j * config.growth for j in range(5)]
    widths_out = [config.growth] * 4 + [config.channels]
    layers = [
        (_noise(device, dtype, 1, into, band_rows, width), _noise(device, dtype, out, into, 3, 3))
        for into, out in zip(widths_in, widths_out, strict=True)
    ]
    repeats = 3 * config.blocks * -(-height // band_rows)

    @torch.inference_mode()
    def run() -> None:
        for _ in range(repeats):
            for rows, weight in layers:
                functional.conv2d(rows, weight, padding=1)
        _wait_for(device)

    macs_per_px = sum(9 * into * out for into, out in zip(widths_in, widths_out, strict=True))
    return run, 2.0 * macs_per_px * repeats * band_rows * width


def matrix_product(device: torch.device, dtype: torch.dtype, *, repeats: int = 50) -> tuple[Run, float]:
    """Prepare products of square matrices.

    Returns:
        A call that computes them, and their FLOP.
    """
    side = MATRIX_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(left)

    def run() -> None:
        for _ in range(repeats):
            torch.mm(left, right, out=product)
        _wait_for(device)

    return run, 2.0 * side**3 * repeats


def tile_products(*, rounds: int = 2_000_000) -> tuple[Run, float]:
    """Prepare products of AMX tiles that stay in their registers.

    Returns:
        A call that computes them, and their FLOP.
    """
    flop = rounds * multiply_tiles(1)
    return lambda: multiply_tiles(rounds), flop


def _noise(device: torch.device, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(shape, device=device).to(dtype=dtype, memory_format=torch.channels_last)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
