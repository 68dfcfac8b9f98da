"""The training loop: photographs in, a generator that the service loads out."""

import copy
import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from model.checkpoint import Card, reference_output, write_checkpoint
from model.device import best_device, fast_dtype
from model.rrdb import ResidualDenseBlock, RRDBNet
from training.config import TrainingConfig
from training.data import CropSampler, Pair
from training.metrics import psnr_y
from training.state import StateError, load_state, save_state

INITIAL_SCALE = 0.1
"""Factor on the initial weights of the dense blocks (the paper, section 3.1: smaller initialisation)."""

SAVE_EVERY_S = 60.0


def new_generator(config: TrainingConfig) -> RRDBNet:
    """A generator with He initialisation, its dense blocks scaled by `INITIAL_SCALE`; equal for equal seeds."""
    chance = torch.Generator().manual_seed(config.seed)
    net = RRDBNet(config.generator)
    dense = {conv for block in net.modules() if isinstance(block, ResidualDenseBlock) for conv in block.children()}
    for conv in net.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, generator=chance)
            if conv in dense:
                conv.weight.data *= INITIAL_SCALE
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
    return net


def learning_rate_at(config: TrainingConfig, step: int) -> float:
    """Step size of the 0-based `step`: a linear warm-up, then half a cosine down to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.learning_rate * (1 + math.cos(math.pi * done)) / 2


def ema_decay_at(config: TrainingConfig, step: int) -> float:
    """Decay of the weight average: small at first, so that the initial weights are soon forgotten."""
    return min(config.ema_decay, (1 + step) / (10 + step))


def as_network_input(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 RGB (N, 3, H, W) -> float32 in [0, 1], channels last, on the device."""
    return pixels.to(device).to(memory_format=torch.channels_last).float() / 255


class Run:
    """A training run in progress: the weights, their average, the optimiser and the number of steps done."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.step = 0
        self.seconds = 0.0
        self.net = new_generator(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), fused=True)

    def advance(self, low_res: Tensor, high_res: Tensor) -> float:
        """One step on a batch of uint8 crops; returns its L1 loss."""
        low, high = as_network_input(low_res, self.device), as_network_input(high_res, self.device)
        dtype = fast_dtype(self.device)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            upscaled = self.net(low)
        loss = functional.l1_loss(upscaled.float(), high)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate_at(self.config, self.step)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        update_average(self.average, self.net, ema_decay_at(self.config, self.step))
        self.step += 1
        return loss.item()

    def state(self) -> dict[str, Any]:
        """Everything that decides the rest of the run."""
        return {
            "config": self.config.to_json(),
            "step": self.step,
            "seconds": self.seconds,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Average <- decay * average + (1 - decay) * net, for every weight."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)


def validate(net: RRDBNet, pairs: list[Pair]) -> float:
    """Mean PSNR-Y in dB over whole validation pictures."""
    total = 0.0
    for pair in pairs:
        upscaled = reference_output(net, pair.low_res).cpu()
        total += psnr_y(upscaled, pair.high_res, border=net.config.scale)
    return total / len(pairs)


def train(
    config: TrainingConfig,
    photographs: list[Pair],
    validation: list[Pair],
    out: Path,
    *,
    trained_on: str,
    device: torch.device | None = None,
    report: Callable[[str], None] = tqdm.write,
) -> Path:
    """Train, or continue what a killed run left in `out`; returns the exported weight file.

    Args:
        trained_on: the pictures and their licence in words; goes into the weight file.
        report: takes the lines that tell how the run is going.

    Raises:
        StateError: `out` holds another run, or this one is finished.
        DataError: no photograph can be used.
    """
    target = out / f"{config.name}.safetensors"
    if target.exists():
        raise StateError(f"{target} exists: that run is finished; choose another --out or remove the folder")
    out.mkdir(parents=True, exist_ok=True)
    run = Run(config, device or best_device())
    if (state := load_state(out / "state.pt", config.to_json())) is not None:
        run.restore(state)
        report(f"continuing after step {run.step} of {config.steps}")
    config.write(out / "config.json")
    sampler = CropSampler(
        photographs, scale=config.generator.scale, crop_px=config.crop_px, batch=config.batch, seed=config.seed
    )
    score = _loop(run, sampler, validation, out, report)
    metrics = {} if score is None else {"validation": {"psnr_y": round(score, 3)}}
    card = Card(
        name=config.name,
        recipe=config.name.replace("-", "_"),
        steps=config.steps,
        data=trained_on,
        metrics=metrics,
        created=datetime.now(UTC).date().isoformat(),
    )
    golden_input = _golden_input(validation or photographs)
    write_checkpoint(target, run.average.cpu(), card, golden_input=golden_input, dtype=torch.float16)
    return target


def _loop(
    run: Run, sampler: CropSampler, validation: list[Pair], out: Path, report: Callable[[str], None]
) -> float | None:
    """Take the steps that are left; returns the last validation score in dB."""
    config = run.config
    score: float | None = None
    losses: list[float] = []
    started = time.monotonic() - run.seconds
    saved = time.monotonic()
    with tqdm(total=config.steps, initial=run.step, unit="step", smoothing=0.05) as bar:
        while run.step < config.steps:
            losses.append(run.advance(*sampler.batch_of_step(run.step)))
            run.seconds = time.monotonic() - started
            finished = run.step == config.steps
            bar.update()
            if finished or run.step % config.validate_every == 0:
                score = validate(run.average, validation) if validation else None
                _record(run, sum(losses) / len(losses), score, out, report)
                losses.clear()
            if finished or time.monotonic() - saved > SAVE_EVERY_S:
                save_state(out / "state.pt", run.state())
                saved = time.monotonic()
            bar.set_postfix(l1=f"{losses[-1]:.4f}" if losses else "", psnr_y=f"{score:.2f}" if score else "")
    if score is None and validation:  # the run was killed after its last step
        score = validate(run.average, validation)
    return score


def _record(run: Run, loss: float, score: float | None, out: Path, report: Callable[[str], None]) -> None:
    line = {"step": run.step, "seconds": round(run.seconds), "l1": round(loss, 6), "psnr_y": score}
    with (out / "history.jsonl").open("a", encoding="utf-8") as history:
        history.write(json.dumps(line) + "\n")
    report(f"step {run.step}: L1 {loss:.5f}" + ("" if score is None else f", PSNR-Y {score:.3f} dB"))


def _golden_input(pairs: list[Pair]) -> Tensor:
    """A small real picture for the self-test of whoever loads the weights: uint8 RGB (3, <= 32, <= 40)."""
    return pairs[0].low_res[:, :32, :40].contiguous()
