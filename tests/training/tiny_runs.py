"""Short runs: two configs, two photographs, and the files of a run."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from model.files.checkpoint import read_checkpoint
from model.rrdb import RRDBConfig, RRDBNet
from tests.training.photographs import decoded, made_pair
from training.config import DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.crops import CropPlan
from training.damage import Damage
from training.data import Pairs
from training.distributed import from_process_0, processes, this_process
from training.loss_config import LossConfig
from training.snapshots import Origin
from training.sources import Photographs
from training.state import state_to_continue
from training.steps import Steps
from training.train import Run
from training.validation import Validation

CPU = torch.device("cpu")
PSNR = TrainingConfig(
    name="tiny-psnr-x2",
    recipe="tiny_psnr_x2",
    generator=RRDBConfig(channels=6, blocks=1, growth=4, scale=2),
    steps=6,
    batch=2,
    crop_px=8,
    optimiser=OptimiserConfig(method="muon", learning_rate=3e-3, warmup_steps=2),
    ema_decay=0.9,
    validate_every=3,
    log_every=2,
)
GAN = replace(
    PSNR,
    name="tiny-gan-x2",
    recipe="tiny_gan_x2",
    optimiser=OptimiserConfig(learning_rate=1e-3),
    losses=LossConfig(l1=1.0, adversarial=0.1),
    discriminator=DiscriminatorConfig(kind="unet", channels=2, optimiser=OptimiserConfig(learning_rate=1e-3)),
)
PAIRS = [made_pair(1), made_pair(2)]
VALIDATION = [made_pair(3)]


def photographs_for(config: TrainingConfig, fingerprint: str = "made") -> Photographs:
    sizes = [(pair.low_res.shape[1], pair.low_res.shape[2]) for pair in PAIRS]
    share = (this_process(), processes())
    plan = CropPlan(sizes, crop_px=config.crop_px, batch=config.batch, seed=config.seed, share=share)
    crops = decoded(PAIRS, plan, config.generator.scale)
    return Photographs(crops, len(PAIRS), fingerprint)


def run_of(
    config: TrainingConfig,
    out: Path,
    lines: list[str] | None = None,
    *,
    validation: Mapping[Damage, Pairs] = MappingProxyType({"clean": VALIDATION}),
    start: RRDBNet | None = None,
) -> Run:
    return Run(
        steps=Steps(config, CPU, start=start),
        photographs=photographs_for(config),
        validation=Validation(pairs=validation),
        out=out,
        state=from_process_0(lambda: state_to_continue(out, config)),
        origin=Origin(trained_on="noise (CC0)"),
        report=(lines if lines is not None else []).append,
    )


def history(out: Path) -> list[dict[str, Any]]:
    """Return all lines without the timing, which differs between runs."""
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def weights_of(path: Path) -> dict[str, Tensor]:
    return read_checkpoint(path).net.state_dict()


def equal(one: Path, other: Path) -> bool:
    """Check that two weight files have the same weights and scores, bit for bit."""
    weights, others = weights_of(one), weights_of(other)
    same = all(torch.equal(weight, others[name]) for name, weight in weights.items())
    return same and read_checkpoint(one).card.metrics == read_checkpoint(other).card.metrics
