"""Memory of a network's stages: a shared buffer, halo rows, waiting rows, and the padding around pictures."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Workspace:
    """The buffer in which the stages of a network work, one after the other.

    Its content is valid during one call of one stage. It grows to the largest call, and is reused by all streams and
    batches of the device's thread.
    """

    def __init__(self) -> None:
        self._flat: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @property
    def memory_bytes(self) -> int:
        """Current size."""
        return sum(flat.nbytes for flat in list(self._flat.values()))

    def clear(self) -> None:
        """Free it."""
        self._flat.clear()

    def buffer(self, planes: int, channels: int, height: int, width: int, like: Tensor) -> Tensor:
        """Return uninitialised (planes, channels, height, width), channels last, with device and format of `like`."""
        elements = planes * channels * height * width
        flat = self._flat.get((like.device, like.dtype))
        if flat is None or flat.numel() < elements:
            self._flat.pop((like.device, like.dtype), None)  # freed before the larger one is made
            flat = self._flat[like.device, like.dtype] = like.new_empty(elements)
        return flat[:elements].view(planes, height, width, channels).permute(0, 3, 1, 2)


class Window:
    """Input of a stage's convolutions: halo rows, the new rows, and one pixel of padding around the picture.

    Args:
        conv: a convolution of all channels; gives their number, device and padding.
        most_kept: maximum halo rows from one band to the next.
        dtype: number format of the pixels; None for that of the weights.
        padded: write the border around the picture; False if it is not read.
        wraps: the columns are a ring: the last one is left of the first, and the first one right of the last.
    """

    def __init__(
        self,
        workspace: Workspace,
        conv: nn.Conv2d,
        *,
        most_kept: int,
        dtype: torch.dtype | None = None,
        padded: bool = True,
        wraps: bool = False,
    ) -> None:
        self._workspace = workspace
        self._channels = conv.in_channels
        self._like = torch.empty(0, dtype=dtype or conv.weight.dtype, device=conv.weight.device)
        self._most_kept = most_kept
        self._repeats = padded and conv.padding_mode == "replicate"
        self._zeros = padded and conv.padding_mode == "zeros"
        self._wraps = padded and wraps
        self._halo: Tensor | None = None
        self.kept = 1
        """Halo rows in front of the new ones; at first the row of padding above the picture."""
        self.first_row = -1
        """Row of the picture that the buffer begins with; -1 is the padding above it."""

    def open(self, planes: int, height: int, width: int, last: bool) -> Tensor:
        """Lend the buffer (planes, channels, kept + height + last, width + 2).

        The caller writes its `height` new rows, then calls `pad` for every group of channels that it wrote.
        """
        rows = self.kept + height + last
        buffer = self._workspace.buffer(planes, self._channels, rows, width + 2, self._like)
        if self._halo is not None:
            buffer[:, :, : self.kept] = self._halo[:, :, : self.kept]
        if self._zeros:
            if not self._wraps:
                buffer[:, :, :, :: width + 1] = 0  # its first and its last column
            if self._halo is None:
                buffer[:, :, 0] = 0
            if last:
                buffer[:, :, -1] = 0
        return buffer

    def pad(self, channels: Tensor, begin: int, end: int, last: bool) -> None:
        """Write the border of rows `begin` to `end` of some channels of the buffer, where it is not zero."""
        if begin == end:
            return
        new = channels[:, :, begin:end]
        if self._wraps:
            new[:, :, :, 0] = new[:, :, :, -2]
            new[:, :, :, -1] = new[:, :, :, 1]
        elif self._repeats:
            new[:, :, :, 0] = new[:, :, :, 1]
            new[:, :, :, -1] = new[:, :, :, -2]
        if not self._repeats:
            return
        if self.first_row + begin == 0:
            channels[:, :, begin - 1] = channels[:, :, begin]
        if last:
            channels[:, :, end] = channels[:, :, end - 1]

    def keep(self, buffer: Tensor, first: int) -> None:
        """Keep the rows of the buffer from `first` on as halo rows for the next band."""
        if self._halo is None:
            self._halo = rows_like(buffer, self._most_kept)
        self.kept = buffer.shape[2] - first
        self.first_row += first
        self._halo[:, :, : self.kept] = buffer[:, :, first:]


class SkipPath:
    """Rows of a skip connection, which wait until the convolutions that it skips have caught up.

    Args:
        lag: maximum rows by which the convolutions stay behind, which are kept between bands in a ring buffer.
    """

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._ring: Tensor | None = None
        self._first = 0
        self._waiting = 0
        self._new: Tensor | None = None
        self._owned = False

    def put(self, rows: Tensor, *, owned: bool = False) -> None:
        """Add rows at the end; they must not be changed before the next call.

        Args:
            owned: the rows are not used elsewhere, so `take` does not need to copy them.
        """
        self._store_new()
        self._new, self._owned = rows, owned

    def add_to(self, residual: Tensor, scaling: float) -> Tensor:
        """Take rows from the front; returns rows + scaling * residual, in the format of the rows."""
        made, done = self._room(residual.shape[2]), 0
        for rows in self._take(residual.shape[2]):
            end = done + rows.shape[2]
            torch.add(rows, residual[:, :, done:end], alpha=scaling, out=made[:, :, done:end])
            done = end
        self._store_new()
        return made

    def take(self, count: int) -> Tensor:
        """Take rows from the front; returns them in separate memory, which the caller may overwrite."""
        if self._owned and not self._waiting and self._new is not None:
            made, self._new = self._new[:, :, :count], self._new[:, :, count:]
            self._store_new()
            return made
        made, done = self._room(count), 0
        for rows in self._take(count):
            end = done + rows.shape[2]
            made[:, :, done:end] = rows
            done = end
        self._store_new()
        return made

    def _room(self, count: int) -> Tensor:
        waiting = self._ring if self._new is None else self._new
        assert waiting is not None, "nothing was put"
        return rows_like(waiting, count)

    def _take(self, count: int) -> Iterator[Tensor]:
        """Yield the first rows in contiguous parts."""
        while count and self._waiting and self._ring is not None:
            taken = min(count, self._waiting, self._lag - self._first)
            yield self._ring[:, :, self._first : self._first + taken]
            self._first = (self._first + taken) % self._lag
            self._waiting -= taken
            count -= taken
        if count and self._new is not None:
            yield self._new[:, :, :count]
            self._new = self._new[:, :, count:]

    def _store_new(self) -> None:
        """Copy the remaining new rows into the ring, so that their band can be freed."""
        left, self._new = self._new, None
        if left is None or not left.shape[2]:
            return
        if self._ring is None:
            self._ring = rows_like(left, self._lag)
        while left.shape[2]:
            end = (self._first + self._waiting) % self._lag
            fits = min(left.shape[2], self._lag - end)
            self._ring[:, :, end : end + fits] = left[:, :, :fits]
            self._waiting += fits
            left = left[:, :, fits:]
            assert self._waiting <= self._lag, "rows wait that were never taken"


class Padding:
    """The pixels right of and below the pictures of a padded batch.

    Every call does the same operations whatever the sizes are and never waits for the device, so that a CUDA graph can
    hold them.

    Args:
        sizes: int64 (N, 2), height and width of the pictures; each fills the upper left of its plane.
        height: of the planes.
        width: of the planes.
        full: every picture is as large as its plane, so that nothing is to be filled.
    """

    def __init__(self, sizes: Tensor, height: int, width: int, padding_mode: str, *, full: bool = False) -> None:
        self._full = full
        self.sizes = sizes.contiguous()
        self.repeats = padding_mode == "replicate"
        self._height = height
        self._width = width
        self._places: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def factor(self, columns: int) -> int:
        """Return the enlargement of features by their width."""
        return columns // self._width

    def fill(self, features: Tensor) -> None:
        """Pad (N, C, factor * height, factor * width) in place: with zeros by one mask, or by repeating the border."""
        if self._full:
            return
        factor = self.factor(features.shape[3])
        if factor not in self._places:
            self._places[factor] = self._at(factor)
        planes, rows, columns, outside = self._places[factor]
        if self.repeats:
            features.copy_(features[planes, :, rows, columns].permute(0, 3, 1, 2))
        else:
            features.masked_fill_(outside, 0)

    def _at(self, factor: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the source of each pixel for repeated borders (planes, rows, columns), and a mask of those outside."""
        device, (heights, widths) = self.sizes.device, (self.sizes * factor)[:, :, None, None].unbind(1)
        planes = torch.arange(len(self.sizes), device=device)[:, None, None]
        rows = torch.arange(factor * self._height, device=device)[:, None]
        columns = torch.arange(factor * self._width, device=device)
        outside = (rows >= heights) | (columns >= widths)
        return planes, rows.minimum(heights - 1), columns.minimum(widths - 1), outside[:, None]


def rows_like(rows: Tensor, height: int, channels: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Allocate `height` rows like these, always channels last, so that later operations keep that layout."""
    shape = (rows.shape[0], channels or rows.shape[1], height, rows.shape[3])
    return torch.empty(shape, dtype=dtype or rows.dtype, device=rows.device, memory_format=torch.channels_last)


def in_order(rows: Tensor) -> Tensor:
    """Return (N, C, R, W) with every plane contiguous, channels last; copied only if it is not."""
    _, channels, _, width = rows.shape
    is_so = rows.stride()[1:] == (1, width * channels, channels)
    return rows if is_so else rows.contiguous(memory_format=torch.channels_last)
