"""An RRDB generator on a device: pictures in, upscaled pictures out."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from model.convolutions.convolver import Convolver
from model.convolutions.trial import best_convolver, best_dtype, library_way
from model.device import best_device
from model.edges import Edges, check_sides, places_in_ring, places_with_margin
from model.graphs import CapturedCalls, CudaGraphs
from model.picture_upscaler import CAPTURED_PX, PINNED, PictureUpscaler
from model.reserves import band_px
from model.rows import Rows, bands_of
from model.rrdb import RRDBNet
from model.stages import DENSE_LAG, GRID_ROWS
from model.streaming import rows_before, state_bytes, upscale_batch, upscale_rows
from model.transfer import Pixels

GRAPHS, KERNEL = "graphs", "kernel"
"""Fast paths of a GPU, in addition to `PINNED`: captured calls, our kernel."""


class Upscaler(PictureUpscaler):
    """Upscales pictures by an RRDB generator.

    Args:
        net: the generator; moved to the device, in place.
        device: by default the best one here.
        dtype: number format of the convolutions, by default the fastest one on the device. The first and the last
            convolution and the residual sums of the trunk are always float32.
        convolve: by default the fastest convolver on the device.
        margin_px: mirrored pixels around every picture; by default the number that the network needs.
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
        device = device or best_device()
        dtype = dtype or best_dtype(net, device)
        margin_px = net.config.margin_px if margin_px is None else margin_px
        best_band_px = band_px(device, net.config.channels)
        super().__init__(net.config.scale, device, dtype, margin_px=margin_px, band_px=best_band_px)
        net.eval().requires_grad_(False)
        net.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword
        net.conv_first.float()  # bfloat16 cannot represent all 8-bit levels
        net.conv_last.float()
        self._net = net
        self._convolvers = {True: convolve or best_convolver(net), False: library_way(dtype, device)()}
        self.disable_only(())

    @property
    def fast_paths(self) -> tuple[str, ...]:
        """The fast paths of a GPU: `GRAPHS`, `KERNEL`, `PINNED`."""
        if self.device.type != "cuda":
            return ()
        own = type(self._convolvers[True]) is not type(self._convolvers[False])
        return (GRAPHS, KERNEL, PINNED) if own else (GRAPHS, PINNED)

    def disable_only(self, disabled: Collection[str]) -> None:
        """See `PictureUpscaler`."""
        super().disable_only(disabled)
        self._convolve = self._convolvers[KERNEL not in disabled]
        self._captured: CapturedCalls | None = None
        if self.device.type == "cuda" and GRAPHS not in disabled:
            # Graphs have their own buffers: they use addresses of memory, and the workspace grows.
            small = partial(upscale_batch, self._net, convolve=self._convolve)
            self._captured = CapturedCalls(small, CudaGraphs(self.device))
            self._reserves.add(self._captured)

    @property
    def convolution(self) -> str:
        """See `PictureUpscaler`."""
        return self._convolve.name

    def state_bytes(self, planes: int, width: int) -> int:
        """See `PictureUpscaler`."""
        return planes * state_bytes(self._net, width)

    @property
    def memory_bytes(self) -> int:
        """See `PictureUpscaler`."""
        held = self._captured.memory_bytes if self._captured else 0
        if self.device.type == "cpu":
            held += self._reserves.workspace.memory_bytes
        return sum(weight.nbytes for weight in self._net.parameters()) + held

    @property
    def wrap_multiple_px(self) -> int:
        """See `PictureUpscaler`."""
        return self._net.config.unshuffle

    @property
    def wrap_margin_px(self) -> tuple[int, int]:
        """See `PictureUpscaler`."""
        return (DENSE_LAG, 0)

    @property
    def _has_graphs(self) -> bool:
        return self._captured is not None

    def _upscaled(self, planes: Pixels, sizes: Sequence[tuple[int, ...]]) -> Tensor:
        batch = self._to_input(planes)
        uniform = all(size == planes.shape[1:3] for size in sizes)
        at_once = self.band_rows(planes)
        small = planes[..., 0].size <= CAPTURED_PX
        if uniform and (at_once < planes.shape[1] or not small):  # as bands, whose enlarged rows are processed in parts
            return torch.cat(list(self._rows(iter(batch.split(at_once, dim=2)), at_once)), dim=2)
        filled = torch.tensor(sizes).to(self.device)
        if self._captured and small:
            return self._captured(batch, filled)
        workspace = self._reserves.workspace
        return upscale_batch(
            self._net, batch, None if uniform else filled, workspace=workspace, convolve=self._convolve
        )

    def _framed(self, picture: Pixels | Rows, at_once: int | None = None) -> tuple[int, Iterator[Pixels]]:
        multiple = self._net.config.unshuffle
        places = (places_with_margin(side, self._margin_px, multiple) for side in picture.shape[1:3])
        return self._margin_px, bands_of(picture, *places, at_once=at_once)

    def _wrapped(self, picture: Pixels | Rows, at_once: int) -> tuple[int, Iterator[Pixels]]:
        check_sides(picture.shape, self.wrap_multiple_px)
        height, width = picture.shape[1:3]
        rows = places_in_ring(height, -rows_before(self._net), height)
        return 0, bands_of(picture, rows, range(width), at_once=at_once)

    def _on_grid(self, rows: int) -> int:
        """Round rows up to the grid of all convolutions, so that the result does not depend on their number."""
        grid = GRID_ROWS * self._net.config.unshuffle
        return max(1, -(-rows // grid)) * grid

    def _rows(self, bands: Iterator[Tensor], at_once: int, edges: Edges = "auto") -> Iterator[Tensor]:
        workspace, wraps = self._reserves.workspace, edges == "wrap"
        return upscale_rows(
            self._net, bands, band_rows=at_once, workspace=workspace, convolve=self._convolve, wraps=wraps
        )
