"""A generator on a device: pictures in, upscaled pictures out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import Checkpoint, read_checkpoint
from model.device import best_device, fast_dtype
from model.rrdb import RRDBNet
from model.streaming import upscale_batch, upscale_rows

Pixels = NDArray[numpy.uint8]
"""uint8 RGB (N, H, W, 3): the planes of one picture, e.g. its colour and its alpha."""

BAND_ROWS = 64
"""Rows of a large picture that go through the network at a time."""

SELF_TEST_PSNR_DB = 40.0
"""The golden picture must come out at least this close to what the weight file says; bfloat16 gives about 55."""


class SelfTestError(Exception):
    """The network on this device does not reproduce the golden picture of its weight file."""


class Upscaler:
    """Turns pictures into pictures `scale` times larger. One thread at a time may use it.

    Args:
        net: the generator; moved to the device, in place.
        device: the best one present by default.
        dtype: number format of the convolutions, by default the fastest that the device has natively. The trunk's
            residual sums and the last convolution are always float32.
    """

    def __init__(self, net: RRDBNet, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        self.scale = net.config.scale
        self.device = device or best_device()
        self.dtype = dtype or fast_dtype(self.device)
        net.eval().requires_grad_(False)
        net.to(device=self.device, dtype=self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword
        net.conv_first.float()  # in bfloat16 their numbers could not tell neighbouring 8-bit levels apart
        net.conv_last.float()
        self._net = net

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint, device: torch.device | None = None) -> "Upscaler":
        """Set up a checkpoint that was read, and prove that it works here.

        Raises:
            SelfTestError: what comes out is not what the file says.
        """
        upscaler = cls(checkpoint.net, device)
        upscaler._self_test(checkpoint)
        return upscaler

    @torch.inference_mode()
    def batch(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """Upscale small pictures together, whole; each as if it were alone."""
        sizes = [(p.shape[1], p.shape[2]) for p in pictures for _ in range(len(p))]
        height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
        padded = numpy.zeros((len(sizes), height, width, 3), numpy.uint8)
        filled = 0
        for picture in pictures:
            padded[filled : filled + len(picture), : picture.shape[1], : picture.shape[2]] = picture
            filled += len(picture)
        upscaled = _to_pixels(upscale_batch(self._net, self._to_input(padded), sizes))
        parts = numpy.split(upscaled, numpy.cumsum([len(p) for p in pictures])[:-1])
        return [
            numpy.ascontiguousarray(part[:, : p.shape[1] * self.scale, : p.shape[2] * self.scale])
            for part, p in zip(parts, pictures, strict=True)
        ]

    def stream(self, picture: Pixels, band_rows: int = BAND_ROWS) -> Iterator[Pixels]:
        """Upscale one picture of any height, band by band; memory beside the picture grows with its width only.

        Yields:
            The next rows of the result, (N, some rows or none, scale * W, 3).
        """
        bands = (self._to_input(picture[:, top : top + band_rows]) for top in range(0, picture.shape[1], band_rows))
        rows = upscale_rows(self._net, bands, band_rows=band_rows)
        while True:
            # Entered for each band anew: a generator must not keep inference mode on while its caller runs.
            with torch.inference_mode():
                band = next(rows, None)
                if band is None:
                    return
                pixels = _to_pixels(band)
            yield pixels

    def upscale(self, picture: Pixels) -> Pixels:
        """Upscale one picture of any size, as a stream."""
        return numpy.concatenate(list(self.stream(picture)), axis=1)

    def _to_input(self, pixels: Pixels) -> Tensor:
        """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1] on the device; the view is channels-last already."""
        return torch.tensor(pixels, device=self.device).permute(0, 3, 1, 2).float().div_(255)

    def _self_test(self, checkpoint: Checkpoint) -> None:
        picture = checkpoint.golden_input.permute(1, 2, 0)[None].contiguous().numpy()
        expected = checkpoint.golden_output.permute(1, 2, 0)[None].numpy()
        for way, upscaled in (("whole", self.batch([picture])[0]), ("as a stream", self.upscale(picture))):
            if upscaled.shape != expected.shape:
                raise SelfTestError(f"self-test of {checkpoint.card.name}: {upscaled.shape} px, not {expected.shape}")
            error = float(numpy.square(upscaled.astype(float) - expected).mean())
            if error > 255**2 / 10 ** (SELF_TEST_PSNR_DB / 10):
                raise SelfTestError(
                    f"self-test of {checkpoint.card.name} on {self.device} in {self.dtype}, {way}: the golden picture "
                    f"is off by {error**0.5:.1f} levels (root mean square); the device or the weights cannot be trusted"
                )


def load(path: Path, device: torch.device | None = None) -> tuple[Upscaler, Checkpoint]:
    """Read a weight file, set it up and test it.

    Raises:
        WeightsError: the file cannot be used.
        SelfTestError: the file is fine, its result on this device is not.
    """
    checkpoint = read_checkpoint(path)
    return Upscaler.of_checkpoint(checkpoint, device), checkpoint


def _to_pixels(upscaled: Tensor) -> Pixels:
    """Float (N, 3, H, W) -> uint8 (N, H, W, 3), rounded, in the host's memory."""
    pixels: Pixels = upscaled.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return pixels
