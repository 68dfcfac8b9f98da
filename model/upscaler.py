"""A generator on a device: pictures in, upscaled pictures out."""

import math
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy
import torch
from torch import Tensor

from model.buckets import bucket_shape, padded
from model.convolutions.convolver import Convolver, name_of
from model.convolutions.trial import best_convolver, best_dtype, library_way
from model.device import best_device, exact_float32, memory_errors
from model.graphs import CapturedCalls, CudaGraphs
from model.reserves import band_px, reserves_of
from model.rrdb import RRDBNet, places_with_margin
from model.stages import GRID_ROWS
from model.streaming import state_bytes, upscale_batch, upscale_rows
from model.transfer import Download, Pixels, transfer_for

CAPTURED_PX = 2**16
"""LR px up to which a GPU gets a batch as a captured graph; larger ones take it longer than their launches take."""


GRAPHS, KERNEL, PINNED = "graphs", "kernel", "pinned"
"""The ways in which a GPU is faster, each of which can be left out: captured calls, our kernel, pinned memory."""

FLAT_LEVELS = 16
"""A flat output is suspicious where the input has at least so much contrast, in levels of 8 bits."""

Depth = numpy.dtype[numpy.uint8 | numpy.uint16]
TORCH_DEPTHS = {numpy.dtype(numpy.uint8): torch.uint8, numpy.dtype(numpy.uint16): torch.uint16}


class SuspiciousOutputError(Exception):
    """The output is not finite, flat where the input is not, or there is none since the network raised in 16 bits."""


