"""python -m benchmarks.parts: the time of one core by parts of our runtime: convolutions, windows, skip paths."""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.rig.networks import add_network_options, chosen_network
from benchmarks.rig.pictures import smooth_noise
from benchmarks.rig.report import Report, add_record_option
from model import stages
from model.convolutions.library import OneDnnConvolver
from model.convolutions.native import amx
from model.convolutions.native.amx_blocks import AmxBlockStage
from model.convolutions.native.amx_convolver import AmxConvolver
from model.convolutions.native.amx_tail import AmxTailStage
from model.convolutions.native.winograd import Packed, WinogradConvolver
from model.upscaler import Upscaler
from model.workspace import SkipPath, Window

PARTS = (
    ("C on AMX", amx, "run"),
    ("Winograd's convolution", Packed, "__call__"),
    ("oneDNN's convolution", OneDnnConvolver, "convolve"),
    ("Python around convolutions", AmxBlockStage, "_run"),
    ("Python around convolutions", AmxTailStage, "__call__"),
    ("Python around convolutions", AmxConvolver, "convolve"),
    ("Python around convolutions", WinogradConvolver, "convolve"),
    ("Python around convolutions", amx, "convolve"),
    ("windows: halo rows and padding", Window, "open"),
    ("windows: halo rows and padding", Window, "pad"),
    ("windows: halo rows and padding", Window, "keep"),
    ("windows: new rows, dense blocks", stages.DenseStage, "__call__"),
    ("windows: new rows, other stages", stages.ConvolutionStage, "__call__"),
    ("skip paths", SkipPath, "put"),
    ("skip paths", SkipPath, "take"),
    ("skip paths", SkipPath, "add_to"),
)
"""Names of parts, and the functions in them. The time of a function excludes that of those that it calls."""


class Clock:
    """Processor time of the functions that it watches."""

    def __init__(self) -> None:
        self.own_s: dict[str, float] = defaultdict(float)
        self._inside_s = [0.0]

    def watch(self, part: str, owner: Any, name: str) -> None:
        """Wrap a function of a class or module, to measure its time."""
        run: Callable[..., object] = getattr(owner, name)

        def measured(*args: Any, **options: Any) -> object:
            began_s = time.thread_time()
            self._inside_s.append(0.0)
            try:
                return run(*args, **options)
            finally:
                whole_s = time.thread_time() - began_s
                self.own_s[part] += whole_s - self._inside_s.pop()
                self._inside_s[-1] += whole_s

        setattr(owner, name, measured)


def main() -> None:
    """Stream a picture on one thread, and print where the time went in the fastest round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--side", type=int, default=192, help="px of the square picture")
    parser.add_argument("--rows", type=int, default=32, help="height of the bands")
    parser.add_argument("--rounds", type=int, default=3)
    add_record_option(parser)
    options = parser.parse_args()

    torch.set_num_threads(1)
    network = chosen_network(options)
    upscaler = Upscaler(network.net, torch.device("cpu"))
    size = f"{options.side} x {options.side} px in bands of {options.rows} rows, one thread, {upscaler.dtype}"
    picture, clock = smooth_noise(options.side, options.side), Clock()
    for part, owner, name in PARTS:
        clock.watch(part, owner, name)
    rounds = [_measured(upscaler, picture, options.rows, clock) for _ in range(options.rounds)]
    whole_s, own_s = min(rounds, key=lambda one: one[0])
    flop = 2 * network.net.config.macs_per_low_res_px * options.side**2
    own_s["the rest"] = whole_s - sum(own_s.values())
    own_s["all"] = whole_s
    rows = [[part, f"{own_s[part]:.3f}", f"{100 * own_s[part] / whole_s:.0f} %"] for part in own_s]
    with Report("parts", options) as report:
        report.setting(f"{network.name}, {size}", upscaler.device)
        report.table(("part", "processor s", "of all"), rows)
    print(f"\n{flop / whole_s / 1e9:.0f} GFLOP/s of a core")


def _measured(upscaler: Upscaler, picture: Any, rows: int, clock: Clock) -> tuple[float, dict[str, float]]:
    clock.own_s.clear()
    began_s = time.thread_time()
    for _ in upscaler.stream(picture, rows):
        pass
    return time.thread_time() - began_s, dict(clock.own_s)


if __name__ == "__main__":
    main()
