"""Pictures in, upscaled pictures out, whatever kind of network makes them."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy
import torch
from torch import Tensor

from model.buckets import bucket_shape, padded
from model.device import current, exact_float32, memory_errors
from model.edges import Edges
from model.reserves import reserves_of
from model.rows import Rows, contrast_of
from model.transfer import Pixels, Result, transfer_for

CAPTURED_PX = 2**16
"""Maximum LR px of batches that a GPU runs as captured graphs; for larger ones the launches are not the limit."""

PINNED = "pinned"
"""Fast path of a GPU: pinned memory."""

FLAT_LEVELS = 16
"""Minimum contrast of the input, in 8-bit levels, for which a flat output is suspicious."""

Depth = numpy.dtype[numpy.uint8 | numpy.uint16]
TORCH_DEPTHS = {numpy.dtype(numpy.uint8): torch.uint8, numpy.dtype(numpy.uint16): torch.uint16}


class SuspiciousOutputError(Exception):
    """The output is not finite, or flat for an input that is not, or the network failed in 16 bits."""


class PictureUpscaler(ABC):
    """Turns pictures into pictures `scale` times larger. One thread at a time may use it.

    Every call raises `DeviceMemoryError` if the device is out of memory, and `SuspiciousOutputError` if the output
    cannot be right.

    Args:
        margin_px: mirrored pixels around every picture in a batch.
        band_px: best number of LR px in a band.
    """

    def __init__(self, scale: int, device: torch.device, dtype: torch.dtype, *, margin_px: int, band_px: int) -> None:
        exact_float32()
        self.scale, self.device, self.dtype, self.band_px = scale, device, dtype, band_px
        self._margin_px = margin_px
        self._reserves = reserves_of(device)
        self._transfer = transfer_for(device)

    @property
    @abstractmethod
    def convolution(self) -> str:
        """Name of the convolver: `library`, `onednn`, `fused` (ours for GPUs), `winograd` or `amx`."""

    @property
    @abstractmethod
    def fast_paths(self) -> tuple[str, ...]:
        """The fast paths of a GPU."""

    def disable_only(self, disabled: Collection[str]) -> None:
        """Disable these of the device's `fast_paths` and enable the others."""
        self._transfer = transfer_for(self.device, pinned=PINNED not in disabled)

    @abstractmethod
    def state_bytes(self, planes: int, width: int) -> int:
        """Return the memory on the device that a stream of this width keeps between bands."""

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """Current memory of the weights and graphs, and on a CPU of the buffer, without streams.

        On a GPU all networks share the buffer, so dropping a network does not free it.
        """

    @property
    @abstractmethod
    def wrap_multiple_px(self) -> int:
        """Divisor that the sides of a picture must have for `edges` = `wrap`."""

    @property
    @abstractmethod
    def wrap_margin_px(self) -> tuple[int, int]:
        """Rows and columns of work that `edges` = `wrap` adds on each side of a picture."""

    @abstractmethod
    def _upscaled(self, planes: Pixels, sizes: Sequence[tuple[int, ...]]) -> Tensor:
        """Upscale planes (N, H, W, 3); plane n is filled in the upper left `sizes[n]`."""

    @abstractmethod
    def _framed(self, picture: Pixels | Rows, at_once: int | None = None) -> tuple[int, Iterator[Pixels]]:
        """Return the margin that the network needs around a picture, and bands of the picture (N, H, W, 3) with it.

        Args:
            at_once: rows of a band; None for all rows.
        """

    @abstractmethod
    def _wrapped(self, picture: Pixels | Rows, at_once: int) -> tuple[int, Iterator[Pixels]]:
        """Return the margin and the bands of a picture that wraps, as `_rows` expects them."""

    @abstractmethod
    def _rows(self, bands: Iterator[Tensor], at_once: int, edges: Edges = "auto") -> Iterator[Tensor]:
        """Upscale a picture that arrives in bands."""

    @abstractmethod
    def _on_grid(self, rows: int) -> int:
        """Round a number of rows up, so that the next band begins on the network's grid."""

    @property
    def _has_graphs(self) -> bool:
        """True if small batches run as captured graphs."""
        return False

    def release(self) -> None:
        """Free the memory that all networks of the device keep for later calls."""
        self._reserves.clear()

    def band_rows(self, picture: Pixels | Rows) -> int:
        """Return the best number of rows in a band of a picture (N, H, W, 3)."""
        planes, height, width, _ = picture.shape
        return int(min(height, self._on_grid(self.band_px // (planes * width))))

    def batch(self, pictures: Sequence[Pixels], edges: Edges = "auto") -> list[Pixels]:
        """Upscale small pictures together; each as if it were alone, and with its own depth.

        On a GPU, all small pictures of one depth share calls. Large pictures, and all pictures on a CPU, share a call
        only if they have the same size, up to the best number of LR px: there, padding costs more than it saves. A
        picture that wraps has its own call.

        Raises:
            ValueError: a picture is to wrap, and `wrap_multiple_px` does not divide its sides.
        """
        if edges == "wrap":
            return [numpy.concatenate(list(self.stream(picture, edges=edges)), axis=1) for picture in pictures]
        groups: dict[tuple[object, object], list[int]] = defaultdict(list)
        for number, picture in enumerate(pictures):
            padded = self.device.type != "cpu" and self._padded_px([picture]) <= CAPTURED_PX
            groups[picture.dtype, None if padded else picture.shape[1:]].append(number)
        upscaled: dict[int, Pixels] = {}
        for (_, size), numbers in groups.items():
            most_px = CAPTURED_PX if size is None else self.band_px
            while numbers:
                count = self._fitting([pictures[number] for number in numbers], most_px)
                some, numbers = numbers[:count], numbers[count:]
                upscaled |= zip(some, self._together([pictures[number] for number in some]), strict=True)
        return [upscaled[number] for number in range(len(pictures))]

    def stream(
        self, picture: Pixels | Rows, band_rows: int | None = None, *, edges: Edges = "auto"
    ) -> Iterator[Pixels]:
        """Upscale one picture of any height, band by band, in memory that depends on its width only.

        Args:
            band_rows: rows of a band.

        Yields:
            The next rows of the result, (N, some rows or none, scale * W, 3).

        Raises:
            ValueError: the picture is to wrap, and `wrap_multiple_px` does not divide its sides.
        """
        at_once = self._on_grid(band_rows or self.band_rows(picture))
        margin_px, bands = self._wrapped(picture, at_once) if edges == "wrap" else self._framed(picture, at_once)
        rows = self._rows(map(self._to_input, bands), at_once, edges)
        leaving: deque[Result] = deque()
        done = -self.scale * margin_px  # rows of the answer so far; the rows of the margin have negative numbers
        while True:
            # Entered for each band: a generator must not keep inference mode on while its caller runs.
            with self._working():
                if (band := next(rows, None)) is not None:
                    leaving.append(self._result(band, picture, done, margin_px))
                    done += band.shape[2]
                ended, band = band is None, None  # while the caller reads, its memory is for other streams
                ready = leaving and (ended or len(leaving) > self._transfer.ahead)
                pixels = leaving.popleft().download() if ready else None
            if pixels is not None:
                yield pixels
            elif ended:
                return

    def _result(self, band: Tensor, picture: Pixels | Rows, done: int, margin_px: int) -> Result:
        """Turn rows of the network's output, from row `done` of the answer on, into levels, and check them."""
        height, width = (self.scale * side for side in picture.shape[1:3])
        first, end = (min(max(row, 0), height) for row in (done, done + band.shape[2]))
        result = self._quantised(self._cut(band[:, :, first - done : end - done], margin_px, width), picture.dtype)
        self._check(result, picture, first // self.scale, -(-end // self.scale))
        return result

    def upscale(self, picture: Pixels) -> Pixels:
        """Upscale one picture of any size, as a stream."""
        return numpy.concatenate(list(self.stream(picture)), axis=1)

    def _together(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        entire = [next(self._framed(picture)[1]) for picture in pictures]
        sizes = [p.shape[1:3] for p in entire for _ in range(len(p))]
        captured = self._has_graphs and self._padded_px(pictures) <= CAPTURED_PX
        planes = padded(entire, sizes, buckets=captured)
        sizes += [(1, 1)] * (len(planes) - len(sizes))
        with self._working():
            made_of_all = self._upscaled(planes, sizes)
            parts = made_of_all[: sum(map(len, pictures))].split([len(p) for p in pictures])
            made = []
            for part, picture in zip(parts, pictures, strict=True):
                height, width = (self.scale * side for side in picture.shape[1:3])
                first = self.scale * self._margin_px
                rows = part[:, :, first : first + height]
                made.append(self._quantised(self._cut(rows, self._margin_px, width), picture.dtype))
            for result, picture in zip(made, pictures, strict=True):
                self._check(result, picture, 0, picture.shape[1])
            return [result.download() for result in made]

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Run on the upscaler's own device."""
        with torch.inference_mode(), memory_errors(), current(self.device):
            yield

    def _fitting(self, pictures: Sequence[Pixels], most_px: int) -> int:
        """Count the first pictures that together have at most that many LR px; at least one."""
        count = 1
        while count < len(pictures) and self._padded_px(pictures[: count + 1]) <= most_px:
            count += 1
        return count

    def _padded_px(self, pictures: Sequence[Pixels]) -> int:
        """Return the LR px of a batch of pictures, whose planes have the largest height and the largest width."""
        height, width = (max(picture.shape[axis] for picture in pictures) + 2 * self._margin_px for axis in (1, 2))
        planes = sum(map(len, pictures))
        return math.prod(bucket_shape(planes, height, width) if self._has_graphs else (planes, height, width))

    def _cut(self, rows: Tensor, margin_px: int, width: int) -> Tensor:
        """Cut (N, 3, R, W) to the columns of the answer."""
        first = self.scale * margin_px
        return rows[:, :, :, first : first + width]

    def _to_input(self, pixels: Pixels) -> Tensor:
        """Copy levels (N, H, W, 3) to the device as float32 (N, 3, H, W) in [0, 1], channels last."""
        return self._transfer.upload(pixels).permute(0, 3, 1, 2).float().div_(_most(pixels.dtype))

    def _quantised(self, upscaled: Tensor, depth: Depth) -> Result:
        """Round float (N, 3, H, W) to levels (N, H, W, 3) of a depth, and start copying them to the host."""
        extremes = torch.stack(upscaled.aminmax()) if upscaled.numel() else None
        levels = (upscaled * _most(depth)).round_().clamp_(0, _most(depth))
        pixels = levels.to(TORCH_DEPTHS[depth]).permute(0, 2, 3, 1).contiguous()
        return Result(download=self._transfer.download(pixels), extremes=extremes)

    def _check(self, made: Result, low_res: Pixels | Rows, top: int, bottom: int) -> None:
        """Wait for the device, and refuse an output that cannot be right, made of `low_res` from row `top` on."""
        if made.extremes is None:
            return
        darkest, brightest = (255 * extreme for extreme in made.extremes.tolist())  # both are NaN if any value is
        if not (math.isfinite(darkest) and math.isfinite(brightest)):
            raise SuspiciousOutputError(f"the network made {darkest} to {brightest}, in {self.dtype}")
        flat = round(min(max(brightest, 0), 255)) == round(min(max(darkest, 0), 255))
        if flat and self.dtype is not torch.float32 and contrast_of(low_res, top, bottom) >= FLAT_LEVELS:
            raise SuspiciousOutputError(f"the network made a flat {darkest} of a picture, in {self.dtype}")


def _most(depth: Depth) -> int:
    """Return the maximum level of a depth, which stands for 1.0."""
    return int(numpy.iinfo(depth).max)
