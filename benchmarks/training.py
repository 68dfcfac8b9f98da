"""python -m benchmarks.training --data PHOTOS: steps of a plain float32 loop and of ours, and where the time goes."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from model.device import best_device, fast_dtype
from training.config import LossConfig, TrainingConfig
from training.crops import CropPlan, CropSource
from training.perceptual import VGGFeatures, load_vgg
from training.recipes import RECIPES
from training.sources import DegradedCrops, open_photographs
from training.steps import Steps, new_generator

Step = Callable[[], object]

GAN_RECIPES = [name for name, recipe in RECIPES.items() if recipe().discriminator]


def main() -> None:
    """Take one step of each kind in turns, so that a slow minute hits all of them alike."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with photographs")
    parser.add_argument("--recipe", choices=GAN_RECIPES, default="compact_esrgan_x4")
    parser.add_argument("--vgg-weights", type=Path, help="VGG19; without it torchvision's")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    device = best_device()
    config = RECIPES[options.recipe]()
    crops = open_photographs(options.data, config, device, report=print).crops
    vgg = load_vgg(options.vgg_weights, device, config.losses.perceptual_layers)
    steps = dict(_kinds(config, crops, vgg, device))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 2):
        for name, step in steps.items():
            began_s = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn > 1:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - began_s)

    print(
        f"{options.recipe}, {config.batch} crops of {config.crop_px} px, torch {torch.__version__}, {device}, ", end=""
    )
    print(f"{torch.get_num_threads()} threads, median of {options.rounds}\n")
    print("| what | s | steps/s | LR kpx/s | against plain |\n|---|---|---|---|---|")
    px = config.batch * config.crop_px**2
    plain_s = statistics.median(seconds[PLAIN])
    for name, times in seconds.items():
        s = statistics.median(times)
        print(f"| {name} | {s:.4f} | {1 / s:.2f} | {px / s / 1e3:.1f} | {plain_s / s:.2f} x |")


PLAIN = "plain loop, L1, float32, NCHW"


def _kinds(
    config: TrainingConfig, crops: CropSource, vgg: VGGFeatures, device: torch.device
) -> Iterator[tuple[str, Step]]:
    dtype = str(fast_dtype(device)).removeprefix("torch.")
    low, high = next(crops.batches(0, 1))
    l1 = replace(config, losses=LossConfig(), discriminator=None)
    perceptual = replace(config, losses=replace(config.losses, adversarial=0.0), discriminator=None)

    yield PLAIN, _plain(config, low, high, device)
    yield f"our step, L1, {dtype}", _ours(l1, low, high, device, None)
    if device.type == "cuda":
        yield f"our step, L1, {dtype}, compiled", _ours(l1, low, high, device, None, compiled=True)
    yield f"our step, L1 + perceptual, {dtype}", _ours(perceptual, low, high, device, vgg)
    yield f"our step, all losses and the discriminator, {dtype}", _ours(config, low, high, device, vgg)
    forward = Steps(l1, device).average
    yield f"of it, the generator forward, {dtype}", lambda: _forward(forward, low, device)
    batches = crops.batches(0, 1_000_000)
    yield "cutting the crops", lambda: next(batches)
    realistic = RECIPES["realistic_x4"]().degradation
    if realistic and not isinstance(crops, DegradedCrops):
        plan = CropPlan([(config.crop_px, config.crop_px)], crop_px=config.crop_px, batch=config.batch, seed=0)
        degraded = DegradedCrops(crops, plan, scale=config.generator.scale, degradation=realistic)
        degraded_batches = degraded.batches(0, 1_000_000)
        yield "cutting and degrading them realistically", lambda: next(degraded_batches)


def _plain(config: TrainingConfig, low: Tensor, high: Tensor, device: torch.device) -> Step:
    """What most published training loops do."""
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
) -> Step:
    steps = Steps(replace(config, steps=1_000_000), device, vgg=vgg, compiled=compiled)
    return lambda: steps.take(low, high)


@torch.no_grad()
def _forward(net: torch.nn.Module, low: Tensor, device: torch.device) -> None:
    dtype = fast_dtype(device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32):
        net(low.float() / 255)


if __name__ == "__main__":
    main()
