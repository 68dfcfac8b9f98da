"""What a training run is: one frozen dataclass, written beside what it made."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from model.rrdb import RRDBConfig


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides the outcome of a run; two runs with equal configs and pictures are equal.

    Raises:
        ValueError: a number is out of its range.
    """

    name: str
    """Name of the generator that the run exports, e.g. `compact-psnr-x4`."""
    generator: RRDBConfig
    steps: int
    batch: int
    """Pictures per step."""
    crop_px: int
    """Side of the square low-res crops; the high-res ones are `scale` times larger."""
    learning_rate: float
    """Adam's peak step size: reached after the warm-up, then lowered along a half cosine to zero."""
    warmup_steps: int
    ema_decay: float
    """The exported weights are an exponential moving average of the trained ones with this decay."""
    validate_every: int
    """Steps between two measurements on the validation pictures."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "crop_px", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must not be negative")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must lie between 0 and 1")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; it must be less than steps = {self.steps}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must be in [0, 1)")

    def write(self, path: Path) -> None:
        """Write every field as JSON."""
        path.write_text(self.to_json() + "\n", encoding="utf-8")

    def to_json(self) -> str:
        """Every field, in order; equal text means an equal run."""
        return json.dumps(asdict(self), indent=2)
