"""Measure fine detail, to tell sharp photographs from blurred or enlarged ones."""

from functools import lru_cache

import numpy
from numpy.typing import NDArray

_BLOCK_PX = 32
_MIN_CONTRAST = 16.0  # variance in squared grey levels; below it a block is backdrop, JPEG's blocks or noise


def detail(grey: NDArray[numpy.uint8]) -> float:
    """Measure the finest detail of a picture's best part: energy of its last octave over that of the octave before.

    An octave is a ring of the block's spectrum: the larger of both frequencies in (1/2, 1] and (1/4, 1/2] of
    Nyquist's. Photographs have about 1, since their amplitudes fall as 1 / frequency (Field 1987); enlarging by 2 or
    more leaves the last octave empty. Noise, equally strong everywhere, is measured in the corner of the spectrum,
    where photographs have little, and subtracted from both rings.

    Args:
        grey: (H, W), levels 0 to 255.

    Returns:
        The 90th percentile over blocks of 32 px, of those alone that have contrast in the octave before; 0 where none
        has, NaN for a picture smaller than a block.
    """
    height, width = grey.shape
    if min(height, width) < _BLOCK_PX:
        return float("nan")
    tops = range(0, height - _BLOCK_PX + 1, _BLOCK_PX)
    energies = numpy.concatenate([_ring_energies(grey[top : top + _BLOCK_PX]) for top in tops])
    _, rings = _window_and_rings()
    before_size, last_size, corner_size = rings.sum(axis=(1, 2))
    before, last, corner = energies.T
    noise = corner / corner_size
    contrast = before - noise * before_size
    counted = contrast > _MIN_CONTRAST
    if not counted.any():
        return 0.0
    ratios = (last - noise * last_size)[counted] / contrast[counted]
    return max(0.0, float(numpy.quantile(ratios, 0.9)))


def _ring_energies(strip: NDArray[numpy.uint8]) -> NDArray[numpy.float32]:
    """Measure the variance in both octaves and in the corner, (blocks, 3), of the blocks of a strip one block high."""
    window, rings = _window_and_rings()
    columns = strip.shape[1] // _BLOCK_PX
    blocks = strip[:, : columns * _BLOCK_PX].reshape(_BLOCK_PX, columns, _BLOCK_PX).swapaxes(0, 1)
    levels = blocks.astype(numpy.float32)
    spectrum = numpy.fft.rfft2((levels - levels.mean(axis=(1, 2), keepdims=True)) * window)
    energies = numpy.tensordot(numpy.abs(spectrum) ** 2, rings, axes=((1, 2), (1, 2))) / _BLOCK_PX**4
    return energies.astype(numpy.float32)


@lru_cache(maxsize=1)
def _window_and_rings() -> tuple[NDArray[numpy.float32], NDArray[numpy.float32]]:
    """Make Hann's window (32, 32) of mean square 1, and each frequency's weight in both octaves and the corner."""
    ramp = numpy.hanning(_BLOCK_PX + 2)[1:-1]
    window = numpy.outer(ramp, ramp) / (ramp**2).mean()
    across = numpy.fft.rfftfreq(_BLOCK_PX) * 2  # 1 is Nyquist's frequency
    down = numpy.abs(numpy.fft.fftfreq(_BLOCK_PX) * 2)[:, None]
    higher, lower = numpy.maximum(down, across), numpy.minimum(down, across)
    rings = numpy.stack([(higher > 0.25) & (higher <= 0.5), higher > 0.5, lower > 0.7])
    times = numpy.where((across == 0) | (across == 1), 1, 2)  # rfft2 leaves out the mirrored half
    return window.astype(numpy.float32), (rings * times).astype(numpy.float32)
