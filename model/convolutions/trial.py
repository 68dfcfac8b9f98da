"""Find the fastest convolver and number format for a network on a device, by timing a dense block of its shape."""

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from model.convolutions import fused
from model.convolutions.convolver import Convolver
from model.convolutions.fused import FusedConvolver
from model.convolutions.library import OneDnnConvolver, library_convolution
from model.convolutions.native import amx, winograd
from model.convolutions.native.amx_convolver import AmxConvolver
from model.convolutions.native.winograd import WinogradConvolver
from model.convolutions.timing import seconds
from model.convolutions.tuning import TOLERANCE, tuned
from model.device import AMPERE, TURING, DeviceMemoryError, current, exact_float32, fast_dtype, memory_errors
from model.rrdb import ResidualDenseBlock, RRDBNet

WINDOW = {"cpu": (34, 130), "cuda": (258, 1026)}
"""Rows and width of the window for timing, padding included: about the size of a band."""

ROUNDS = 8
"""Rounds of alternating calls; the fastest of each counts, so that other work on the machine matters less."""

ABOUT_AS_FAST = 1.05
"""Factor by which float32 may be slower than 16 bits and is still preferred."""

Way = Callable[[], Convolver]

log = logging.getLogger(__name__)


def best_convolver(net: RRDBNet) -> Convolver:
    """Return the fastest convolver for a network on its device, in its number format."""
    weight = net.conv_body.weight
    return fastest_way(net.config.channels, net.config.growth, weight.dtype, weight.device)()


def best_dtype(net: RRDBNet, device: torch.device) -> torch.dtype:
    """Return the fastest number format for a network on a device; float32 if it is about as fast.

    On a GPU with tensor cores that is float16: it is as fast as bfloat16, has three more bits, and needs no extra sums
    in float32. Its range is small, so the output of the network has to be checked, as `Upscaler` does.
    """
    if device.type == "cuda":
        return torch.float16 if torch.cuda.get_device_capability(device) >= TURING else torch.float32
    return fastest_cpu_dtype(net.config.channels, net.config.growth)


@cache
def fastest_cpu_dtype(channels: int, growth: int) -> torch.dtype:
    """Time the formats for networks of a shape; cached, so that all of them use the same one."""
    dtypes, cpu = cpu_dtypes(channels, growth), torch.device("cpu")
    if len(dtypes) == 1:
        return torch.float32
    blocks = [_dense_block(channels, growth, dtype, cpu) for dtype in dtypes]
    ways = [fastest_way(channels, growth, dtype, cpu)() for dtype in dtypes]
    exact_s, *rounded_s = _seconds(list(zip(blocks, ways, strict=True)))
    for dtype, block_s in zip(dtypes, (exact_s, *rounded_s), strict=True):
        log.info("a dense block takes %.2f ms in %s", 1e3 * block_s, dtype)
    least_s = min(rounded_s)
    return torch.float32 if exact_s <= ABOUT_AS_FAST * least_s else dtypes[1 + rounded_s.index(least_s)]


def cpu_dtypes(channels: int, growth: int) -> list[torch.dtype]:
    """List float32 and the 16-bit formats for which there are fast convolutions on this processor."""
    cpu = torch.device("cpu")
    dtypes = [torch.float32, *({fast_dtype(cpu)} - {torch.float32})]
    block = _dense_block(channels, growth, torch.float16, cpu)
    return [*dtypes, torch.float16] if all(map(winograd.takes, block.convolutions)) else dtypes


def library_way(dtype: torch.dtype, device: torch.device) -> Way:
    """Return the best convolver of PyTorch: oneDNN on a CPU, cuDNN on a GPU."""
    return OneDnnConvolver if device.type == "cpu" and one_dnn_takes(dtype) else lambda: library_convolution


def our_way(dtype: torch.dtype, device: torch.device) -> Way | None:
    """Return our own convolver for a format and a device, if there is one."""
    if device.type == "cpu" and dtype is torch.bfloat16 and amx.available():
        library = library_way(dtype, device)
        return lambda: AmxConvolver(library())
    if device.type == "cpu" and dtype is not torch.bfloat16 and winograd.compiled():
        library = library_way(torch.float32, device)
        return lambda: WinogradConvolver(library())
    if device.type == "cuda" and dtype is not torch.float32 and fused.available():
        capability = torch.cuda.get_device_capability(device)
        return FusedConvolver if capability >= AMPERE else None  # Triton does not use the tensor cores before it
    return None


