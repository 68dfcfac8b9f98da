"""A generator on a device: pictures in, upscaled pictures out."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.device import band_px, best_device, fast_dtype, memory_errors
from model.rrdb import RRDBNet
from model.streaming import state_bytes_per_column, upscale_batch, upscale_rows
from model.workspace import Size, Workspace

Pixels = NDArray[numpy.uint8]
"""uint8 RGB (N, H, W, 3): the planes of one picture, e.g. its colour and its alpha."""

FLAT_LEVELS = 16
"""A flat output is suspicious where the input has at least so much contrast."""


class SuspiciousOutputError(Exception):
    """The output is not finite, or it is flat where the input is not."""


class Upscaler:
    """Turns pictures into pictures `scale` times larger. One thread at a time may use it.

    Every call raises `DeviceMemoryError` where the device's memory does not suffice, and `SuspiciousOutputError`
    instead of returning an output that cannot be right.

    Args:
        net: the generator; moved to the device, in place.
        device: the best one present by default.
        dtype: number format of the convolutions, by default the fastest that the device has natively. The first and the
            last convolution and the trunk's residual sums are always float32.
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
        self._workspace = Workspace()

    def band_rows(self, picture: Pixels) -> int:
        """Rows of a picture (N, H, W, 3) that the device best takes at a time."""
        planes, height, width, _ = picture.shape
        return int(min(height, max(1, band_px(self.device) // (planes * width))))

    def state_bytes(self, planes: int, width: int) -> int:
        """Memory on the device that a stream of this width holds from band to band."""
        return planes * width * state_bytes_per_column(self._net)

    def batch(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """Upscale small pictures together, whole; each as if it were alone.

        A GPU gets all of them at once. A CPU has nothing to win from that, so only pictures of one size share a call
        there, as many as stay in its cache.
        """
        groups: dict[object, list[int]] = defaultdict(list)
        for number, picture in enumerate(pictures):
            groups[picture.shape[1:] if self.device.type == "cpu" else None].append(number)
        upscaled: dict[int, Pixels] = {}
        for numbers in groups.values():
            together = max(1, band_px(self.device) // max(pictures[number][..., 0].size for number in numbers))
            for first in range(0, len(numbers), together):
                some = numbers[first : first + together]
                upscaled |= zip(some, self._together([pictures[number] for number in some]), strict=True)
        return [upscaled[number] for number in range(len(pictures))]

    def stream(self, picture: Pixels, band_rows: int | None = None) -> Iterator[Pixels]:
        """Upscale one picture of any height, band by band; memory beside the picture grows with its width only.

        Args:
            band_rows: rows that go through the network at a time.

        Yields:
            The next rows of the result, (N, some rows or none, scale * W, 3).
        """
        at_once = band_rows or self.band_rows(picture)
        bands = (self._to_input(picture[:, top : top + at_once]) for top in range(0, picture.shape[1], at_once))
        rows = upscale_rows(self._net, bands, band_rows=at_once, workspace=self._workspace)
        done = 0
        while True:
            # Entered for each band anew: a generator must not keep inference mode on while its caller runs.
            with torch.inference_mode(), memory_errors():
                band = next(rows, None)
                if band is None:
                    return
                seen = picture[:, done // self.scale : -(-(done + band.shape[2]) // self.scale)]
                pixels = self._to_pixels(band, seen)
            yield pixels
            done += pixels.shape[1]

    def upscale(self, picture: Pixels) -> Pixels:
        """Upscale one picture of any size, as a stream."""
        return numpy.concatenate(list(self.stream(picture)), axis=1)

    def _together(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        sizes = [(p.shape[1], p.shape[2]) for p in pictures for _ in range(len(p))]
        planes = _padded(pictures, sizes)
        with torch.inference_mode(), memory_errors():
            batch = self._to_input(planes)
            if len(set(sizes)) > 1:
                upscaled = upscale_batch(self._net, batch, sizes, self._workspace)
            else:
                at_once = self.band_rows(planes)
                bands = upscale_rows(
                    self._net, batch.split(at_once, dim=2), band_rows=at_once, workspace=self._workspace
                )
                upscaled = torch.cat(list(bands), dim=2)
            parts = upscaled.split([len(p) for p in pictures])
            return [
                self._to_pixels(part[:, :, : p.shape[1] * self.scale, : p.shape[2] * self.scale], p)
                for part, p in zip(parts, pictures, strict=True)
            ]

    def _to_input(self, pixels: Pixels) -> Tensor:
        """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1] on the device; the view is channels-last already."""
        return torch.tensor(pixels, device=self.device).permute(0, 3, 1, 2).float().div_(255)

    def _to_pixels(self, upscaled: Tensor, low_res: Pixels) -> Pixels:
        """Float (N, 3, H, W) -> uint8 (N, H, W, 3), rounded, in the host's memory; `low_res` is what it was made of."""
        levels = upscaled * 255
        if levels.numel():
            darkest, brightest = levels.aminmax()  # either is NaN where any is
            if not (darkest.isfinite() and brightest.isfinite()):
                raise SuspiciousOutputError(f"the network made {darkest} to {brightest}, in {self.dtype}")
            flat = brightest.clamp(0, 255).round() == darkest.clamp(0, 255).round()
            if flat and self.dtype is not torch.float32 and int(numpy.ptp(low_res)) >= FLAT_LEVELS:
                raise SuspiciousOutputError(f"the network made a flat {darkest} of a picture, in {self.dtype}")
        pixels = levels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        return numpy.ascontiguousarray(pixels.cpu().numpy())


def _padded(pictures: Sequence[Pixels], sizes: Sequence[Size]) -> Pixels:
    """All planes of some pictures in one array, each in the upper left of its place."""
    height, width = max(height for height, _ in sizes), max(width for _, width in sizes)
    padded = numpy.zeros((len(sizes), height, width, 3), numpy.uint8)
    filled = 0
    for picture in pictures:
        padded[filled : filled + len(picture), : picture.shape[1], : picture.shape[2]] = picture
        filled += len(picture)
    return padded
