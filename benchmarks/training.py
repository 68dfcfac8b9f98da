"""python -m benchmarks.training --data PHOTOS: steps of a plain float32 loop and of ours, and where the time goes."""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rig.report import Report, add_record_option
from benchmarks.rig.timing import Case, medians_s
from model.device import best_device, fast_dtype
from training.config import TrainingConfig
from training.crops import CropSource
from training.loss_config import LossConfig
from training.native.library import available
from training.pairs import find_pairs
from training.perceptual import VGGFeatures, load_vgg
from training.recipes import RECIPES
from training.sources import open_photographs
from training.steps import Steps, new_generator
from training.uploads import UploadConfig

HEADS = ("what", "s", "steps/s", "LR kpx/s", "GFLOP/s", "against plain")
PLAIN = "plain loop, L1, float32, NCHW"
WHOLE = "our whole step"
WARM_UPS = 2


def main() -> None:
    """Take steps of every kind and print the times of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with photographs")
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        nargs="+",
        default=["compact_real_psnr_x4", "compact_real_esrgan_x4"],
        help="one table each (default %(default)s)",
    )
    parser.add_argument("--vgg-weights", type=Path, help="VGG19; without it torchvision's")
    parser.add_argument("--rounds", type=int, default=5)
    add_record_option(parser)
    options = parser.parse_args()

    device = best_device()
    with Report("training", options) as report:
        for recipe in options.recipe:
            config = RECIPES[recipe]()
            losses = config.losses
            vgg = load_vgg(options.vgg_weights, device, losses.perceptual_layers.names) if losses.perceptual else None
            cases = {name: _waited_for(case, device) for name, case in _cases(config, options.data, vgg, device)}
            report.setting(f"{config.recipe}, {config.batch} crops of {config.crop_px} px", device)
            seconds = medians_s(cases, options.rounds, warm_ups=WARM_UPS, clock=_clock(device))
            print_medians(report, config, cases, seconds)


def _waited_for(case: Case, device: torch.device) -> Case:
    def run() -> None:
        case.run()
        torch.cuda.synchronize()

    return replace(case, run=run) if device.type == "cuda" else case


def _clock(device: torch.device) -> Callable[[], float]:
    """Return the processor's clock if there is one thread, so that other processes on a busy machine do not count."""
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def print_medians(
    report: Report, config: TrainingConfig, cases: Mapping[str, Case], seconds: Mapping[str, float]
) -> None:
    """Print a table of the medians, and the length of the recipe's run at the speed of its own step."""
    px = config.batch * config.crop_px**2

    def row(name: str, s: float) -> list[str]:
        speed = f"{cases[name].flop / s / 1e9:.0f}" if cases[name].flop else ""
        return [name, f"{s:.4f}", f"{1 / s:.2f}", f"{px / s / 1e3:.1f}", speed, f"{seconds[PLAIN] / s:.2f} x"]

    report.table(HEADS, [row(name, s) for name, s in seconds.items()])
    print("GFLOP/s: of the convolutions that PyTorch runs for the same result.")
    *_, whole_s = (s for name, s in seconds.items() if name.startswith(WHOLE))
    hours = config.steps * whole_s / 3600
    print(f"A run of {config.steps:,} steps takes {hours:.1f} h at that speed of its whole step.\n")


def _cases(
    config: TrainingConfig, data: Path, vgg: VGGFeatures | None, device: torch.device
) -> Iterator[tuple[str, Case]]:
    dtype = str(fast_dtype(device)).removeprefix("torch.")
    uploads = replace(config, degradation=config.degradation or UploadConfig())
    pictures = find_pairs(data, config.generator.scale)
    crops, damaged = (open_photographs(pictures, one, device, report=print).crops for one in (config, uploads))
    low, high = next(crops.batches(0, 1))
    l1 = replace(config, losses=LossConfig(), discriminator=None)

    plain = plain_step(config, low, high, device)
    yield PLAIN, Case(run=plain, flop=count_flop(plain))
    only_l1 = l1.losses == config.losses
    runs: dict[str, tuple[TrainingConfig, VGGFeatures | None]] = {f"{WHOLE if only_l1 else 'our step'}, L1": (l1, None)}
    if config.losses.perceptual:
        losses = replace(config.losses, adversarial=0.0, artefacts=0.0, flat=0.0)
        runs["our step, L1 + perceptual"] = replace(config, losses=losses, discriminator=None), vgg
    if not only_l1:
        runs[f"{WHOLE}, all losses{' and the discriminator' if config.discriminator else ''}"] = config, vgg
    for name, (part, its_vgg) in runs.items():
        by_torch = _ours(part, low, high, device, its_vgg, native=False)
        flop = count_flop(by_torch)
        yield f"{name}, {dtype}", Case(run=by_torch, flop=flop)
        if available() and fast_dtype(device) is torch.bfloat16:
            yield f"{name}, {available()[0]}", Case(run=_ours(part, low, high, device, its_vgg), flop=flop)
    if device.type == "cuda":
        yield f"our step, L1, {dtype}, compiled", Case(run=_ours(l1, low, high, device, None, compiled=True))
    net = Steps(l1, device).average
    yield f"of it, the generator forward, {dtype}", Case(run=lambda: _forward(net, low, device))
    yield "cutting the crops" if not config.degradation else "cutting and damaging the crops", Case(run=_made(crops))
    if not config.degradation:
        yield "cutting and damaging them as uploads", Case(run=_made(damaged))


def count_flop(run: Callable[[], object]) -> int:
    """Count the operations of PyTorch's convolutions and matrix products in one run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def _made(crops: CropSource) -> Callable[[], object]:
    """Make one batch at a time, so that no thread prepares the next one while another kind is measured."""
    steps = itertools.count()

    def make() -> object:
        step = next(steps)
        return list(crops.batches(step, step + 1))

    return make


def plain_step(config: TrainingConfig, low: Tensor, high: Tensor, device: torch.device) -> Callable[[], None]:
    """Return the step of most published training loops."""
    net = new_generator(config).to(device)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4)
    low_res, high_res = (pixels.contiguous().float() / 255 for pixels in (low, high))

    def step() -> None:
        optimiser.zero_grad()
        functional.l1_loss(net(low_res), high_res).backward()
        optimiser.step()

    return step


def _ours(
    config: TrainingConfig,
    low: Tensor,
    high: Tensor,
    device: torch.device,
    vgg: VGGFeatures | None,
    *,
    compiled: bool = False,
    native: bool = True,
) -> Callable[[], object]:
    steps = Steps(replace(config, steps=1_000_000), device, vgg=vgg, compiled=compiled, native=native)
    return lambda: steps.take(low, high)


@torch.no_grad()
def _forward(net: torch.nn.Module, low: Tensor, device: torch.device) -> None:
    dtype = fast_dtype(device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32):
        net(low.float() / 255)


if __name__ == "__main__":
    main()
