"""python -m benchmarks.bands: speed of low bands, alone and next to busy processes, for each way OpenMP threads wait.

Each wait policy runs in its own process, in which bands of all heights and the whole picture take turns.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch

from benchmarks.rig.networks import add_network_options, chosen_network
from benchmarks.rig.pictures import smooth_noise
from benchmarks.rig.report import Report, add_record_option
from model.device import best_device
from model.upscaler import Upscaler

POLICY, SPINS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
"""Read by OpenMP when it is loaded: whether waiting threads spin, and GNU's limit before they sleep."""

SPAWN = multiprocessing.get_context("spawn")


def main() -> None:
    """Measure each wait policy with each number of busy processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bands", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--width", type=int, default=256, help="px of the picture")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16, 24, 32, 48, 64], help="heights of the bands")
    parser.add_argument(
        "--policies",
        type=parse_policy,
        nargs="+",
        default=["passive"],
        help=f"default, passive, active, or with {SPINS}: passive:10000",
    )
    parser.add_argument("--busy", type=int, nargs="+", default=[0], help="processes that loop meanwhile")
    parser.add_argument("--rounds", type=int, default=5)
    add_record_option(parser)
    options = parser.parse_args()

    size = f"{options.width} x {options.height} px"
    with Report("bands", options) as report:
        setting = f"{chosen_network(options).name}, {size}, LR kpx/s, medians of {options.rounds}"
        report.setting(setting, best_device())
        rows = []
        for busy in options.busy:
            for policy in options.policies:
                with busy_processes(busy):
                    rates = _in_new_process(options, policy)
                rows.append([policy, str(busy), *(f"{rate / 1e3:.1f}" for rate in rates)])
        heads = (f"bands of {height}" for height in options.rows)
        report.table((POLICY, "busy processes", "whole", *heads), rows)


def parse_policy(text: str) -> str:
    """Check a wait policy, which may be followed by a limit of spins.

    Raises:
        ArgumentTypeError: the policy is unknown, or the limit is not a number.
    """
    name, colon, spins = text.partition(":")
    if name not in ("default", "passive", "active") or bool(colon) != spins.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is none of default, passive and active, with or without :SPINS")
    return text


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run `count` processes that keep a core busy each."""
    others = [SPAWN.Process(target=_loop, daemon=True) for _ in range(count)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()


def _loop() -> None:
    while True:
        pass


def _in_new_process(options: argparse.Namespace, policy: str) -> Sequence[float]:
    chosen, _, spins = policy.partition(":")
    for name, value in ((POLICY, "" if chosen == "default" else chosen), (SPINS, spins)):
        os.environ.pop(name, None)
        if value:
            os.environ[name] = value
    with ProcessPoolExecutor(1, mp_context=SPAWN) as process:
        return process.submit(_measure, options).result()


@torch.inference_mode()
def _measure(options: argparse.Namespace) -> Sequence[float]:
    """Return LR px per second of the whole picture and of bands of each height."""
    upscaler = Upscaler(chosen_network(options).net)
    picture = smooth_noise(options.height, options.width)
    heights = [options.height, *options.rows]
    seconds: list[list[float]] = [[] for _ in heights]
    for _ in range(1 + options.rounds):  # the first one warms up
        for band_rows, measured_s in zip(heights, seconds, strict=True):
            began_s = time.perf_counter()
            for _ in upscaler.stream(picture, band_rows):
                pass
            measured_s.append(time.perf_counter() - began_s)
    return [options.width * options.height / statistics.median(one[1:]) for one in seconds]


if __name__ == "__main__":
    main()
