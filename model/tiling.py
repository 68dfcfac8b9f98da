"""Networks that cannot stream, behind the same calls: in strips of rows, cut into tiles where they are wide.

A tile begins and ends on the network's grid (`ForeignNet.period_px`). It has a margin on each cut side that is thrown
away: as far as a cut is seen, and a little more over which neighbours are blended. So the result is that of the uncut
picture in the same number format to within two 8-bit levels, without seams.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from model.device import BAND_PX, DeviceMemoryError, best_device, exact_float32, fast_dtype, memory_errors
from model.errors import one_line
from model.files.foreign import ForeignNet
from model.reserves import reserves_of
from model.transfer import Pixels, transfer_for
from model.upscaler import PINNED, SuspiciousOutputError, Upscaler

BLEND_PX = 4
"""Half of the width over which two neighbours are blended."""

LEAST_ROWS = 96
"""Rows of a strip without its margins; thinner ones would be mostly margin."""

TILE_PX = 256
"""Width of a tile without its margins."""


class TiledUpscaler(Upscaler):
    """An `Upscaler` for a network of which only input and output are known.

    Args:
        dtype: number format of the network, by default bfloat16 where device and network take it, else float32.
    """

    def __init__(self, net: ForeignNet, device: torch.device | None = None, dtype: torch.dtype | None = None) -> None:
        self.scale = net.scale
        self.device = device or best_device()
        self.dtype = dtype or (fast_dtype(self.device) if net.takes_bfloat16 else torch.float32)
        self._foreign = net.eval().requires_grad_(False).to(device=self.device, dtype=self.dtype)
        exact_float32()
        self._transfer = transfer_for(self.device)
        self._reserves = reserves_of(self.device)
        self.band_px = BAND_PX[self.device.type]
        margin = net.margin_px + BLEND_PX
        self._margin = margin + -margin % net.period_px
        self._captured = None
        self._margin_px = 0  # foreign networks mirror what they need themselves

    @property
    def convolution(self) -> str:
        """See `Upscaler`: the network's own code calls PyTorch."""
        return "library"

    def band_rows(self, picture: Pixels) -> int:
        """See `Upscaler`."""
        planes, height, width, _ = picture.shape
        return int(min(height, self._on_grid(self.band_px // (planes * width))))

    @property
    def fast_ways(self) -> tuple[str, ...]:
        """See `Upscaler`."""
        return (PINNED,) if self.device.type == "cuda" else ()

    def use_all_but(self, left_out: Collection[str]) -> None:
        """See `Upscaler`."""
        self._transfer = transfer_for(self.device, pinned=PINNED not in left_out)

    def state_bytes(self, planes: int, width: int) -> int:
        """See `Upscaler`: the rows of a strip with its margins, and those of the answer that are blended."""
        rows = self._on_grid(LEAST_ROWS) + 4 * self._margin
        return planes * width * 3 * torch.float32.itemsize * (rows + 2 * BLEND_PX * self.scale**2)

    @property
    def memory_bytes(self) -> int:
        """See `Upscaler`."""
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

    def _bands(self, picture: Pixels, at_once: int | None) -> Iterator[Pixels]:
        at_once = at_once or picture.shape[1]
        return (picture[:, top : top + at_once] for top in range(0, picture.shape[1], at_once))

    def _on_grid(self, rows: int) -> int:
        """Round a number of rows up, so that the strip below begins on the grid."""
        rows = max(rows, LEAST_ROWS)
        return rows + -rows % self._foreign.period_px

    def _rows(self, bands: Iterator[Tensor], at_once: int) -> Iterator[Tensor]:
        """Strip by strip: each waits for the rows below it, and its last rows for the next one, to be blended."""
        waiting = next(bands)
        first, top, at_once = 0, 0, self._on_grid(at_once)  # of the rows at hand; of the strip
        held: Tensor | None = None
        for band in bands:
            waiting = torch.cat((waiting, band), dim=2)
            made = [waiting.new_empty(len(waiting), 3, 0, self.scale * waiting.shape[3])]
            while first + waiting.shape[2] >= top + at_once + self._margin:
                rows, held = self._strip(waiting, first, top, top + at_once, held, last=False)
                made.append(rows)
                top += at_once
                done = max(0, top - self._margin - first)
                waiting, first = waiting[:, :, done:], first + done
            yield torch.cat(made, dim=2)
        bottom = first + waiting.shape[2]
        while bottom - top > at_once + self._margin:
            rows, held = self._strip(waiting, first, top, top + at_once, held, last=False)
            yield rows
            top += at_once
        yield self._strip(waiting, first, top, bottom, held, last=True)[0]

    def _strip(
        self, waiting: Tensor, first: int, top: int, bottom: int, held: Tensor | None, *, last: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The finished rows of a strip, and those that are blended with the next one's, faded out already.

        Args:
            waiting: rows of the picture from `first` on.
            held: what the strip above holds for this one; None for the first strip.
        """
        above, below = (0 if held is None else BLEND_PX), (0 if last else BLEND_PX)
        start = max(0, top - self._margin)
        end = first + waiting.shape[2] if last else bottom + self._margin
        wide = self._tiled(waiting[:, :, start - first : end - first])
        made = wide[:, :, (top - above - start) * self.scale : (bottom + below - start) * self.scale]
        if held is not None:
            blended = held.shape[2]
            rising = _ramp(blended, made.device)[:, None]
            made = torch.cat((held + made[:, :, :blended] * rising, made[:, :, blended:]), dim=2)
        if last:
            return made, None
        kept = 2 * below * self.scale
        return made[:, :, :-kept], made[:, :, -kept:] * _ramp(kept, made.device).flip(0)[:, None]

    def _tiled(self, strip: Tensor) -> Tensor:
        """A strip in tiles from left to right, blended."""
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
        """The network; many raise in 16 bits, since they make some tensor in float32 themselves."""
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


def _ramp(length: int, device: torch.device) -> Tensor:
    """From 0 to 1 in the middles of equal steps; with its mirror image it adds up to 1."""
    return (torch.arange(length, device=device) + 0.5) / length
