"""Describe a weight file and test it on this machine: `python -m model info` and `check`."""

import copy
import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.device import best_device, use_physical_cores
from model.files.checkpoint import reference_output
from model.files.foreign import ForeignNet
from model.files.reading import AnyCheckpoint
from model.psnr import psnr_db
from model.reliable import ReliableUpscaler
from model.rrdb import RRDBNet
from model.transfer import Pixels
from model.upscalers import upscaler_for

TRIAL_SIZE = (67, 53)
"""Height and width of the picture that `check` upscales in several ways: odd, and many bands high."""

TILED_TRIAL_SIZE = (401, 53)
"""The same for tiled networks, whose strips are higher."""

TRIAL_BAND_ROWS = 8

MAX_STREAM_LEVELS, MAX_TILED_LEVELS = 1, 2
"""Maximum difference of streams, and of tiles, from the whole picture, in 8-bit levels."""

MIN_PRECISION_DB = 40.0
"""Minimum PSNR of the fast number format against float32."""

SPEED_S = 1.0
"""Minimum time for measuring speed."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """Properties of a weight file."""

    name: str
    format: str
    architecture: str
    scale: int
    channels: int | None
    """None for other networks than ESRGAN generators, like the next two."""
    blocks: int | None
    growth: int | None
    inputs: int
    unshuffle: int
    padding_mode: str | None
    """Pixels that convolutions see beyond the border; None for other networks."""
    parameters: int
    mmac_per_lr_px: float
    sha256: str
    recipe: str
    steps: int
    data: str
    licence: str
    source: str
    created: str
    metrics: dict[str, dict[str, float]]


def describe(checkpoint: AnyCheckpoint) -> Description:
    """Describe a file by its card and its weights."""
    net = checkpoint.net
    if isinstance(net, ForeignNet):
        unknown = dict.fromkeys(("channels", "blocks", "growth", "padding_mode"))
        sizes: dict[str, Any] = {"scale": net.scale, "inputs": net.inputs, "unshuffle": 1, **unknown}
        architecture = net.architecture
    else:
        sizes, architecture = asdict(net.config), "rrdb"
    return Description(
        format=checkpoint.format,
        architecture=architecture,
        parameters=sum(weight.numel() for weight in net.parameters()),
        mmac_per_lr_px=round(_macs_per_low_res_px(net) / 1e6, 4),
        sha256=checkpoint.sha256,
        **sizes,
        **asdict(checkpoint.card),
    )


def _macs_per_low_res_px(net: RRDBNet | ForeignNet) -> float:
    if isinstance(net, RRDBNet):
        return net.config.macs_per_low_res_px
    weight = next(net.parameters())
    picture = torch.zeros(1, 3, 64, 64, dtype=weight.dtype, device=weight.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(picture)
    return float(counter.get_total_flops()) / 2 / picture[0, 0].numel()


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Results of testing a network on this device."""

    device: str
    precision: str
    stream_levels: int
    """Largest difference between stream, or tiles, and whole picture, in 8-bit levels."""
    max_stream_levels: int
    """Limit of `stream_levels`."""
    precision_db: float
    """PSNR of the fast number format against float32; infinite if they are equal."""
    precision_levels: int
    lr_px_per_s: float
    gflop_per_s: float

    @property
    def failures(self) -> list[str]:
        """Reasons why the network cannot serve."""
        wrong = []
        if self.stream_levels > self.max_stream_levels:
            wrong.append(f"a stream differs from the whole picture by {self.stream_levels} levels")
        if self.precision_db < MIN_PRECISION_DB:
            wrong.append(f"{self.precision} is {self.precision_db:.1f} dB from float32, under {MIN_PRECISION_DB:.0f}")
        return wrong


def check(checkpoint: AnyCheckpoint, device: torch.device | None = None) -> Findings:
    """Test a network like the service does, compare streams and number formats, and measure its speed.

    The checkpoint's network is moved to the device.

    Raises:
        SelfTestError: the network does not reproduce its golden picture on this device.
    """
    use_physical_cores()
    device = device or best_device()
    tiled = isinstance(checkpoint.net, ForeignNet)
    picture = _picture(*(TILED_TRIAL_SIZE if tiled else TRIAL_SIZE))
    whole, macs = _whole(checkpoint.net, picture), _macs_per_low_res_px(checkpoint.net)
    exact = upscaler_for(copy.deepcopy(checkpoint.net), device, torch.float32)
    upscaler = ReliableUpscaler(checkpoint, device)
    streamed = numpy.concatenate(list(exact.stream(picture, TRIAL_BAND_ROWS)), axis=1)
    fast = upscaler.batch([picture])[0]
    lr_px_per_s = _speed(upscaler)
    return Findings(
        device=str(device),
        precision=str(upscaler.dtype).removeprefix("torch."),
        stream_levels=_levels(streamed, whole),
        max_stream_levels=MAX_TILED_LEVELS if tiled else MAX_STREAM_LEVELS,
        precision_db=round(psnr_db(fast, whole), 2),
        precision_levels=_levels(fast, whole),
        lr_px_per_s=round(lr_px_per_s, 1),
        gflop_per_s=round(2 * macs * lr_px_per_s / 1e9, 1),
    )


def _picture(height: int, width: int) -> Pixels:
    """Create a picture of noise over gradients: uint8 (1, height, width, 3)."""
    chance = numpy.random.default_rng(0)
    slopes = numpy.linspace(0, 200, height)[:, None, None] + numpy.linspace(0, 30, width)[None, :, None]
    return (slopes + chance.integers(0, 25, (height, width, 3))).astype(numpy.uint8)[None]


@torch.inference_mode()
def _whole(net: RRDBNet | ForeignNet, picture: Pixels) -> Pixels:
    """Upscale a whole picture at once by the network itself, on the CPU in float32."""
    if isinstance(net, RRDBNet):  # with the margin that it may need
        return reference_output(net, torch.from_numpy(picture[0]).permute(2, 0, 1)).permute(1, 2, 0)[None].numpy()
    made = net(torch.from_numpy(picture).permute(0, 3, 1, 2) / 255)
    levels: Pixels = made.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return levels


def _levels(made: Pixels, expected: Pixels) -> int:
    return int(numpy.abs(made.astype(int) - expected).max())


def _speed(upscaler: ReliableUpscaler) -> float:
    """Measure LR px per second, with pictures as large as suits the device, or smaller if they take too long."""
    side, most = 32, math.isqrt(upscaler.most_px)
    while True:
        picture = _picture(side, side)
        upscaler.batch([picture])
        began_s, rounds = time.perf_counter(), 0
        while (taken_s := time.perf_counter() - began_s) < SPEED_S or not rounds:
            upscaler.batch([picture])
            rounds += 1
        if side * 2 > most or taken_s / rounds > SPEED_S / 4:
            return rounds * side**2 / taken_s
        side *= 2
