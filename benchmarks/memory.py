"""python -m benchmarks.memory: the most memory that a process needs to stream pictures of one width and many heights.

Each height gets a process of its own, which streams a picture of seeded noise and drops every band that comes out. What
the process had before, and what the picture itself takes, is told apart: what is left is the stream's, and shall depend
on the width alone.
"""

import argparse
import multiprocessing
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.networks import add_network_options, chosen_network
from benchmarks.pictures import smooth_noise
from benchmarks.tables import print_bar, print_setting, print_table
from model.device import best_device
from model.upscaler import Upscaler

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Peak:
    """What one process came to, in bytes."""

    before: int
    """With the network loaded and warm."""
    picture: int
    whole: int

    @property
    def stream(self) -> int:
        """What is neither the network's nor the picture's."""
        return self.whole - self.before - self.picture


def main() -> None:
    """Stream a picture of each height, and compare the lowest with the highest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--width", type=int, default=64, help="px of all the pictures")
    parser.add_argument("--heights", type=int, nargs="+", default=[2_000, 20_000])
    options = parser.parse_args()

    print_setting(f"{chosen_network(options).name}, pictures {options.width} px wide", best_device())
    peaks = [_in_new_process(options, height) for height in options.heights]
    print_table(
        ("rows", "before, MiB", "the picture", "peak", "the stream's"),
        [
            [str(height), *(f"{part / MIB:.0f}" for part in (peak.before, peak.picture, peak.whole, peak.stream))]
            for height, peak in zip(options.heights, peaks, strict=True)
        ],
    )
    _print_bar(options.heights, peaks)


def _print_bar(heights: Sequence[int], peaks: Sequence[Peak]) -> None:
    low, high = min(zip(heights, peaks, strict=True)), max(zip(heights, peaks, strict=True))  # heights differ
    grown = (high[1].stream - low[1].stream) / MIB
    print_bar(f"growth of the stream's memory from {low[0]} to {high[0]} rows, in MiB", grown, at_most=32)


def _in_new_process(options: argparse.Namespace, height: int) -> Peak:
    receiving, sending = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(options, height, sending))
    process.start()
    sending.close()
    try:
        peak: Peak = receiving.recv()
    finally:
        process.join()
    return peak


def _measure(options: argparse.Namespace, height: int, sending: Connection) -> None:
    upscaler = Upscaler(chosen_network(options).net)
    band_rows = upscaler.band_rows(smooth_noise(4096, options.width))
    for _ in upscaler.stream(smooth_noise(4 * band_rows, options.width), band_rows):
        pass
    before = _peak_bytes()
    picture = smooth_noise(1000, options.width).repeat(-(-height // 1000), axis=1)[:, :height]
    for _ in upscaler.stream(picture, band_rows):
        pass
    sending.send(Peak(before=before, picture=picture.nbytes, whole=_peak_bytes()))


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts KiB


if __name__ == "__main__":
    main()