class Upscaler:
    """Turns pictures into pictures `scale` times larger. One thread at a time may use it.

    Every call raises `DeviceMemoryError` where the device's memory does not suffice, and `SuspiciousOutputError`
    instead of returning an output that cannot be right.

    Args:
        net: the generator; moved to the device, in place.
        device: the best one present by default.
        dtype: number format of the convolutions, by default the fastest that the device has natively. The first and the
            last convolution and the trunk's residual sums are always float32.
        convolve: the fastest way to convolve there by default.
        margin_px: mirrored pixels around every picture; by default as many as the network needs.
    """

    def __init__(
        self,
        net: RRDBNet,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        convolve: Convolver | None = None,
        *,
        margin_px: int | None = None,
    ) -> None:
        exact_float32()
        self.scale = net.config.scale
        self.device = device or best_device()
        self.dtype = dtype or best_dtype(net, self.device)
        net.eval().requires_grad_(False)
        net.to(device=self.device, dtype=self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword
        net.conv_first.float()  # in bfloat16 their numbers could not tell neighbouring 8-bit levels apart
        net.conv_last.float()
        self._net = net
        self._margin_px = net.config.margin_px if margin_px is None else margin_px
        self._reserves = reserves_of(self.device)
        self._convolvers = {True: convolve or best_convolver(net), False: library_way(self.dtype, self.device)()}
        self.use_all_but(())
        self.band_px = band_px(self.device, net.config.channels)
        """LR px that the device best takes at a time."""

    @property
    def fast_ways(self) -> tuple[str, ...]:
        """The ways of a GPU that could be left out: `GRAPHS`, `KERNEL`, `PINNED`."""
        if self.device.type != "cuda":
            return ()
        own = type(self._convolvers[True]) is not type(self._convolvers[False])
        return (GRAPHS, KERNEL, PINNED) if own else (GRAPHS, PINNED)

    def use_all_but(self, left_out: Collection[str]) -> None:
        """Use all of the device's `fast_ways` but some."""
        self._convolve = self._convolvers[KERNEL not in left_out]
        self._transfer = transfer_for(self.device, pinned=PINNED not in left_out)
        self._captured: CapturedCalls[Tensor] | None = None
        if self.device.type == "cuda" and GRAPHS not in left_out:
            # Graphs work in buffers of their own: they know memory by its address, and the workspace grows.
            small = partial(upscale_batch, self._net, convolve=self._convolve)
            self._captured = CapturedCalls(small, CudaGraphs(self.device))
            self._reserves.add(self._captured)

    def release(self) -> None:
        """Free what all networks of the device keep for later calls."""
        self._reserves.clear()

    @property
    def convolution(self) -> str:
        """Which code convolves; see `model.convolutions.convolver.name_of`."""
        return name_of(self._convolve)

    def band_rows(self, picture: Pixels) -> int:
        """Rows of a picture (N, H, W, 3) that the device best takes at a time."""
        planes, height, width, _ = picture.shape
        return int(min(height, self._on_grid(self.band_px // (planes * width))))

    def state_bytes(self, planes: int, width: int) -> int:
        """Memory on the device that a stream of this width holds from band to band."""
        return planes * state_bytes(self._net, width)

    @property
    def memory_bytes(self) -> int:
        """What the weights and graphs hold at the moment, and on a CPU the buffer, without streams.

        On a GPU all networks share the buffer, and dropping one frees none of it.
        """
        held = self._captured.memory_bytes if self._captured else 0
        if self.device.type == "cpu":
            held += self._reserves.workspace.memory_bytes
        return sum(weight.nbytes for weight in self._net.parameters()) + held

    def batch(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """Upscale small pictures together, whole; each as if it were alone, and in its own depth.

        A GPU gets small pictures of one depth at once. Of large ones, and on a CPU, which has nothing to win from that,
        only those of one size share a call, as many as the device best takes at a time.
        """
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

    def stream(self, picture: Pixels, band_rows: int | None = None) -> Iterator[Pixels]:
        """Upscale one picture of any height, band by band; memory beside the picture grows with its width only.

        Args:
            band_rows: rows that go through the network at a time.

        Yields:
            The next rows of the result, (N, some rows or none, scale * W, 3).
        """
        at_once = self._on_grid(band_rows or self.band_rows(picture))
        rows = self._rows(map(self._to_input, self._bands(picture, at_once)), at_once)
        height, width = (self.scale * side for side in picture.shape[1:3])
        leaving: deque[_Result] = deque()
        done = -self.scale * self._margin_px  # rows of the answer so far; those of the margin come before it
        while True:
            # Entered for each band: a generator must not keep inference mode on while its caller runs.
            with self._working():
                if (band := next(rows, None)) is not None:
                    first, end = (min(max(row, 0), height) for row in (done, done + band.shape[2]))
                    rows_made = self._without_margin(band[:, :, first - done : end - done], width)
                    made = self._quantised(rows_made, picture.dtype)
                    self._check(made, picture[:, first // self.scale : -(-end // self.scale)])
                    done += band.shape[2]
                    leaving.append(made)
                ready = leaving and (band is None or len(leaving) > self._transfer.ahead)
                pixels = leaving.popleft().download() if ready else None
            if pixels is not None:
                yield pixels
            elif band is None:
                return

    def upscale(self, picture: Pixels) -> Pixels:
        """Upscale one picture of any size, as a stream."""
        return numpy.concatenate(list(self.stream(picture)), axis=1)

    def _together(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        entire = [next(self._bands(picture, None)) for picture in pictures]
        sizes = [p.shape[1:3] for p in entire for _ in range(len(p))]
        captured = self._captured is not None and self._padded_px(pictures) <= CAPTURED_PX
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
                made.append(self._quantised(self._without_margin(rows, width), picture.dtype))
            for result, picture in zip(made, pictures, strict=True):
                self._check(result, picture)
            return [result.download() for result in made]

    def _upscaled(self, planes: Pixels, sizes: Sequence[tuple[int, ...]]) -> Tensor:
        batch = self._to_input(planes)
        uniform = all(size == planes.shape[1:3] for size in sizes)
        at_once = self.band_rows(planes)
        small = planes[..., 0].size <= CAPTURED_PX
        if uniform and (at_once < planes.shape[1] or not small):  # as bands, of which the enlarged rows go in parts
            return torch.cat(list(self._rows(iter(batch.split(at_once, dim=2)), at_once)), dim=2)
        filled = torch.tensor(sizes).to(self.device)
        if self._captured and small:
            return self._captured(batch, filled)
        workspace = self._reserves.workspace
        return upscale_batch(
            self._net, batch, None if uniform else filled, workspace=workspace, convolve=self._convolve
        )

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Run on the upscaler's own device: streams, graphs and kernels of CUDA are those of the current one."""
        current = torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
        with torch.inference_mode(), memory_errors(), current:
            yield

    def _fitting(self, pictures: Sequence[Pixels], most_px: int) -> int:
        """How many of the first pictures, at least one, fill no more LR px together."""
        count = 1
        while count < len(pictures) and self._padded_px(pictures[: count + 1]) <= most_px:
            count += 1
        return count

    def _padded_px(self, pictures: Sequence[Pixels]) -> int:
        """LR px of a batch of these pictures; each plane is as high as the highest and as wide as the widest."""
        height, width = (max(picture.shape[axis] for picture in pictures) + 2 * self._margin_px for axis in (1, 2))
        planes = sum(map(len, pictures))
        return math.prod(bucket_shape(planes, height, width) if self._captured else (planes, height, width))

    def _bands(self, picture: Pixels, at_once: int | None) -> Iterator[Pixels]:
        """Cut (N, H, W, 3) into bands of rows, with the margin that the network needs around the picture.

        Args:
            at_once: rows of a band; None: all of them.
        """
        multiple = self._net.config.unshuffle
        rows, columns = (places_with_margin(side, self._margin_px, multiple) for side in picture.shape[1:3])
        at_once = at_once or len(rows)
        for top in range(0, len(rows), at_once):
            yield picture.take(rows[top : top + at_once], axis=1).take(columns, axis=2)

    def _without_margin(self, rows: Tensor, width: int) -> Tensor:
        """Cut (N, 3, R, W) to the columns of the answer."""
        first = self.scale * self._margin_px
        return rows[:, :, :, first : first + width]

    def _on_grid(self, rows: int) -> int:
        """Round up to rows that end on the grid of every convolution, so that their number changes nothing."""
        grid = GRID_ROWS * self._net.config.unshuffle
        return max(1, -(-rows // grid)) * grid

    def _rows(self, bands: Iterator[Tensor], at_once: int) -> Iterator[Tensor]:
        return upscale_rows(
            self._net, bands, band_rows=at_once, workspace=self._reserves.workspace, convolve=self._convolve
        )

    def _to_input(self, pixels: Pixels) -> Tensor:
        """Levels (N, H, W, 3) -> float32 (N, 3, H, W) in [0, 1] on the device; the view is channels-last already."""
        return self._transfer.upload(pixels).permute(0, 3, 1, 2).float().div_(_most(pixels.dtype))

    def _quantised(self, upscaled: Tensor, depth: Depth) -> "_Result":
        """Float (N, 3, H, W) -> levels (N, H, W, 3) of a depth, rounded, on their way to the host."""
        extremes = torch.stack(upscaled.aminmax()) if upscaled.numel() else None
        levels = (upscaled * _most(depth)).round_().clamp_(0, _most(depth))
        pixels = levels.to(TORCH_DEPTHS[depth]).permute(0, 2, 3, 1).contiguous()
        return _Result(download=self._transfer.download(pixels), extremes=extremes)

    def _check(self, made: "_Result", low_res: Pixels) -> None:
        """Wait for the device, and refuse what cannot be right; `low_res` is what it was made of."""
        if made.extremes is None:
            return
        darkest, brightest = (255 * extreme for extreme in made.extremes.tolist())  # either is NaN where any is
        if not (math.isfinite(darkest) and math.isfinite(brightest)):
            raise SuspiciousOutputError(f"the network made {darkest} to {brightest}, in {self.dtype}")
        flat = round(min(max(brightest, 0), 255)) == round(min(max(darkest, 0), 255))
        contrast = 255 * int(numpy.ptp(low_res)) / _most(low_res.dtype)
        if flat and self.dtype is not torch.float32 and contrast >= FLAT_LEVELS:
            raise SuspiciousOutputError(f"the network made a flat {darkest} of a picture, in {self.dtype}")


def _most(depth: Depth) -> int:
    """The level that stands for 1."""
    return int(numpy.iinfo(depth).max)


@dataclass(frozen=True, kw_only=True)
class _Result:
    """Pixels on their way to the host, and the least and the largest value before rounding, 1 being white."""

    download: Download
    extremes: Tensor | None
    """float (2,) on the device; None where there are no pixels."""
