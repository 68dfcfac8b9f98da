"""The Triton kernel of `fused.py` and its tilings; needs Triton to be imported.

A 3x3 convolution is a product of pixels x input channels with input channels x output channels, summed over nine taps.
The limit is the small number of output channels of a dense block. Reading a tile once for each tap gives 2 * C_out FLOP
per 2 bytes, 32 FLOP/B for 32 channels, while an H200 needs about 120 per byte of L2 (790 TFLOP/s, 6.5 TB/s). So one
program computes `rows` rows of `pixels` outputs and reads each row of its input three times, once per horizontal
tap, for up to three rows of outputs: 3 (rows + 2) / rows reads per pixel and channel instead of 9; and each weight is
read once per rows * pixels outputs. FLOP per byte of L2:

    rows x pixels      1 x 128    2 x 64    2 x 128    4 x 64    4 x 128    8 x 64
    32 channels out       26        34         39        50         56         65
    64 channels out       43        55         68        83         97        116

The other limit is shared memory, 128 B per clock of a multiprocessor: wgmma fetches 64 x 16 values of the input and
16 x C_out weights for 64 x 16 x C_out products, so that 32 columns cannot use more than two thirds of the tensor
cores, and about half with the copies into shared memory counted; 64 columns three quarters.

Triton runs wgmma asynchronously only if a sum gets one product per iteration. So the three vertical taps can have
a sum each (`separate_sums`), which takes three times the registers; otherwise other programs on the same multiprocessor
must fill the gaps, and the tilings leave room for two or three.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def _input_rows(
    window: tl.tensor, window_row: tl.tensor, window_pixel: tl.tensor,
    y: tl.tensor, column: tl.tensor, channel: tl.tensor, bottom: tl.tensor, right: tl.tensor,
    channels: tl.constexpr, rows: tl.constexpr, widened: tl.constexpr, sized: tl.constexpr, repeats: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Load the window's rows y to y + rows + 1 as tiles (pixels, depth) of these columns and channels.

    Without sizes the window ends at `bottom` and `right`, and is read as it is. With sizes, a picture fills the rows 1
    to `bottom` and the columns 1 to `right`; around it are zeros, or its border repeated.
    """
    if sized and repeats:
        column = tl.minimum(tl.maximum(column, 1), right)
    inside = ((column <= right) & (column >= (1 if sized else 0)))[:, None] & (channel < channels)[None, :]
    place = window + column.to(tl.int64)[:, None] * window_pixel + channel[None, :]
    tiles = ()
    for i in tl.static_range(rows + 2):
        row = tl.minimum(y + i, bottom)  # results of rows below the window are not stored
        seen = inside
        if sized:
            row = tl.maximum(row, 1)
            if not repeats:
                end = tl.where(row == y + i, right, 0)  # no column of a row above or below the picture
                seen = inside & (column <= end)[:, None]
        tile = tl.load(place + row.to(tl.int64) * window_row, mask=seen, other=0.0)
        tiles += (tile.to(tl.float32) if widened else tile,)
    return tiles


