"""Run networks that cannot stream, by the same methods: in strips of rows, and wide strips in tiles.

A tile begins and ends on the network's grid (`ForeignNet.period_px`). On each cut side it has a margin that is dropped:
as far as a cut changes pixels, and a little more, over which adjacent tiles are blended. So the result differs by at
most two 8-bit levels from that of the whole picture in the same number format, and has no seams.

Across an edge, over 2 * BLEND_PX * scale pixels, the result is

    (1 - r) * left + r * right        with r = (i + 0.5) / length for the pixels i = 0, 1, ...

so with a length of 4 the weights of the right tile are 0.125, 0.375, 0.625 and 0.875.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from model.device import BAND_PX, TURING, DeviceMemoryError, best_device, memory_errors
from model.edges import Edges, check_sides, places_in_ring
from model.errors import one_line
from model.files.foreign import ForeignNet
from model.picture_upscaler import PINNED, PictureUpscaler, SuspiciousOutputError
from model.rows import Rows, bands_of
from model.transfer import Pixels

BLEND_PX = 4
"""Half of the width over which adjacent tiles are blended, in LR px."""

MIN_ROWS = 96
"""Minimum rows of a strip without its margins; lower strips would be mostly margin."""

TILE_PX = 256
"""Width of a tile without its margins."""


def default_dtype(net: ForeignNet, device: torch.device) -> torch.dtype:
    """Return float16 on GPUs that multiply it fast, if the network takes it, else float32.

    Such a network keeps everything in one format, its input and its output too. bfloat16 has 8 bits: pictures would
    change by some levels, and those of 16 bits would lose their depth.
    """
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= TURING
    return torch.float16 if fast and torch.float16 in net.dtypes else torch.float32


class TiledUpscaler(PictureUpscaler):
    """Upscales pictures by a network of unknown structure.

    Args:
        dtype: number format of the network, by default that of `default_dtype`.
    """

    def __init__(self, net: ForeignNet, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        device = device or best_device()
        dtype = dtype or default_dtype(net, device)
        super().__init__(net.scale, device, dtype, margin_px=0, band_px=BAND_PX[device.type])  # it mirrors itself
        self._foreign = net.eval().requires_grad_(False).to(device=device, dtype=dtype)
        margin = net.margin_px + BLEND_PX
        self._margin = margin + -margin % net.period_px

    @property
    def convolution(self) -> str:
        """See `PictureUpscaler`: the network's own code calls PyTorch."""
        return "library"

    @property
    def fast_paths(self) -> tuple[str, ...]:
        """See `PictureUpscaler`."""
        return (PINNED,) if self.device.type == "cuda" else ()

    def state_bytes(self, planes: int, width: int) -> int:
        """See `PictureUpscaler`: the rows that wait for a strip, and the rows of a result that are blended."""
        rows = self._on_grid(self.band_px // (planes * width)) + 2 * self._margin
        return planes * width * 3 * torch.float32.itemsize * (rows + 2 * BLEND_PX * self.scale**2)

    @property
    def memory_bytes(self) -> int:
        """See `PictureUpscaler`."""
        return sum(weight.nbytes for weight in self._foreign.parameters())

    def _upscaled(self, planes: Pixels, sizes: Sequence[tuple[int, ...]]) -> Tensor:
        batch = self._to_input(planes)
        made = batch.new_zeros(*batch.shape[:2], *(self.scale * side for side in batch.shape[2:]))
        for picture, target, (height, width) in zip(batch.split(1), made.split(1), sizes, strict=True):
            bands = picture[:, :, :height, :width].split(self._on_grid(height), dim=2)
            done = 0
            for rows in self._rows(iter(bands), self.band_px // width):
                target[:, :, done : done + rows.shape[2], : rows.shape[3]] = rows
                done += rows.shape[2]
        return made

    @property
    def wrap_multiple_px(self) -> int:
        """See `PictureUpscaler`."""
        return self._foreign.period_px

    @property
    def wrap_margin_px(self) -> tuple[int, int]:
        """See `PictureUpscaler`."""
        return (self._margin, self._margin)

    def _framed(self, picture: Pixels | Rows, at_once: int | None = None) -> tuple[int, Iterator[Pixels]]:
        height, width = picture.shape[1:3]
        return 0, bands_of(picture, range(height), range(width), at_once=at_once)

    def _wrapped(self, picture: Pixels | Rows, at_once: int) -> tuple[int, Iterator[Pixels]]:
        check_sides(picture.shape, self.wrap_multiple_px)
        places = (places_in_ring(side, -self._margin, side + 2 * self._margin) for side in picture.shape[1:3])
        return self._margin, bands_of(picture, *places, at_once=at_once)

    def _on_grid(self, rows: int) -> int:
        """Round a number of rows up, so that the strip below begins on the grid."""
        rows = max(rows, MIN_ROWS)
        return rows + -rows % self._foreign.period_px

    def _rows(self, bands: Iterator[Tensor], at_once: int, edges: Edges = "auto") -> Iterator[Tensor]:
        strips = _Strips(
            self._tiled, next(bands), scale=self.scale, margin=self._margin, at_once=self._on_grid(at_once)
        )
        yield from map(strips.add, bands)
        yield from strips.rest()

    def _tiled(self, strip: Tensor) -> Tensor:
        """Upscale a strip in tiles from left to right, and blend them."""
        width, made = strip.shape[3], []
        edges = [*range(0, max(1, width - TILE_PX // 2), TILE_PX - TILE_PX % self._foreign.period_px), width]
        held: Tensor | None = None
        for left, right in pairwise(edges):
            start, end = max(0, left - self._margin), min(width, right + self._margin)
            tile = self._run(strip[:, :, :, start:end])
            before, after = (0 if held is None else BLEND_PX), (0 if right == width else BLEND_PX)
            tile = tile[:, :, :, (left - before - start) * self.scale : (right + after - start) * self.scale]
            if held is not None:
                blended = held.shape[3]
                made.append(held + tile[:, :, :, :blended] * _ramp(blended, tile.device))
                tile = tile[:, :, :, blended:]
            if after:
                kept = 2 * after * self.scale
                held = tile[:, :, :, -kept:] * _ramp(kept, tile.device).flip(0)
                tile = tile[:, :, :, :-kept]
            made.append(tile)
        return torch.cat(made, dim=3)

    def _run(self, tile: Tensor) -> Tensor:
        """Run the network. Many fail in 16 bits, because they create tensors in float32."""
        try:
            with memory_errors():
                made: Tensor = self._foreign(tile)
                return made
        except DeviceMemoryError:
            raise
        except Exception as error:
            if self.dtype is torch.float32:
                raise
            text = f"{self._foreign.architecture} does not run in {self.dtype}: {one_line(error)}"
            raise SuspiciousOutputError(text) from error


class _Strips:
    """A picture that arrives in bands, and is upscaled strip by strip.

    A strip waits for the margin below it, its last rows for those of the next strip. Nothing else is kept between
    calls, because a GPU may have many streams open.

    Args:
        tiled: upscales a strip.
        band: the first one.
        margin: rows above and below a strip that are dropped.
        at_once: rows of a strip.
    """

    def __init__(
        self, tiled: Callable[[Tensor], Tensor], band: Tensor, *, scale: int, margin: int, at_once: int
    ) -> None:
        self._tiled, self._scale, self._margin, self._at_once = tiled, scale, margin, at_once
        self._waiting = band
        self._first = self._top = 0  # rows of the picture: the first of the waiting ones, and the first of the strip
        self._held: Tensor | None = None  # the faded out rows of the strip above

    def add(self, band: Tensor) -> Tensor:
        """Take the next rows of the picture, and return the rows of the result that are finished, if any."""
        self._waiting = torch.cat((self._waiting, band), dim=2)
        finished = [band.new_empty(len(band), 3, 0, self._scale * band.shape[3])]
        while self._bottom() >= self._top + self._at_once + self._margin:
            finished.append(self._next())
        return torch.cat(finished, dim=2)

    def rest(self) -> Iterator[Tensor]:
        """Return the rows of the result that are left, at the end of the picture."""
        while self._bottom() > self._top + self._at_once + self._margin:
            yield self._next()
        yield self._strip(self._bottom(), last=True)

    def _bottom(self) -> int:
        return self._first + self._waiting.shape[2]

    def _next(self) -> Tensor:
        rows = self._strip(self._top + self._at_once)
        self._top += self._at_once
        first = max(self._first, self._top - self._margin)
        self._waiting = self._waiting[:, :, first - self._first :].clone()  # a view would keep all of the rows
        self._first = first
        return rows

    def _strip(self, bottom: int, *, last: bool = False) -> Tensor:
        """Upscale the strip that ends above row `bottom`, and return its finished rows."""
        above, below = (0 if self._held is None else BLEND_PX), (0 if last else BLEND_PX)
        start = max(0, self._top - self._margin)
        end = bottom if last else bottom + self._margin
        wide = self._tiled(self._waiting[:, :, start - self._first : end - self._first])
        made = wide[:, :, (self._top - above - start) * self._scale : (bottom + below - start) * self._scale]
        if self._held is not None:
            blended = self._held.shape[2]
            rising = _ramp(blended, made.device)[:, None]
            made = torch.cat((self._held + made[:, :, :blended] * rising, made[:, :, blended:]), dim=2)
        if last:
            return made
        kept = 2 * below * self._scale
        self._held = made[:, :, -kept:] * _ramp(kept, made.device).flip(0)[:, None]
        return made[:, :, :-kept]


def _ramp(length: int, device: torch.device) -> Tensor:
    """Return weights from 0 to 1, at the middles of equal steps; the sum with their mirror image is 1."""
    return (torch.arange(length, device=device) + 0.5) / length
