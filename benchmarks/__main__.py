"""python -m benchmarks: the device's peaks, our runtime whole and streamed, and every other runtime, in one table."""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy
import torch

from benchmarks.networks import add_network_options, chosen_network
from benchmarks.peaks import dense_convolutions, matrix_product, tile_products
from benchmarks.pictures import smooth_noise, square
from benchmarks.png import ours
from benchmarks.runtimes import NotHere, builders, exact_output
from benchmarks.tables import print_bar, print_setting, print_table
from model.amx import convolution as amx
from model.device import best_device, fast_dtype
from model.rrdb import RRDBConfig, RRDBNet
from model.transfer import Pixels

PAUSE_S = 0.05
"""Before each case: the threads of the one before have to stop spinning."""

TILES = "products of AMX tiles"
EAGER, OURS, BARE, PNG = "PyTorch eager, float32", "our runtime", "bare convolutions", "PNG encoding of the answer"
"""Names of cases, or how they begin."""


LEAST_PSNR_DB = 35
"""A runtime whose picture is further from that of the float32 network is wrong, and is not measured."""

HEADS = ("what", "s", "LR kpx/s", "GFLOP/s", "over eager", "of the bare convolution", "PSNR dB", "worst level")


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How near a picture is to that of the float32 network; errors are of 8-bit levels."""

    psnr_db: float
    worst_levels: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table."""

    run: Callable[[], object]
    flop: float = 0.0
    fidelity: Fidelity | None = None
    """None: this is no network."""


def main() -> None:
    """Check every runtime, then measure all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--picture", type=Path, help="its middle is taken; else seeded noise")
    parser.add_argument("--side", type=int, default=256, help="px of the square picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", type=torch.device, default=best_device())
    options = parser.parse_args()

    network = chosen_network(options)
    net = network.net
    size = f"{options.side} x {options.side} px, median of {options.rounds} rounds in turns"
    print_setting(f"{network.name}, {size}", options.device)
    picture = square(options.picture, options.side)
    cases, absent = _networks(net, options.device, picture)
    cases = _peaks(net.config, options.device, options.side) | cases | _encoding(net.config, options.side)
    seconds = medians_s(cases, options.rounds)
    _print(cases, seconds, options.side**2)
    for runtime, reason in absent.items():
        print(f"- {runtime}: {reason}")


def medians_s(cases: dict[str, Case], rounds: int) -> dict[str, float]:
    """Run all cases in turns, so that a slow minute hits them alike; one more round, the first, warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, case in cases.items():
            time.sleep(PAUSE_S)
            began_s = time.perf_counter()
            case.run()
            seconds[name].append(time.perf_counter() - began_s)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def _peaks(config: RRDBConfig, device: torch.device, side: int) -> dict[str, Case]:
    dtype = fast_dtype(device)
    fast = str(dtype).removeprefix("torch.")
    run, flop = matrix_product(device, dtype)
    cases = {f"matrix product, {fast}": Case(run=run, flop=flop)}
    if device.type == "cpu" and amx.available():
        run, flop = tile_products()
        cases[TILES] = Case(run=run, flop=flop)
    for rows in sorted({min(16, side), side}):
        run, flop = dense_convolutions(config, device, dtype, band_rows=rows, height=side, width=side)
        cases[f"{BARE}, the trunk's, {rows} rows at a time, {fast}"] = Case(run=run, flop=flop)
    return cases


def _networks(net: RRDBNet, device: torch.device, picture: Pixels) -> tuple[dict[str, Case], dict[str, str]]:
    """The runtimes that are here and give the right picture, and what is wrong with the others."""
    reference = exact_output(net, picture)[0]
    _, height, width, _ = picture.shape
    flop = 2.0 * net.config.macs_per_low_res_px * height * width
    cases: dict[str, Case] = {}
    absent: dict[str, str] = {}
    for name, build in builders(net, device, height, width).items():
        try:
            runtime = build()
        except ModuleNotFoundError as error:
            absent[name] = f"not installed ({error.name})"
        except NotHere as reason:
            absent[name] = str(reason)
        else:
            fidelity = fidelity_of(runtime(picture)[0], reference)
            if fidelity.psnr_db < LEAST_PSNR_DB:
                absent[name] = f"computes another picture ({fidelity.psnr_db:.1f} dB)"
            else:
                cases[name] = Case(run=partial(runtime, picture), flop=flop, fidelity=fidelity)
    return cases, absent


def fidelity_of(upscaled: Pixels, reference: Pixels) -> Fidelity:
    """Compare two pictures of the same shape."""
    errors = numpy.abs(upscaled.astype(numpy.float64) - reference)
    mean_square = float(numpy.square(errors).mean())
    return Fidelity(
        psnr_db=10 * math.log10(255**2 / mean_square) if mean_square else math.inf, worst_levels=int(errors.max())
    )


def _encoding(config: RRDBConfig, side: int) -> dict[str, Case]:
    answer = smooth_noise(config.scale * side, config.scale * side)
    threads = os.cpu_count() or 1
    encode = ours(ThreadPoolExecutor(threads), threads)
    return {PNG: Case(run=lambda: encode(answer[0]))}


def _print(cases: dict[str, Case], seconds: dict[str, float], px: int) -> None:
    rates = {name: case.flop / seconds[name] for name, case in cases.items()}
    bare_rate = max(rate for name, rate in rates.items() if name.startswith(BARE))
    eager_s = seconds[EAGER]

    def row(name: str, case: Case) -> list[str]:
        s, fidelity = seconds[name], case.fidelity
        rate = f"{rates[name] / 1e9:.0f}" if case.flop else ""
        if not fidelity:
            return [name, f"{s:.3f}", "", rate, "", "", "", ""]
        speed = [f"{px / s / 1e3:.1f}", rate, f"{eager_s / s:.2f} x", f"{100 * rates[name] / bare_rate:.0f} %"]
        return [name, f"{s:.3f}", *speed, f"{fidelity.psnr_db:.1f}", str(fidelity.worst_levels)]

    print_table(HEADS, [row(name, case) for name, case in cases.items()])
    ours = max(rate for name, rate in rates.items() if name.startswith(OURS))
    others = max(rates[name] for name, case in cases.items() if case.fidelity and not name.startswith(OURS))
    print_bar("our runtime over PyTorch eager in float32", ours / rates[EAGER], at_least=4)
    print_bar("our runtime over the bare convolution", ours / bare_rate, at_least=0.75)
    print_bar("our runtime over the fastest of the others", ours / others, at_least=1)
    if TILES in rates:
        print_bar("our runtime over the products of AMX tiles", ours / rates[TILES], at_least=0.45)


if __name__ == "__main__":
    main()
