"""A 3x3 convolution over a window of rows, done by whatever does it fastest on the device."""

import logging
import time
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from model import fused
from model.rrdb import NEGATIVE_SLOPE, RRDB, RRDBNet
from model.workspace import Padding, rows_like

TRIAL_ROWS, TRIAL_WIDTH = 256, 512
"""Size of the window that a GPU's ways to convolve are timed with: of the order of a band."""

TRIAL_ROUNDS = 10

TRIAL_TOLERANCE = 0.03
"""Most by which two right ways may differ, relative to the largest value: both round to 8 bits of mantissa."""

log = logging.getLogger(__name__)


class Convolver(Protocol):
    """Runs the convolutions of a network."""

    def __call__(
        self, conv: nn.Conv2d, window: Tensor, *, active: bool = False, target: Tensor | None = None
    ) -> Tensor:
        """(N, C, R, W) with the rows above and below -> (N, out_channels, R - 2, W); no rows where R is less than 3.

        Args:
            active: LeakyReLU comes after it.
            target: where the result goes, and what is returned; may be other channels of the window's buffer.
        """


def library_convolution(
    conv: nn.Conv2d, window: Tensor, *, active: bool = False, target: Tensor | None = None
) -> Tensor:
    """PyTorch's own convolution: oneDNN's on a CPU, cuDNN's on a GPU. See `Convolver`."""
    if window.shape[2] < 3:
        made = window.new_empty(window.shape[0], conv.out_channels, 0, window.shape[3])
    else:
        made = functional.conv2d(window, conv.weight, conv.bias, padding=(0, 1))
        made = functional.leaky_relu(made, NEGATIVE_SLOPE, inplace=True) if active else made
    return made if target is None else target.copy_(made)


class OneDnnConvolver:
    """oneDNN's convolution with LeakyReLU on the way out, its weights laid out once instead of in every call."""

    def __init__(self) -> None:
        self._packed: dict[nn.Conv2d, Tensor] = {}

    def __call__(
        self, conv: nn.Conv2d, window: Tensor, *, active: bool = False, target: Tensor | None = None
    ) -> Tensor:
        """See `Convolver`."""
        if window.shape[2] < 3:
            return library_convolution(conv, window, active=active, target=target)
        padding, one = [0, 1], [1, 1]
        if conv not in self._packed:
            # The shape is a hint for the layout; windows of others are right as well.
            self._packed[conv] = torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight, padding, one, one, 1, window.shape
            )
        after = ("leaky_relu", [NEGATIVE_SLOPE], "") if active else ("none", [], "")
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(
            window, self._packed[conv], conv.bias, padding, one, one, 1, *after
        )
        return made if target is None else target.copy_(made)


class FusedConvolver:
    """The kernel of `model.fused`, for convolutions in 16 bits; the few float32 ones are the library's."""

    def __init__(self) -> None:
        self._packed: dict[nn.Conv2d, fused.Packed] = {}

    def __call__(
        self, conv: nn.Conv2d, window: Tensor, *, active: bool = False, target: Tensor | None = None
    ) -> Tensor:
        """See `Convolver`."""
        if conv.weight.dtype is torch.float32 or window.shape[2] < 3:
            return library_convolution(conv, window, active=active, target=target)
        if conv not in self._packed:
            self._packed[conv] = fused.pack(conv)
        if target is None:
            target = rows_like(window, window.shape[2] - 2, conv.out_channels)
        slope = NEGATIVE_SLOPE if active else None
        fused.convolve(window, self._packed[conv], target, negative_slope=slope)
        return target


class PaddedConvolver:
    """Another convolver, after which the pixels next to the pictures of a padded batch are zero again."""

    def __init__(self, convolve: Convolver, padding: Padding) -> None:
        self._convolve = convolve
        self._padding = padding

    def __call__(
        self, conv: nn.Conv2d, window: Tensor, *, active: bool = False, target: Tensor | None = None
    ) -> Tensor:
        """See `Convolver`."""
        made = self._convolve(conv, window, active=active, target=target)
        self._padding.clear(made)
        return made


def best_convolver(net: RRDBNet) -> Convolver:
    """The fastest way to run a network's convolutions where it is: oneDNN on a CPU, cuDNN or our kernel on a GPU."""
    weight, block = net.conv_body.weight, net.body[0]
    if weight.device.type == "cpu" and one_dnn_takes(weight.dtype):
        return OneDnnConvolver()
    if weight.is_cuda and weight.dtype is not torch.float32 and fused.available() and isinstance(block, RRDB):
        return faster_convolver(block, FusedConvolver())
    return library_convolution


def one_dnn_takes(dtype: torch.dtype) -> bool:
    """Whether oneDNN lays out weights of this type; for 16 bits it asks for the processor's own instructions."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32


@torch.inference_mode()
def faster_convolver(block: RRDB, candidate: Convolver) -> Convolver:
    """The candidate, if it runs the convolutions of a block, makes what the library makes, and is faster."""
    try:
        error = _difference(block, candidate)
        if error > TRIAL_TOLERANCE:
            log.warning("the fused kernel is off by %.3f of the largest value, so the library convolves", error)
            return library_convolution
        library_s, candidate_s = _seconds(block, library_convolution), _seconds(block, candidate)
    except Exception as error:  # Triton raises whatever its compiler, ptxas or the driver trips over
        log.warning("the fused kernel does not run here, so the library convolves: %s", error)
        return library_convolution
    log.info("a dense block takes %.2f ms by the library, %.2f ms fused", 1e3 * library_s, 1e3 * candidate_s)
    return candidate if candidate_s < library_s else library_convolution


def _trial(block: RRDB, convolve: Convolver) -> Tensor:
    """Run the convolutions of a dense block as a band does; returns all that they made."""
    closing, growing = block.rdb1.conv5, block.rdb1.growing
    shape = (1, closing.in_channels, TRIAL_ROWS, TRIAL_WIDTH)
    chance = torch.Generator(closing.weight.device).manual_seed(0)
    features = torch.rand(shape, generator=chance, device=closing.weight.device).to(closing.weight.dtype)
    features = features.contiguous(memory_format=torch.channels_last)
    for conv in growing:
        target = features[:, conv.in_channels : conv.in_channels + conv.out_channels, 1:-1]
        convolve(conv, features[:, : conv.in_channels], active=True, target=target)
    return torch.cat((features[:, :, 1:-1], convolve(closing, features)), dim=1)


def _difference(block: RRDB, convolve: Convolver) -> float:
    expected = _trial(block, library_convolution).float()
    return float((_trial(block, convolve).float() - expected).abs().max() / expected.abs().max())


def _seconds(block: RRDB, convolve: Convolver) -> float:
    for _ in range(2):  # the first one compiles or chooses an algorithm
        _trial(block, convolve)
    torch.cuda.synchronize()
    began_s = time.perf_counter()
    for _ in range(TRIAL_ROUNDS):
        _trial(block, convolve)
    torch.cuda.synchronize()
    return (time.perf_counter() - began_s) / TRIAL_ROUNDS
