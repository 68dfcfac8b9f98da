"""The generator over bands of rows: the untiled result, exactly, in memory that grows with the width only.

A 3x3 convolution needs one row above and one below each row that it makes. So each one keeps the last two rows of its
input, the *halo rows*, and answers one row late; a zero row stands above the first row of the picture and below the
last, as zero padding does in the whole picture. A skip path keeps its rows until the convolutions beside it have
caught up. No row is ever computed twice, and nothing overlaps.

A batch of small pictures goes through the same stages as one band each. Pictures of different sizes share a batch by
padding; the padding next to a picture is set to zero again after each convolution, which is all that the next one
can see of it. So each picture is upscaled as if it were alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.rrdb import RESIDUAL_SCALING, RRDB, ResidualDenseBlock, RRDBNet, double, leaky_relu

Size = tuple[int, int]
"""Height and width in px."""


class Convolution(Protocol):
    """A 3x3 convolution as a stage sees it."""

    def __call__(self, rows: Tensor, last: bool) -> tuple[Tensor, Tensor]:
        """Take the next rows (N, C, R, W); return some input rows and the output rows that belong to them.

        Args:
            rows: none or more rows that follow those of the call before.
            last: no more rows will come.
        """


Stage = Callable[[Tensor, bool], Tensor]
"""Takes the next rows and whether they are the last; returns the rows that are complete, perhaps none."""


class BandConvolution:
    """A convolution that remembers its halo rows from band to band."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self._conv = conv
        self._halo: Tensor | None = None

    def __call__(self, rows: Tensor, last: bool) -> tuple[Tensor, Tensor]:
        """See `Convolution`."""
        beyond = _zero_row(rows)
        above = beyond if self._halo is None else self._halo
        window = torch.cat((above, rows, beyond) if last else (above, rows), dim=2)
        self._halo = window[:, :, -2:].clone()
        if window.shape[2] < 3:
            return window[:, :, :0], rows.new_empty(rows.shape[0], self._conv.out_channels, 0, rows.shape[3])
        made = functional.conv2d(window, self._conv.weight, self._conv.bias, padding=(0, 1))
        return window[:, :, 1:-1], made


def _zero_row(rows: Tensor) -> Tensor:
    """What lies above and below a picture; channels last as `rows` are, or everything after it would not be."""
    shape = (rows.shape[0], rows.shape[1], 1, rows.shape[3])
    return torch.empty(shape, dtype=rows.dtype, device=rows.device, memory_format=torch.channels_last).zero_()


class BatchConvolution:
    """A convolution over a whole batch of padded pictures that keeps their padding at zero."""

    def __init__(self, conv: nn.Conv2d, sizes: Sequence[Size], width: int) -> None:
        self._conv = conv
        self._sizes = sizes
        self._width = width

    def __call__(self, rows: Tensor, last: bool) -> tuple[Tensor, Tensor]:
        """See `Convolution`."""
        made: Tensor = self._conv(rows)
        factor = made.shape[3] // self._width  # 2 and 4 behind the doublings
        for picture, (height, width) in zip(made, self._sizes, strict=True):
            picture[:, factor * height : factor * (height + 1)] = 0
            picture[:, :, factor * width : factor * (width + 1)] = 0
        return rows, made


class SkipPath:
    """Rows that wait until their partners have caught up: first in, first out."""

    def __init__(self) -> None:
        self._waiting: Tensor | None = None

    def put(self, rows: Tensor) -> None:
        """Add rows at the end."""
        self._waiting = rows if self._waiting is None else torch.cat((self._waiting, rows), dim=2)

    def take(self, count: int) -> Tensor:
        """Remove the first `count` rows and return them."""
        assert self._waiting is not None
        rows, self._waiting = self._waiting[:, :, :count], self._waiting[:, :, count:].clone()
        return rows


class DenseStage:
    """A residual dense block. Its convolutions run in their own number format, its residual sum in float32."""

    def __init__(self, block: ResidualDenseBlock, convolution: Callable[[nn.Conv2d], Convolution]) -> None:
        self._growing = [convolution(conv) for conv in block.growing]
        self._closing = convolution(block.conv5)
        self._dtype = block.conv5.weight.dtype
        self._skip = SkipPath()

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        self._skip.put(rows)
        features = rows.to(self._dtype)
        for conv in self._growing:
            seen, made = conv(features, last)
            features = torch.cat((seen, leaky_relu(made)), dim=1)
        _, residual = self._closing(features, last)
        return torch.add(self._skip.take(residual.shape[2]), residual, alpha=RESIDUAL_SCALING)


