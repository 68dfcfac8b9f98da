"""The record of a run: the progress bar, `history.jsonl`, and TensorBoard's curves and pictures."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.measures import MEASURES

PANEL_PX = 128
"""Side of each high-res picture in a panel."""


GRADIENT = "_gradient"
"""End of the names of norms among the losses of a step."""


class Journal:
    """Records a run; after a kill, lines after the step that the run continues from are dropped.

    Args:
        done: steps already taken.
        state: what `state()` gave when the run was saved; None for a new run.
    """

    def __init__(
        self, out: Path, *, steps: int, done: int, state: Mapping[str, Any] | None, report: Callable[[str], None]
    ) -> None:
        self._history = out / "history.jsonl"
        self._panel = out / "panel.png"
        self._report = report
        self._sums: defaultdict[str, float] = defaultdict(float, state["sums"] if state else {})
        self._counted: int = state["counted"] if state else 0
        self._spent_s: float = state["seconds"] if state else 0.0
        self._started = time.monotonic()
        self._postfix: dict[str, str] = {}
        _cut_back(self._history, done or -1)  # a run that begins again measures its start again, at step 0
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=done + 1 if done else 0)
        self._bar = tqdm(total=steps, initial=done, unit="step", smoothing=0.05)

    @property
    def seconds(self) -> float:
        """Duration of the run so far, including the time before it was continued."""
        return self._spent_s + time.monotonic() - self._started

    def state(self) -> dict[str, Any]:
        """Return the state from which a journal continues with the same lines."""
        return {"sums": dict(self._sums), "counted": self._counted, "seconds": self.seconds}

    def count(self, losses: Mapping[str, float]) -> None:
        """Count one more step; its losses and norms are left out of the means if any is not finite."""
        if all(abs(loss) < float("inf") for loss in losses.values()):
            self._counted += 1
            for name, loss in losses.items():
                self._sums[name] += loss
        self._postfix |= {name: f"{loss:.4f}" for name, loss in losses.items() if not name.endswith(GRADIENT)}
        self._bar.set_postfix(self._postfix, refresh=False)
        self._bar.update()

    def write_losses(self, step: int, *, learning_rate: float, skipped: int) -> None:
        """Write a line of the history: the mean losses and norms since the line before."""
        means = {name: total / self._counted for name, total in self._sums.items()} if self._counted else {}
        self._write(
            {"step": step, "seconds": round(self.seconds), **means, "learning_rate": learning_rate, "skipped": skipped}
        )
        for name, mean in means.items():
            self._board.add_scalar(f"{'norm' if name.endswith(GRADIENT) else 'loss'}/{name}", mean, step)
        self._board.add_scalar("learning_rate", learning_rate, step)
        self._sums.clear()
        self._counted = 0

    def write_scores(
        self, step: int, scores: Mapping[str, Mapping[Any, float]], bicubic: Mapping[str, Mapping[Any, float]]
    ) -> None:
        """Write what was measured on the validation pictures: by measure, then by kind of upload."""
        self._write({"step": step, "seconds": round(self.seconds), **{name: dict(of) for name, of in scores.items()}})
        parts = []
        for measure, kinds in scores.items():
            for damage, score in kinds.items():
                self._board.add_scalar(f"validation/{measure}/{damage}", score, step)
                if measure == "psnr_y":
                    self._postfix[damage] = f"{score:.2f}"
            each = ", ".join(f"{one} {score:.3f} (bicubic {bicubic[measure][one]:.3f})" for one, score in kinds.items())
            unit = f" in {MEASURES[measure].unit}" if MEASURES[measure].unit else ""
            parts.append(f"{MEASURES[measure].title}{unit}: {each}")
        self._report(f"step {step}: {'; '.join(parts)}")

    def show(self, step: int, rows: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
        """Pictures of low_res | bicubic | upscaled | high_res, each uint8 RGB (3, H, W), below one another."""
        panel = torch.cat([torch.cat([_tile(picture) for picture in row], dim=2) for row in rows], dim=1)
        self._board.add_image("low_res | bicubic | upscaled | high_res", panel, step)
        Image.fromarray(panel.permute(1, 2, 0).contiguous().numpy()).save(self._panel)

    def close(self) -> None:
        """End the bar and write what is left."""
        self._bar.close()
        self._board.close()

    def _write(self, line: dict[str, Any]) -> None:
        with self._history.open("a", encoding="utf-8") as history:
            history.write(json.dumps(line) + "\n")


def _cut_back(history: Path, done: int) -> None:
    """Drop the lines that a killed run wrote after its last saved state, half a line at the end, and damaged ones."""
    if not history.exists():
        return
    lines = history.read_bytes().splitlines(keepends=True)
    unfinished = history.with_suffix(".unfinished")
    unfinished.write_bytes(b"".join(line for line in lines if _was_taken(line, done)))
    unfinished.replace(history)


def _was_taken(line: bytes, done: int) -> bool:
    """Return True for a line that can be read, of a step up to `done`."""
    try:
        return line.endswith(b"\n") and bool(json.loads(line)["step"] <= done)
    except (ValueError, KeyError, TypeError):
        return False


def _tile(picture: Tensor) -> Tensor:
    """The picture at the size of a panel, nearest neighbour."""
    size = functional.interpolate(picture[None].float(), size=(PANEL_PX, PANEL_PX), mode="nearest")
    return size[0].to(torch.uint8).cpu()
