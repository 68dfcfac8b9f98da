"""The training loop: photographs in, a generator that the service loads out."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from model.checkpoint import Card, reference_output, write_checkpoint
from model.rrdb import RRDBNet
from training.config import TrainingConfig
from training.damage import Damage
from training.data import Pair
from training.degrade import enlarge_bicubic
from training.distributed import this_process
from training.journal import PANEL_PX, Journal
from training.metrics import psnr_y
from training.sources import Photographs
from training.state import StateError, load_state, save_state
from training.steps import Steps

SAVE_EVERY_S = 60.0
MOST_PANELS = 4

PSNR = dict[Damage, float]
"""Mean PSNR-Y in dB by kind of upload."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The parts of a run; see `train`."""

    steps: Steps
    photographs: Photographs
    validation: Mapping[Damage, Sequence[Pair]]
    """Pictures to measure on, by the kind of upload that their low-res side is."""
    out: Path
    trained_on: str
    """The pictures and their licence in words; goes into the weight file."""
    report: Callable[[str], None] = tqdm.write
    """Takes the lines that tell how the run is going."""

    @property
    def config(self) -> TrainingConfig:
        """The config, which decides the outcome."""
        return self.steps.config

    @property
    def target(self) -> Path:
        """The weight file that the run exports."""
        return self.out / f"{self.config.name}.safetensors"

    @property
    def state_file(self) -> Path:
        """The file that a resumed run continues from."""
        return self.out / "state.pt"


def refuse_finished(out: Path, config: TrainingConfig) -> None:
    """Check, before any work, that a run may be made or continued in `out`.

    Raises:
        StateError: `out` holds another run, or this one is finished.
    """
    target = out / f"{config.name}.safetensors"
    if target.exists():
        raise StateError(
            f"{target} exists: that run is finished; choose another --out or remove the folder. To train it further, "
            "move the file away and give more --steps"
        )
    written = out / "config.json"
    if written.exists() and not config.continues(written.read_text(encoding="utf-8")):
        raise StateError(f"{out} holds a run with other settings; choose another --out or remove the folder")


def train(run: Run) -> Path:
    """Train, or continue what a killed run left in its folder; returns the exported weight file.

    Every process of a distributed run calls it; process 0 alone writes.

    Raises:
        StateError: the folder holds another run, or this one is finished.
        DivergedError: the losses stopped being finite.
    """
    refuse_finished(run.out, run.config)
    run.out.mkdir(parents=True, exist_ok=True)
    state = load_state(run.state_file, run.config.identity())
    if state:
        if (done := state["steps"]["done"]) > run.config.steps:
            raise StateError(
                f"{run.out} holds a run of {done} steps already; give --steps {done} or more to continue it"
            )
        run.steps.restore(state["steps"])
        run.report(f"continuing after step {run.steps.done} of {run.config.steps}")
        if state["photographs"] != run.photographs.fingerprint:
            run.report("the photographs are not those that the run began with: it will not end where it would have")
    if this_process() != 0:
        for _ in _steps_left(run):
            pass
        return run.target
    run.config.write(run.out / "config.json")
    scores = _watched(run, state["journal"] if state else None)
    return _export(run, scores)


def _steps_left(run: Run) -> Iterator[dict[str, float]]:
    for low_res, high_res in run.photographs.crops.batches(run.steps.done, run.config.steps):
        yield run.steps.take(low_res, high_res)