class BlockStage:
    """An RRDB: three dense stages inside one more residual."""

    def __init__(self, block: RRDB, convolution: Callable[[nn.Conv2d], Convolution]) -> None:
        self._dense = [DenseStage(dense, convolution) for dense in (block.rdb1, block.rdb2, block.rdb3)]
        self._skip = SkipPath()

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """See `Stage`."""
        self._skip.put(rows)
        for dense in self._dense:
            rows = dense(rows, last)
        return torch.add(self._skip.take(rows.shape[2]), rows, alpha=RESIDUAL_SCALING)


def stages_of(net: RRDBNet, convolution: Callable[[nn.Conv2d], Convolution]) -> list[Stage]:
    """The network as stages: (N, 3, R, W) in [0, 1] into the first, float32 (N, 3, ., scale * W) out of the last."""
    first, closing = convolution(net.conv_first), convolution(net.conv_body)
    hr, last_conv = convolution(net.conv_hr), convolution(net.conv_last)
    dtype = net.conv_first.weight.dtype
    trunk_skip = SkipPath()

    def enter(rows: Tensor, last: bool) -> Tensor:
        features = first(rows.to(dtype), last)[1].float()
        trunk_skip.put(features)
        return features

    def close_trunk(rows: Tensor, last: bool) -> Tensor:
        made = closing(rows.to(dtype), last)[1]
        return (trunk_skip.take(made.shape[2]) + made).to(dtype)

    def upsampling(conv: nn.Conv2d) -> Stage:
        convolved = convolution(conv)
        return lambda rows, last: leaky_relu(convolved(double(rows), last)[1])

    def leave(rows: Tensor, last: bool) -> Tensor:
        features = leaky_relu(hr(rows, last)[1])
        return last_conv(features.to(net.conv_last.weight.dtype), last)[1].float()

    blocks = [BlockStage(block, convolution) for block in net.body if isinstance(block, RRDB)]
    return [enter, *blocks, close_trunk, *(upsampling(conv) for conv in net.upsampling), leave]


def upscale_batch(net: RRDBNet, pictures: Tensor, sizes: Sequence[Size]) -> Tensor:
    """Upscale a batch of pictures of different sizes, each as if it were alone.

    Args:
        pictures: (N, 3, H, W) in [0, 1]; picture n fills the upper left `sizes[n]`, the rest is zero.

    Returns:
        float32 (N, 3, scale * H, scale * W), not clamped; what lies outside a picture has no meaning.
    """
    rows = pictures
    for stage in stages_of(net, lambda conv: BatchConvolution(conv, sizes, pictures.shape[3])):
        rows = stage(rows, True)
    return rows


def upscale_rows(net: RRDBNet, bands: Iterable[Tensor], *, band_rows: int) -> Iterator[Tensor]:
    """Upscale a picture of any height, band by band.

    Between two items the caller may do other work, or stop: closing the iterator frees all state. The rows of all
    items together are the upscaled picture. After each band comes an item without rows, so that the caller is in
    control even while the network is still filling up.

    Args:
        bands: the picture from top to bottom, each (N, 3, R, W) in [0, 1], with at most `band_rows` rows.
        band_rows: the most rows of the input that a stage handles at a time.

    Yields:
        float32 (N, 3, some rows, scale * W), not clamped.
    """
    stages = stages_of(net, BandConvolution)
    source = iter(bands)
    rows = next(source)
    rows_per_px = band_rows / rows.shape[3]  # a stage behind a doubling has twice the width and takes twice the rows
    for following in source:
        yield from _through(stages, rows, False, rows_per_px)
        yield rows.new_empty(rows.shape[0], 3, 0, rows.shape[3] * net.config.scale)
        rows = following
    yield from _through(stages, rows, True, rows_per_px)


def _through(stages: Sequence[Stage], rows: Tensor, last: bool, rows_per_px: float) -> Iterator[Tensor]:
    """Send rows through all stages; yields what comes out of the last one.

    The last rows of a picture set free all that waited for them. They go on in bands too, so that memory stays bounded.
    """
    if not stages:
        yield rows
        return
    made = stages[0](rows, last)
    if made.shape[2] == 0:
        return
    *before, final = made.split(round(rows_per_px * made.shape[3]), dim=2)
    for band in before:
        yield from _through(stages[1:], band, False, rows_per_px)
    yield from _through(stages[1:], final, last, rows_per_px)
