"""python -m benchmarks: the network, our runtime whole and streamed, and the PNG encoder, in one table."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy
import torch

from app.pictures.encode import encode_png
from app.pictures.picture import Picture
from app.settings import SHIPPED_MODELS
from model.checkpoint import read_checkpoint
from model.rrdb import RRDBNet
from model.upscaler import Pixels, Upscaler


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    run: Callable[[], object]


def main() -> None:
    """Measure every case in turns, so that a slow minute hits all of them alike."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--weights", type=Path, default=SHIPPED_MODELS / "compact-psnr-x4.safetensors")
    parser.add_argument("--side", type=int, default=256, help="px of the square picture")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    net = read_checkpoint(options.weights).net
    upscaler = Upscaler(read_checkpoint(options.weights).net)
    picture = numpy.random.default_rng(0).integers(0, 256, (1, options.side, options.side, 3), dtype=numpy.uint8)
    seconds: dict[str, list[float]] = {}
    for turn in range(options.rounds + 1):
        for case in _cases(net, upscaler, picture):
            began_s = time.perf_counter()
            case.run()
            if turn:  # the first round warms up
                seconds.setdefault(case.name, []).append(time.perf_counter() - began_s)

    print(f"{options.weights.stem}, {options.side} x {options.side} px, torch {torch.__version__}, ", end="")
    print(f"{upscaler.device}, {torch.get_num_threads()} threads, median of {options.rounds}\n")
    print("| what | s | LR kpx/s | GFLOP/s | against eager |\n|---|---|---|---|---|")
    px, flop = options.side**2, 2 * net.config.macs_per_low_res_px * options.side**2
    eager_s = statistics.median(seconds["PyTorch eager, float32, NCHW"])
    for name, times in seconds.items():
        s = statistics.median(times)
        rate = "" if name.startswith("PNG") else f"{flop / s / 1e9:.0f}"
        print(f"| {name} | {s:.3f} | {px / s / 1e3:.1f} | {rate} | {eager_s / s:.2f} x |")


def _cases(net: RRDBNet, upscaler: Upscaler, picture: Pixels) -> Iterator[Case]:
    dtype = str(upscaler.dtype).removeprefix("torch.")
    eager_input = torch.from_numpy(picture).permute(0, 3, 1, 2).contiguous().float() / 255

    def eager() -> None:
        with torch.inference_mode():
            net(eager_input)

    yield Case("PyTorch eager, float32, NCHW", eager)
    yield Case(f"our runtime, whole, {dtype}", lambda: upscaler.batch([picture]))
    for rows in (16, 32, 64, 128):
        yield Case(f"our runtime, bands of {rows} rows, {dtype}", partial(_stream, upscaler, picture, rows))
    answer = upscaler.batch([picture])[0]
    original = Picture(planes=picture, grey=False, icc_profile=None)
    yield Case("PNG encoding of the answer", lambda: encode_png(answer, original))


def _stream(upscaler: Upscaler, picture: Pixels, band_rows: int) -> None:
    for _ in upscaler.stream(picture, band_rows):
        pass


if __name__ == "__main__":
    main()
