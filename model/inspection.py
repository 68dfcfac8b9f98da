"""What a weight file is, and whether it works here: `python -m model info` and `check`."""

import copy
import math
import time
from dataclasses import asdict, dataclass

import numpy
import torch

from model.checkpoint import Checkpoint
from model.device import band_px, best_device, use_physical_cores
from model.reliable import ReliableUpscaler
from model.transfer import Pixels
from model.upscaler import Upscaler

TRIAL_SIZE = (67, 53)
"""Height and width of the picture that `check` upscales in several ways: odd, and many bands high."""

TRIAL_BAND_ROWS = 8

MOST_STREAM_LEVELS = 1
"""By which a stream may differ from the whole picture, in 8-bit levels: where a value lies between two of them."""

LEAST_PRECISION_DB = 40.0
"""PSNR that the device's fast format must keep against float32."""

SPEED_S = 1.0
"""How long `check` measures speed at least."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """A weight file in figures."""

    name: str
    format: str
    architecture: str
    scale: int
    channels: int
    blocks: int
    growth: int
    inputs: int
    unshuffle: int
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


def describe(checkpoint: Checkpoint) -> Description:
    """Everything that a file says and that its weights tell."""
    config = checkpoint.net.config
    return Description(
        format=checkpoint.format,
        architecture="rrdb",
        parameters=sum(weight.numel() for weight in checkpoint.net.parameters()),
        mmac_per_lr_px=round(config.macs_per_low_res_px / 1e6, 4),
        sha256=checkpoint.sha256,
        **asdict(config),
        **asdict(checkpoint.card),
    )


@dataclass(frozen=True, kw_only=True)
class Findings:
    """How a network did on this device."""

    device: str
    precision: str
    stream_levels: int
    """Largest difference between stream and whole picture, in 8-bit levels."""
    precision_db: float
    """PSNR of the device's fast format against float32; infinite where they are equal."""
    precision_levels: int
    lr_px_per_s: float
    gflop_per_s: float

    @property
    def failures(self) -> list[str]:
        """What is wrong; nothing where the network can serve."""
        wrong = []
        if self.stream_levels > MOST_STREAM_LEVELS:
            wrong.append(f"a stream differs from the whole picture by {self.stream_levels} levels")
        if self.precision_db < LEAST_PRECISION_DB:
            wrong.append(f"{self.precision} is {self.precision_db:.1f} dB from float32, under {LEAST_PRECISION_DB:.0f}")
        return wrong


def check(checkpoint: Checkpoint, device: torch.device | None = None) -> Findings:
    """Test a network as the service does before it serves, compare its ways to work, and measure its speed.

    The checkpoint's network is moved to the device.

    Raises:
        SelfTestError: it does not reproduce its golden picture on this device.
    """
    use_physical_cores()
    device = device or best_device()
    exact = Upscaler(copy.deepcopy(checkpoint.net), device, torch.float32)
    upscaler = ReliableUpscaler(checkpoint, device)
    picture = _picture(*TRIAL_SIZE)
    whole = exact.batch([picture])[0]
    streamed = numpy.concatenate(list(exact.stream(picture, TRIAL_BAND_ROWS)), axis=1)
    fast = upscaler.batch([picture])[0]
    lr_px_per_s = _speed(upscaler)
    return Findings(
        device=str(device),
        precision=str(upscaler.dtype).removeprefix("torch."),
        stream_levels=_levels(streamed, whole),
        precision_db=_psnr_db(fast, whole),
        precision_levels=_levels(fast, whole),
        lr_px_per_s=round(lr_px_per_s, 1),
        gflop_per_s=round(2 * checkpoint.net.config.macs_per_low_res_px * lr_px_per_s / 1e9, 1),
    )


def _picture(height: int, width: int) -> Pixels:
    """Noise over slopes: uint8 (1, height, width, 3)."""
    chance = numpy.random.default_rng(0)
    slopes = numpy.linspace(0, 200, height)[:, None, None] + numpy.linspace(0, 30, width)[None, :, None]
    return (slopes + chance.integers(0, 25, (height, width, 3))).astype(numpy.uint8)[None]


def _levels(made: Pixels, expected: Pixels) -> int:
    return int(numpy.abs(made.astype(int) - expected).max())


def _psnr_db(made: Pixels, expected: Pixels) -> float:
    error = float(numpy.square(made.astype(float) - expected).mean())
    return round(10 * math.log10(255**2 / error), 2) if error else math.inf


def _speed(upscaler: ReliableUpscaler) -> float:
    """LR px per second of pictures of a size that suits the device, or of smaller ones where those take long."""
    side, most = 32, math.isqrt(band_px(upscaler.device))
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
