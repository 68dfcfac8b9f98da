"""Weight files of a run, which the service loads: the last and the best while it trains, one at its end."""

import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.files.checkpoint import Card, read_checkpoint, write_checkpoint
from model.rrdb import RRDBNet
from training.config import TrainingConfig
from training.validation import MeanScores, overall

LAST, BEST = "last", "best"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin of the weights, as weight files say it."""

    trained_on: str
    """The pictures and their licence in words."""
    source: str = ""
    """The weights that the run began with; empty for new ones."""
    licence: str = ""
    """Licence of the weights that the run began with."""


class Snapshots:
    """Writes `NAME-last` and `NAME-best`, and `NAME` at the end.

    Args:
        golden_input: a small picture for the self-test of each file, uint8 RGB (3, H, W).
        state: what `state()` gave when the run was saved; None for a new run.
    """

    def __init__(
        self, out: Path, config: TrainingConfig, origin: Origin, golden_input: Tensor, state: dict[str, Any] | None
    ) -> None:
        self._out = out
        self._config = config
        self._origin = origin
        self._golden_input = golden_input
        self._best: dict[str, float] | None = state["best"] if state else None
        self._without_better: int = state["without_better"] if state else 0

    @property
    def patience_is_over(self) -> bool:
        """True if the config has patience, and too many measurements in a row were no better."""
        return 0 < self._config.patience <= self._without_better

    def state(self) -> dict[str, Any]:
        """Return the state to continue from."""
        return {"best": self._best, "without_better": self._without_better}

    def write(self, net: RRDBNet, step: int, scores: MeanScores) -> None:
        """Keep the weights of a step as the last ones, and as the best if no earlier ones are as good.

        The start of a GAN stage is never the best: it has the higher PSNR-Y, but no training by the GAN.
        """
        self._write(LAST, net, step, scores)
        if step == 0 and self._config.discriminator:
            return
        score = overall(scores, self._config.best_by)
        if self._best and score <= self._best["score"]:
            self._without_better += 1
            return
        self._best, self._without_better = {"step": step, "score": score}, 0
        self._write(BEST, net, step, scores)

    def finish(self, net: RRDBNet, step: int, scores: MeanScores) -> tuple[Path, str]:
        """Write the file of the run: the best weights if the config has patience, else the last.

        Returns:
            The file, and a line about which weights it holds.
        """
        path, best = self.path(), self.path(BEST)
        better = self._best is not None and self._best["step"] != step and best.exists()
        if better and self._config.patience:
            checkpoint = read_checkpoint(best)
            card = replace(checkpoint.card, name=self._config.name)
            golden = checkpoint.golden_input
            write_checkpoint(path, checkpoint.net, card, golden_input=golden, dtype=torch.float16)
            line = f"wrote {path}: the weights of step {card.steps}, the best by {self._config.best_by}"
        else:
            self._write(None, net, step, scores)
            line = f"wrote {path}"
            if better and self._best:
                line += f"; by {self._config.best_by}, step {self._best['step']:.0f} was better: {best}"
        self.path(LAST).unlink(missing_ok=True)
        if not better and not self._config.patience:  # it may be continued with more patience
            best.unlink(missing_ok=True)
        return path, line

    def path(self, which: str | None = None) -> Path:
        """The weight file of the last or the best weights, or that of the whole run."""
        return self._out / f"{self._name(which)}.safetensors"

    def _name(self, which: str | None) -> str:
        return f"{self._config.name}-{which}" if which else self._config.name

    def _write(self, which: str | None, net: RRDBNet, step: int, scores: MeanScores) -> None:
        kinds = dict.fromkeys(damage for values in scores.values() for damage in values)
        card = Card(
            name=self._name(which),
            recipe=self._config.recipe,
            steps=step,
            data=self._origin.trained_on,
            metrics={
                f"validation, {damage}": {measure: round(values[damage], 4) for measure, values in scores.items()}
                for damage in kinds
            },
            created=datetime.now(UTC).date().isoformat(),
            licence=self._origin.licence,
            source=self._origin.source,
        )
        net = copy.deepcopy(net).cpu()  # the one on the device is still trained
        write_checkpoint(self.path(which), net, card, golden_input=self._golden_input, dtype=torch.float16)
