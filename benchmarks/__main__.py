"""python -m benchmarks: speed of our runtime, whole and streamed, of every other runtime, and of the bare device."""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from benchmarks.rig.networks import add_network_options, chosen_network
from benchmarks.rig.peaks import dense_convolutions, matrix_product, tile_products
from benchmarks.rig.pictures import smooth_noise, square
from benchmarks.rig.png_encoders import ours
from benchmarks.rig.report import Report, add_record_option
from benchmarks.rig.runtimes import NotHere, builders, exact_output
from benchmarks.rig.timing import Case, fidelity_of, medians_s
from model.convolutions.native import amx
from model.device import choose_device, fast_dtype
from model.gpu import DeviceError
from model.rrdb import RRDBConfig, RRDBNet
from model.transfer import Pixels

EAGER, OURS, BARE, PNG = "PyTorch eager, float32", "our runtime", "bare convolutions", "PNG encoding of the answer"
TILES = "products of AMX tiles"
"""Names of cases, or prefixes of them."""

MIN_PSNR_DB = 35
"""Minimum PSNR against the float32 network; a runtime below it is wrong and is not measured."""

HEADS = ("what", "s", "LR kpx/s", "GFLOP/s", "over eager", "of the bare convolution", "PSNR dB", "worst level")


def main() -> None:
    """Check every runtime, then measure all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--picture", type=Path, help="its middle is taken; else seeded noise")
    parser.add_argument("--side", type=int, default=256, help="px of the square picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[""], help="runtimes with one of these texts in their names")
    parser.add_argument("--device", type=_device, default="auto", help="cpu, cuda or cuda:N")
    add_record_option(parser)
    options = parser.parse_args()

    network = chosen_network(options)
    net = network.net
    size = f"{options.side} x {options.side} px, median of {options.rounds} rounds in turns"
    with Report("runtimes", options) as report:
        report.setting(f"{network.name}, {size}", options.device)
        picture = square(options.picture, options.side)
        cases, absent = _networks(net, options.device, picture, options.only)
        cases = _peaks(net.config, options.device, options.side) | cases | _encoding(net.config, options.side)
        seconds = medians_s(cases, options.rounds)
        _print(report, cases, seconds, options.side**2)
        for runtime, reason in absent.items():
            print(f"- {runtime}: {reason}")


def _device(name: str) -> torch.device:
    try:
        return choose_device(name)
    except DeviceError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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


def _networks(
    net: RRDBNet, device: torch.device, picture: Pixels, only: Sequence[str]
) -> tuple[dict[str, Case], dict[str, str]]:
    """Return the runtimes that work here, and for each of the others the reason why not."""
    reference = exact_output(net, picture)[0]
    _, height, width, _ = picture.shape
    flop = 2.0 * net.config.macs_per_low_res_px * height * width
    cases: dict[str, Case] = {}
    absent: dict[str, str] = {}
    for name, build in builders(net, device, height, width).items():
        if not any(text in name for text in only):
            continue
        try:
            runtime = build()
        except ModuleNotFoundError as error:
            absent[name] = f"not installed ({error.name})"
        except NotHere as reason:
            absent[name] = str(reason)
        else:
            fidelity = fidelity_of(runtime(picture)[0], reference)
            if fidelity.psnr_db < MIN_PSNR_DB:
                absent[name] = f"computes another picture ({fidelity.psnr_db:.1f} dB)"
            else:
                cases[name] = Case(run=partial(runtime, picture), flop=flop, fidelity=fidelity)
    return cases, absent


def _encoding(config: RRDBConfig, side: int) -> dict[str, Case]:
    answer = smooth_noise(config.scale * side, config.scale * side)
    threads = os.cpu_count() or 1
    encode = ours(ThreadPoolExecutor(threads), threads)
    return {PNG: Case(run=lambda: encode(answer[0]))}


def _print(report: Report, cases: dict[str, Case], seconds: dict[str, float], px: int) -> None:
    rates = {name: case.flop / seconds[name] for name, case in cases.items()}
    bare_rate = max(rate for name, rate in rates.items() if name.startswith(BARE))
    eager_s = seconds.get(EAGER)

    def row(name: str, case: Case) -> list[str]:
        s, fidelity = seconds[name], case.fidelity
        rate = f"{rates[name] / 1e9:.0f}" if case.flop else ""
        if not fidelity:
            return [name, f"{s:.3f}", "", rate, "", "", "", ""]
        over_eager = f"{eager_s / s:.2f} x" if eager_s else ""
        speed = [f"{px / s / 1e3:.1f}", rate, over_eager, f"{100 * rates[name] / bare_rate:.0f} %"]
        return [name, f"{s:.3f}", *speed, f"{fidelity.psnr_db:.1f}", str(fidelity.worst_levels)]

    report.table(HEADS, [row(name, case) for name, case in cases.items()])
    ours = max((rate for name, rate in rates.items() if name.startswith(OURS)), default=None)
    if ours is None:
        return
    others = [rates[name] for name, case in cases.items() if case.fidelity and not name.startswith(OURS)]
    if EAGER in rates:
        report.bar("our runtime over PyTorch eager in float32", ours / rates[EAGER], at_least=4)
    report.bar("our runtime over the bare convolution", ours / bare_rate, at_least=0.75)
    if others:
        report.bar("our runtime over the fastest of the others", ours / max(others), at_least=1)
    if TILES in rates:
        report.bar("our runtime over the products of AMX tiles", ours / rates[TILES], at_least=0.45)


if __name__ == "__main__":
    main()