def one_dnn_takes(dtype: torch.dtype) -> bool:
    """Check if oneDNN has a layout for weights of this type; for bfloat16 it needs instructions of the processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32


def _tuned_way(block: ResidualDenseBlock) -> Way:
    """Return the kernel with the fastest tilings that are right here."""
    channels = block.conv5.out_channels
    body = _dense_block(channels, channels, block.conv5.weight.dtype, block.conv5.weight.device).conv1
    tilings = tuned(block, body)
    return lambda: FusedConvolver(tilings)


@cache
def fastest_way(channels: int, growth: int, dtype: torch.dtype, device: torch.device) -> Way:
    """Return our convolver if it runs a dense block with the results of the library, and faster; else the library."""
    with memory_errors(), current(device):
        return _fastest_way(channels, growth, dtype, device)


def _fastest_way(channels: int, growth: int, dtype: torch.dtype, device: torch.device) -> Way:
    library, ours = library_way(dtype, device), our_way(dtype, device)
    if ours is None:
        return library
    block = _dense_block(channels, growth, dtype, device)
    name = type(ours()).__name__
    try:
        if ours is FusedConvolver:
            ours = _tuned_way(block)
        error = _error(block, ours())
        if not error <= TOLERANCE[dtype]:  # so that NaN fails, too
            log.warning("%s is off by %.2g of the largest value, so the library convolves", name, error)
            return library
        log.info("%s is off by %.2g of the largest value in %s", name, error, dtype)
        if device.type == "cpu" and dtype is torch.float16:
            return ours  # the library emulates it
        library_s, ours_s = _seconds([(block, library()), (block, ours())])
    except DeviceMemoryError:
        raise  # is not cached: there may be more memory next time
    except Exception as error:  # Triton raises errors of its compiler, of ptxas and of the driver
        log.warning("%s does not run here, so the library convolves: %s", name, error)
        return library
    log.info("a dense block takes %.2f ms by the library, %.2f ms by %s", 1e3 * library_s, 1e3 * ours_s, name)
    return ours if ours_s < library_s else library


def _dense_block(channels: int, growth: int, dtype: torch.dtype, device: torch.device) -> ResidualDenseBlock:
    """Create a dense block with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = ResidualDenseBlock(channels, growth)
    block.requires_grad_(False)
    return block.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's stub lacks the keyword


def _features(block: ResidualDenseBlock) -> Tensor:
    """Create a window of random numbers for a dense block."""
    channels, weight = block.conv5.in_channels, block.conv5.weight
    chance = torch.Generator(weight.device).manual_seed(0)
    features = torch.rand(1, channels, *WINDOW[weight.device.type], generator=chance, device=weight.device)
    return features.to(dtype=weight.dtype, memory_format=torch.channels_last)


def _run(block: ResidualDenseBlock, features: Tensor, convolve: Convolver) -> Tensor:
    """Run the convolutions of a dense block as for a band: all but the last write into the window."""
    for conv in block.growing:
        target = features[:, conv.in_channels : conv.in_channels + conv.out_channels, 1:-1, 1:-1]
        convolve(conv, features[:, : conv.in_channels], active=True, target=target)
    return convolve(block.conv5, features)


@torch.inference_mode()
def _error(block: ResidualDenseBlock, convolve: Convolver) -> float:
    """Return the largest error of a convolver, compared with the library in float32, relative to the largest value."""
    exact_float32()
    exact, made = copy.deepcopy(block).float(), []
    for some, way in ((block, convolve), (exact, library_way(torch.float32, exact.conv5.weight.device)())):
        features = _features(block).to(some.conv5.weight.dtype)
        closing = _run(some, features, way)
        made.append(torch.cat((features[:, :, 1:-1, 1:-1], closing), dim=1).float())
    return float((made[0] - made[1]).abs().max() / made[1].abs().max())


@torch.inference_mode()
def _seconds(ways: Sequence[tuple[ResidualDenseBlock, Convolver]]) -> list[float]:
    """Return the time of each block in its fastest round."""
    best_s = [math.inf] * len(ways)
    windows = [_features(block) for block, _ in ways]
    if windows[0].device.type == "cuda":
        calls = [partial(_run, block, features, way) for (block, way), features in zip(ways, windows, strict=True)]
        return [seconds(call, windows[0].device) for call in calls]
    for _ in range(1 + ROUNDS):  # the first round compiles or chooses an algorithm
        for number, ((block, convolve), features) in enumerate(zip(ways, windows, strict=True)):
            began_s = time.perf_counter()
            _run(block, features, convolve)
            best_s[number] = min(best_s[number], time.perf_counter() - began_s)
    return best_s