@triton.jit
def _products(
    tiles: tl.tuple, taps: tl.tensor, tap_row: tl.constexpr, sums: tl.tuple,
    rows: tl.constexpr, separate_sums: tl.constexpr, widened: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Add the products of three vertical taps to the sums: three sums for each row if `separate_sums`, else one."""
    above, middle, below = tl.load(taps), tl.load(taps + tap_row), tl.load(taps + 2 * tap_row)
    if widened:
        above, middle, below = above.to(tl.float32), middle.to(tl.float32), below.to(tl.float32)
    added = ()
    for i in tl.static_range(rows):
        if separate_sums:
            first = tl.dot(tiles[i], above, sums[3 * i], input_precision="ieee")
            second = tl.dot(tiles[i + 1], middle, sums[3 * i + 1], input_precision="ieee")
            third = tl.dot(tiles[i + 2], below, sums[3 * i + 2], input_precision="ieee")
            added += (first, second, third)
        else:
            row = tl.dot(tiles[i], above, sums[i], input_precision="ieee")
            row = tl.dot(tiles[i + 1], middle, row, input_precision="ieee")
            added += (tl.dot(tiles[i + 2], below, row, input_precision="ieee"),)
    return added


@triton.jit
def _activated(
    sums: tl.tuple, row: tl.constexpr, separate_sums: tl.constexpr, biases: tl.tensor, slope: tl.tensor,
    scaling: tl.tensor,
) -> tl.tensor:  # fmt: skip
    """Return a row of results, with bias, LeakyReLU and scale."""
    result = sums[3 * row] + sums[3 * row + 1] + sums[3 * row + 2] if separate_sums else sums[row]
    result += tl.load(biases)
    return scaling * tl.where(result > 0, result, slope * result)


@triton.jit(do_not_specialize=["height", "width", "factor"])
def convolve_rows(
    window: tl.tensor, window_image: tl.tensor, window_row: tl.tensor, window_pixel: tl.tensor,
    target: tl.tensor, target_image: tl.tensor, target_row: tl.tensor, target_pixel: tl.tensor,
    skip: tl.tensor, skip_image: tl.tensor, skip_row: tl.tensor, skip_pixel: tl.tensor,
    weight: tl.tensor, bias: tl.tensor, slope: tl.tensor, scaling: tl.tensor,
    height: tl.tensor, width: tl.tensor, sizes: tl.tensor, factor: tl.tensor,
    channels: tl.constexpr, channels_padded: tl.constexpr, made: tl.constexpr, columns: tl.constexpr,
    rows: tl.constexpr, pixels: tl.constexpr, depth: tl.constexpr, separate_sums: tl.constexpr,
    widened: tl.constexpr = False, repeats: tl.constexpr = False,
) -> None:  # fmt: skip
    """Compute `fused.convolve` for `rows` x `pixels` outputs of one image per program.

    Args:
        window: (N, height + 2, width + 2, channels) with its strides in elements; target and skip likewise.
        weight: (9, channels_padded, columns); zero beyond channels and made, as bias is.
        sizes: int64 (N, 2), height and width of the picture in the upper left of each plane, to be multiplied by
            `factor`; None: read the border of the window as it is.
        depth: input channels at a time; divides channels_padded.
        widened: multiply in float32, for the interpreter, which has no bfloat16.
        repeats: repeat the border of a picture of `sizes` around it, instead of zeros.
    """
    across = tl.cdiv(width, pixels)
    down = tl.cdiv(height, rows)
    program = tl.program_id(0)
    x = program % across * pixels + tl.arange(0, pixels)
    y = program // across % down * rows
    image = (program // (across * down)).to(tl.int64)
    column = tl.arange(0, columns)
    blocks: tl.constexpr = (channels + depth - 1) // depth
    tap: tl.constexpr = channels_padded * columns
    sized: tl.constexpr = sizes is not None
    bottom, right = height + 1, width + 1
    if sized:
        bottom = tl.load(sizes + 2 * image).to(tl.int32) * factor
        right = tl.load(sizes + 2 * image + 1).to(tl.int32) * factor

    sums = ()
    for _ in tl.static_range(3 * rows if separate_sums else rows):
        sums += (tl.zeros((pixels, columns), tl.float32),)
    for step in range(3 * blocks):
        dx = step // blocks
        channel = step % blocks * depth + tl.arange(0, depth)
        tiles = _input_rows(window + image * window_image, window_row, window_pixel, y, x + dx, channel,
                            bottom, right, channels, rows, widened, sized, repeats)  # fmt: skip
        taps = weight + dx * tap + channel[:, None] * columns + column[None, :]
        sums = _products(tiles, taps, 3 * tap, sums, rows, separate_sums, widened)

    at = x.to(tl.int64)[:, None]
    for i in tl.static_range(rows):
        row = (y + i).to(tl.int64)
        end = tl.where(row < height, width, 0)
        writable = (x < end)[:, None] & (column < made)[None, :]
        result = _activated(sums, i, separate_sums, bias + column, slope, scaling)
        if skip is not None:
            place = skip + image * skip_image + row * skip_row + at * skip_pixel + column[None, :]
            result += tl.load(place, mask=writable, other=0.0).to(tl.float32)
        place = target + image * target_image + row * target_row + at * target_pixel + column[None, :]
        tl.store(place, result.to(target.dtype.element_ty), mask=writable)


def tiling(rows: int, pixels: int, depth: int, *, warps: int, stages: int, separate_sums: bool) -> triton.Config:
    """Return a tiling; the input of `stages` steps is in shared memory or being copied there."""
    sizes = {"rows": rows, "pixels": pixels, "depth": depth, "separate_sums": separate_sums}
    return triton.Config(sizes, num_warps=warps, num_stages=stages)


PLAIN = tiling(2, 16, 16, warps=4, stages=1, separate_sums=False)
"""Tiling for float32, which has no fast product, and for the interpreter."""

SMALL = tiling(1, 64, 32, warps=4, stages=3, separate_sums=False)
"""Tiling with many small programs: for small pictures, and if sums of several rows do not fit into registers."""

NARROW = (
    tiling(4, 64, 32, warps=4, stages=3, separate_sums=True),
    tiling(4, 128, 32, warps=8, stages=3, separate_sums=True),
    tiling(8, 64, 32, warps=4, stages=2, separate_sums=False),
    SMALL,
)
"""Tilings for up to 32 columns: sums take at most 192 of the 255 registers of a thread."""

WIDE = (
    tiling(4, 64, 32, warps=4, stages=3, separate_sums=False),
    tiling(2, 64, 64, warps=4, stages=2, separate_sums=True),
    tiling(2, 128, 32, warps=8, stages=3, separate_sums=True),
    SMALL,
)
"""Tilings for up to 64 columns."""


def tilings(columns: int) -> tuple[triton.Config, ...]:
    """List the tilings for a number of columns; `tuning.py` finds the fastest right one."""
    return NARROW if columns <= 32 else WIDE if columns <= 64 else (SMALL,)


def interpreted() -> bool:
    """Check if kernels run in Triton's interpreter, on the CPU."""
    return bool(triton.knobs.runtime.interpret)


def launchable(
    columns: int, dtype: torch.dtype, tiling: triton.Config | None = None
) -> tuple[triton.KernelInterface, dict[str, object]]:
    """Return the kernel to launch, and its arguments other than those of the convolution."""
    fusion = {"enable_fp_fusion": True}  # Triton 3.9 warns that its default will change
    if interpreted() or dtype == torch.float32:
        return convolve_rows, {**PLAIN.all_kwargs(), "widened": True, **fusion}
    return convolve_rows, {**(tiling or tilings(columns)[0]).all_kwargs(), **fusion}
