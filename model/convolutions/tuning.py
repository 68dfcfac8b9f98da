"""Tune the kernel of `fused.py` on this machine: find the fastest tiling that is right.

Every kind of convolution of a network is run with every tiling, and compared with the library in float32. Tilings that
do not compile, do not fit or are wrong are left out. The fastest of the rest are used: one for small and one for large
pictures. This happens before the first request, so no request waits for compilation or timing.
"""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.convolutions import fused
from model.convolutions.fused import FusedConvolver, Tilings
from model.convolutions.library import library_convolution
from model.convolutions.timing import seconds
from model.device import DeviceMemoryError, memory_errors
from model.errors import one_line
from model.rrdb import RESIDUAL_SCALING, ResidualDenseBlock
from model.workspace import Padding, rows_like

SMALL_WINDOW, LARGE_WINDOW = (98, 162), (258, 1026)
"""Rows and columns of the windows for timing: with fewer pixels than `fused.LARGE_PX`, and with more."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.01}
"""Maximum difference from the exact result, relative to its largest value."""

log = logging.getLogger(__name__)


def tuned(
    block: ResidualDenseBlock,
    body: nn.Conv2d,
    *,
    windows: tuple[tuple[int, int], tuple[int, int]] = (SMALL_WINDOW, LARGE_WINDOW),
    clock: Callable[[Callable[[], object], torch.device], float] = seconds,
) -> Tilings:
    """Find tilings for all kinds of convolution of a network; kinds without a right one are left out.

    Args:
        block: any of the network's dense blocks.
        body: a convolution with equal numbers of input and output channels, as after the trunk.
        windows: rows and columns of a small and of a large window.

    Raises:
        NoTilingError: no kind has a right one.
        DeviceMemoryError: the device does not have enough memory.
    """
    found: dict[tuple[int, int], tuple[fused.Tiling, fused.Tiling]] = {}
    faults: dict[str, str] = {}
    for conv in (*block.convolutions, body):
        residual = RESIDUAL_SCALING if conv is block.conv5 else 0.0
        why: list[str] = []
        small, large = (_fastest(conv, residual, window, clock, why) for window in windows)
        if small is not None and large is not None:
            found[conv.in_channels, conv.out_channels] = (small, large)
        else:
            faults[f"{conv.in_channels} to {conv.out_channels} channels"] = why[0]
    if not found:
        raise NoTilingError(f"no tiling of the kernel is right: {next(iter(faults.values()))}")
    for kind, fault in faults.items():
        log.warning("no tiling is right for %s, so the library convolves them: %s", kind, fault)
    return found


def _fastest(
    conv: nn.Conv2d,
    residual: float,
    size: tuple[int, int],
    clock: Callable[[Callable[[], object], torch.device], float],
    why: list[str],
) -> fused.Tiling | None:
    """Find the fastest tiling that is right in a window, with and without sizes of pictures.

    Args:
        why: receives the reason for each tiling that is left out.
    """
    window = _window(conv, size)
    timed: list[tuple[float, int, fused.Tiling]] = []
    for tiling in fused.tilings(conv.out_channels):
        call = partial(_run, conv, window, residual, tiling)
        with _left_out(conv, tiling, why):
            _check(conv, window, residual, tiling, None)
            timed.append((clock(call, window.device), len(timed), tiling))
    for _, _, tiling in sorted(timed, key=lambda one: one[:2]):
        with _left_out(conv, tiling, why):
            for padding in _paddings(window):
                _check(conv, window, residual, tiling, padding)
            return tiling
    return None


def _window(conv: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    weight = conv.weight
    chance = torch.Generator(weight.device).manual_seed(0)
    window = torch.rand(1, conv.in_channels, *size, generator=chance, device=weight.device)
    return window.to(dtype=weight.dtype, memory_format=torch.channels_last)


def _paddings(window: Tensor) -> Iterator[Padding]:
    """Yield both kinds of padding for a picture that does not fill its plane."""
    height, width = window.shape[2] - 2, window.shape[3] - 2
    sizes = torch.tensor([[height - 5, width - 7]], device=window.device)
    yield from (Padding(sizes, height, width, mode) for mode in ("zeros", "replicate"))


def _run(
    conv: nn.Conv2d,
    window: Tensor,
    residual: float,
    tiling: fused.Tiling | None,
    padding: Padding | None = None,
) -> Tensor:
    """Run a convolution as a network does: the last one of a dense block adds to a skip in float32."""
    one = FusedConvolver({(conv.in_channels, conv.out_channels): (tiling, tiling)} if tiling else None)
    convolve = one.padded(padding) if padding else one
    skip = _skip(conv, window) if residual and conv.weight.dtype is torch.bfloat16 else None
    return convolve(conv, window, active=not residual, residual=residual, skip=skip)


def _skip(conv: nn.Conv2d, window: Tensor) -> Tensor:
    return rows_like(window[:, :, 1:-1, 1:-1], window.shape[2] - 2, conv.out_channels, torch.float32).fill_(0.5)


def _check(conv: nn.Conv2d, window: Tensor, residual: float, tiling: fused.Tiling, padding: Padding | None) -> None:
    """Compare a tiling with the library in float32.

    Raises:
        WrongNumbersError: the results differ.
    """
    made = _run(conv, window, residual, tiling, padding).float()
    exact_conv, seen = copy.deepcopy(conv).float(), window.float()
    if padding is not None:
        height, width = padding.sizes[0].tolist()
        inside = seen[:, :, 1 : 1 + height, 1 : 1 + width]
        mode = "replicate" if padding.repeats else "constant"
        seen, made = functional.pad(inside, (1, 1, 1, 1), mode=mode), made[:, :, :height, :width]
    skip = _skip(conv, seen) if residual and conv.weight.dtype is torch.bfloat16 else None
    exact = library_convolution(exact_conv, seen, active=not residual, residual=residual, skip=skip)
    error = float((made - exact).abs().max() / exact.abs().max())
    if not error <= TOLERANCE[conv.weight.dtype]:
        raise WrongNumbersError(f"it is off by {error:.2g} of the largest value")


class NoTilingError(Exception):
    """The kernel does not run on this machine, or is wrong with every tiling; the text says why for the first one."""


class WrongNumbersError(Exception):
    """The result of a tiling differs from that of the library."""


@contextmanager
def _left_out(conv: nn.Conv2d, tiling: fused.Tiling, why: list[str]) -> Iterator[None]:
    """Leave out a tiling that does not run here or is wrong; `why` gets the reason, and the log if it is wrong."""
    try:
        with memory_errors():
            yield
    except DeviceMemoryError:
        raise
    except Exception as error:  # Triton raises errors of its compiler, of ptxas and of the driver
        why.append(one_line(error))
        kind = f"{conv.in_channels} to {conv.out_channels} channels"
        level = logging.WARNING if isinstance(error, WrongNumbersError) else logging.DEBUG
        log.log(level, "a tiling for %s is left out: %s (%s)", kind, one_line(error), tiling)