def _watched(run: Run, state: dict[str, Any] | None) -> PSNR:
    """Take the steps that are left, save, measure and report; returns the last scores."""
    steps, config = run.steps, run.config
    bicubic = psnr_by_damage(run.validation, lambda low_res: enlarge_bicubic(low_res, config.generator.scale))
    journal = Journal(run.out, steps=config.steps, done=steps.done, state=state, report=run.report)
    scores: PSNR = {}
    saved = time.monotonic()
    try:
        for losses in _steps_left(run):
            journal.count(losses)
            finished = steps.done == config.steps
            if finished or steps.done % config.log_every == 0:
                rate = config.optimiser.rate_at(steps.done - 1, config.steps)
                journal.write_losses(steps.done, learning_rate=rate, skipped=steps.skipped)
            if any(run.validation.values()) and (finished or steps.done % config.validate_every == 0):
                scores = _validated(run, journal, bicubic)
            if finished or time.monotonic() - saved > SAVE_EVERY_S:
                save_state(run.state_file, _state(run, journal))
                saved = time.monotonic()
    finally:
        journal.close()
    if not scores:  # the run was killed after its last step
        scores = psnr_by_damage(run.validation, lambda low_res: reference_output(steps.average, low_res))
    return scores


def _state(run: Run, journal: Journal) -> dict[str, Any]:
    return {
        "identity": run.config.identity(),
        "photographs": run.photographs.fingerprint,
        "steps": run.steps.state(),
        "journal": journal.state(),
    }


def psnr_by_damage(validation: Mapping[Damage, Sequence[Pair]], upscale: Callable[[Tensor], Tensor]) -> PSNR:
    """Measure the mean PSNR-Y in dB of each kind of upload."""
    return {damage: mean_psnr(pairs, upscale) for damage, pairs in validation.items() if pairs}


def mean_psnr(pairs: Sequence[Pair], upscale: Callable[[Tensor], Tensor]) -> float:
    """Mean PSNR-Y in dB over whole pictures; NaN where there is none."""
    scores = []
    for pair in pairs:
        scale = pair.high_res.shape[-1] // pair.low_res.shape[-1]
        scores.append(psnr_y(upscale(pair.low_res).cpu(), pair.high_res, border=scale))
    return sum(scores) / len(scores) if scores else math.nan


def _validated(run: Run, journal: Journal, bicubic: PSNR) -> PSNR:
    net, device = run.steps.average, run.steps.device
    scores = psnr_by_damage(run.validation, lambda low_res: reference_output(net, low_res.to(device)))
    journal.write_scores(run.steps.done, scores, bicubic)
    shown = [pair for group in zip(*run.validation.values(), strict=True) for pair in group]
    journal.show(run.steps.done, [_panel(net, pair, device) for pair in shown[:MOST_PANELS]])
    return scores


def _panel(net: RRDBNet, pair: Pair, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The middle of a validation picture, four ways."""
    scale = net.config.scale
    height, width = pair.low_res.shape[1:]
    side = min(height, width, PANEL_PX // scale)
    top, left = (height - side) // 2, (width - side) // 2
    low_res = pair.low_res[:, top : top + side, left : left + side]
    high_res = pair.high_res[:, top * scale : (top + side) * scale, left * scale : (left + side) * scale]
    return low_res, enlarge_bicubic(low_res, scale), reference_output(net, low_res.to(device)), high_res


def _export(run: Run, scores: PSNR) -> Path:
    """Write the weight file that the service loads."""
    config = run.config
    card = Card(
        name=config.name,
        recipe=config.recipe,
        steps=config.steps,
        data=run.trained_on,
        metrics={
            f"validation, {damage}": {"psnr_y": round(score, 3)}
            for damage, score in scores.items()
            if math.isfinite(score)
        },
        created=datetime.now(UTC).date().isoformat(),
    )
    net = run.steps.average.cpu()
    write_checkpoint(run.target, net, card, golden_input=_golden_input(run), dtype=torch.float16)
    return run.target


def _golden_input(run: Run) -> Tensor:
    """Choose a small real picture for the self-test of the weight file: uint8 RGB (3, <= 32, <= 40)."""
    for pairs in run.validation.values():
        if pairs:
            return pairs[0].low_res[:, :32, :40].contiguous()
    low_res, _ = next(iter(run.photographs.crops.batches(0, 1)))
    return low_res[0, :, :32, :40].cpu().contiguous()
