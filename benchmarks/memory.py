"""python -m benchmarks.memory: peak memory of a process that streams pictures of one width and several heights.

Each height runs in its own process, which streams a picture of seeded noise and drops every band of the result. Memory
from before and that of the picture itself are subtracted; the rest is the stream's, and must depend on the width alone.
"""

import argparse
import multiprocessing
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.rig.networks import add_network_options, chosen_network
from benchmarks.rig.pictures import smooth_noise
from benchmarks.rig.report import Report, add_record_option
from model.device import best_device
from model.upscaler import Upscaler

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Peak memory of one process, in bytes."""

    before: int
    """Peak with the network loaded and warm."""
    picture: int
    whole: int

    @property
    def stream(self) -> int:
        """Peak without the network and the picture."""
        return self.whole - self.before - self.picture


def main() -> None:
    """Stream a picture of each height, and compare the lowest with the highest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--width", type=int, default=64, help="px of all the pictures")
    parser.add_argument("--heights", type=int, nargs="+", default=[2_000, 20_000])
    add_record_option(parser)
    options = parser.parse_args()

    with Report("memory", options) as report:
        report.setting(f"{chosen_network(options).name}, pictures {options.width} px wide", best_device())
        peaks = [_in_new_process(options, height) for height in options.heights]
        report.table(
            ("rows", "before, MiB", "the picture", "peak", "the stream's"),
            [
                [str(height), *(f"{part / MIB:.0f}" for part in (peak.before, peak.picture, peak.whole, peak.stream))]
                for height, peak in zip(options.heights, peaks, strict=True)
            ],
        )
        _bar(report, options.heights, peaks)


def _bar(report: Report, heights: Sequence[int], peaks: Sequence[Peak]) -> None:
    low, high = min(zip(heights, peaks, strict=True)), max(zip(heights, peaks, strict=True))  # heights differ
    grown = (high[1].stream - low[1].stream) / MIB
    report.bar(f"growth of the stream's memory from {low[0]} to {high[0]} rows, in MiB", grown, at_most=32)


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
