"""The config of a training run: one frozen dataclass, written next to the weights that it made."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from model.files.checkpoint import NAME
from model.rrdb import RRDBConfig
from training.errors import ConfigError
from training.loss_config import LossConfig
from training.uploads import UploadConfig

MIN_VGG_PX = 16
"""Minimum side of high-res crops for the perceptual loss: VGG19 halves them four times, to one pixel."""

MIN_ARTEFACTS_PX = 4
"""Minimum side of high-res crops for the artefact loss, whose windows of 7 px are mirrored at the border."""

MAX_NAME = 95
"""Maximum length of a generator's name, to which `-last` and `-best` are appended."""


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """The optimiser of one network, and its learning rate at each step.

    Raises:
        ConfigError: a number is out of its range.
    """

    method: Literal["adam", "muon"] = "adam"
    """`muon`: hidden convolutions by Muon, the others and all biases by Adam."""
    learning_rate: float
    """The peak learning rate, reached after the warm-up."""
    warmup_steps: int = 0
    halve_at: tuple[int, ...] = ()
    """Steps at which the learning rate is halved; empty: see `decay_steps`."""
    decay_steps: int = 0
    """Steps of linear decay to zero at the end, at most all after the warm-up. The learning rate is constant before
    them, so that a run can be continued with more steps. 0: cosine decay from the warm-up to the end."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's two decays; the paper's by default."""

    def __post_init__(self) -> None:
        if self.method not in ("adam", "muon"):
            raise ConfigError(f"method is {self.method!r}; it must be 'adam' or 'muon'")
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must lie between 0 and 1")
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps is {self.warmup_steps}; it must not be negative")
        if list(self.halve_at) != sorted(set(self.halve_at)) or (self.halve_at and self.halve_at[0] < 1):
            raise ConfigError(f"halve_at is {self.halve_at}; the steps must rise from 1")
        if self.decay_steps < 0 or (self.decay_steps and self.halve_at):
            raise ConfigError(
                f"decay_steps is {self.decay_steps} and halve_at is {self.halve_at}; give one of them, not negative"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas is {self.betas}; each must be in [0, 1)")

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate at the 0-based `step` of a run of `steps`."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.halve_at:
            return self.learning_rate * 0.5 ** sum(step >= halving for halving in self.halve_at)
        if self.decay_steps:
            return self.learning_rate * min(1.0, (steps - step) / min(self.decay_steps, steps - self.warmup_steps))
        done = (step - self.warmup_steps) / (steps - self.warmup_steps)
        return self.learning_rate * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The network that tells photographs from upscaled pictures, and its optimiser.

    Raises:
        ConfigError: an unknown kind, or no channels.
    """

    kind: Literal["vgg", "unet"] = "vgg"
    """`vgg`: the paper's, one verdict on a picture of 128 x 128 px; `unet`: spectral norm, a verdict on each pixel."""
    channels: int = 64
    """Width of the first convolution."""
    share: float = 1.0
    """Share of the crops of a batch that it judges: those with the least added noise. From the others the generator
    learns without it, so that it does not draw texture into noise."""
    optimiser: OptimiserConfig

    def __post_init__(self) -> None:
        if self.kind not in ("vgg", "unet"):
            raise ConfigError(f"kind is {self.kind!r}; it must be 'vgg' or 'unet'")
        if self.channels < 1:
            raise ConfigError(f"channels is {self.channels}; it must be at least 1")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share is {self.share}; it must be above 0, and at most 1")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """All settings of a run; two runs with equal configs and pictures have equal results.

    Raises:
        ConfigError: a number is out of its range, or two do not fit together.
    """

    name: str
    """Name of the generator that the run exports, e.g. `compact-psnr-x4`."""
    recipe: str
    """Name of the recipe that made this config."""
    starts_from: str | None = None
    """The recipe whose generator this run begins with; `ANY`: that of any file, with its sizes; None: new weights,
    unless some are given."""
    start: str | None = None
    """The weight file that this run begins with: name and sha256."""
    start_discriminator: str | None = None
    """The same for the discriminator."""
    teacher: str | None = None
    """The same for the teacher."""
    generator: RRDBConfig
    steps: int
    batch: int
    """Pictures per step, over all processes."""
    crop_px: int
    """Side of the square low-res crops; the high-res ones are `scale` times larger."""
    optimiser: OptimiserConfig
    losses: LossConfig = field(default_factory=LossConfig)
    discriminator: DiscriminatorConfig | None = None
    degradation: UploadConfig | None = None
    """The damage of low-res pictures; None: MATLAB's bicubic, as in the published benchmarks."""
    ema_decay: float = 0.999
    """The exported weights are an exponential moving average of the trained ones with this decay."""
    validate_every: int
    """Steps between two measurements on the validation pictures."""
    log_every: int = 100
    """Steps between two lines of the history."""
    best_by: Literal["psnr_y", "lpips"] = "psnr_y"
    """The measure by which the best snapshot is chosen: the mean over the kinds of validation pictures."""
    patience: int = 0
    """Measurements in a row without improvement after which the run ends early; 0: never."""
    accumulate: int = 1
    """Gradient accumulation: parts that a process splits its share of a batch into, to need less memory. Losses that
    compare the pictures of a batch with one another, as the adversarial one does, see one part at a time."""
    checkpointing: bool = False
    """Gradient checkpointing: recompute the trunk in the backward pass; less memory, a third more work."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "crop_px", "validate_every", "log_every", "accumulate"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.patience < 0:
            raise ConfigError(f"patience is {self.patience}; it must not be negative")
        if not 0 <= self.seed < 2**64:  # torch takes no other
            raise ConfigError(f"seed is {self.seed}; it must be from 0 to {2**64 - 1}")
        if self.best_by not in ("psnr_y", "lpips"):
            raise ConfigError(f"best_by is {self.best_by!r}; it must be 'psnr_y' or 'lpips'")
        if self.batch % self.accumulate:
            raise ConfigError(f"accumulate is {self.accumulate}; it must divide batch = {self.batch}")
        if not NAME.fullmatch(self.name) or len(self.name) > MAX_NAME:
            raise ConfigError(f"name is {self.name!r}; it takes letters, digits, '.', '_' and '-', at most {MAX_NAME}")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}; it must be in [0, 1)")
        for name, one in self.optimisers.items():
            if one.warmup_steps >= self.steps:
                raise ConfigError(
                    f"{name}.warmup_steps is {one.warmup_steps}; it must be less than steps = {self.steps}"
                )
        self._check_losses()
        if self.discriminator:
            self._check_crop(self.discriminator)

    @property
    def optimisers(self) -> dict[str, OptimiserConfig]:
        """The optimiser of each network, by the name of its field."""
        of_discriminator = {"discriminator.optimiser": self.discriminator.optimiser} if self.discriminator else {}
        return {"optimiser": self.optimiser, **of_discriminator}

    @property
    def learns_damage(self) -> bool:
        """True if some low-res pictures are damaged, not only reduced."""
        return self.degradation is not None and self.degradation.clean_share < 1

    def _check_losses(self) -> None:
        if bool(self.losses.adversarial) != bool(self.discriminator):
            raise ConfigError(
                f"the adversarial loss has weight {self.losses.adversarial} and the discriminator is "
                f"{self.discriminator}; it takes both or neither"
            )
        if self.discriminator and self.discriminator.share < 1 and not self.learns_damage:
            raise ConfigError(
                f"discriminator.share is {self.discriminator.share}, and no crop has more noise than another without "
                "degradation; leave it at 1"
            )
        if self.losses.perceptual and self.crop_px * self.generator.scale < MIN_VGG_PX:
            raise ConfigError(
                f"VGG19 halves a picture four times, and crop_px {self.crop_px} x scale {self.generator.scale} is "
                f"below {MIN_VGG_PX}; take a crop_px of at least {-(-MIN_VGG_PX // self.generator.scale)}"
            )
        if self.losses.artefacts and self.crop_px * self.generator.scale < MIN_ARTEFACTS_PX:
            raise ConfigError(
                f"the artefact loss looks at windows of pixels, and crop_px {self.crop_px} x scale "
                f"{self.generator.scale} is below {MIN_ARTEFACTS_PX}; take a crop_px of at least "
                f"{-(-MIN_ARTEFACTS_PX // self.generator.scale)}"
            )
        if self.losses.flat and self.generator.padding_mode == "zeros":
            raise ConfigError(
                f"the flat loss has weight {self.losses.flat} and the generator pads with zeros, which puts a frame "
                "around flat pictures; give the weight 0, or padding_mode 'replicate' to a new generator"
            )

    def _check_crop(self, discriminator: DiscriminatorConfig) -> None:
        scale = self.generator.scale
        high_px = self.crop_px * scale
        if discriminator.kind == "vgg" and high_px != 128:
            way = f"crop_px {128 // scale}, or " if 128 % scale == 0 else ""
            raise ConfigError(
                f"the vgg discriminator sees pictures of 128 px, and crop_px {self.crop_px} x scale {scale} is "
                f"{high_px}; take {way}discriminator.kind 'unet'"
            )
        if discriminator.kind == "unet" and high_px % 8:
            raise ConfigError(
                f"the unet discriminator halves a picture three times, and crop_px {self.crop_px} x scale {scale} is "
                f"{high_px}, not a multiple of 8; take a crop_px that is a multiple of {8 // math.gcd(8, scale)}"
            )

    def write(self, path: Path) -> None:
        """Write every field as JSON, whole or not at all."""
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(self.to_json() + "\n", encoding="utf-8")
        unfinished.replace(path)

    def to_json(self) -> str:
        """Write every field, in order."""
        return json.dumps(asdict(self), indent=2)


ANY = "any"
"""`starts_from` of a recipe that takes the generator of any file, with its sizes."""

CHANGEABLE = ("steps", "validate_every", "log_every", "patience", "accumulate", "checkpointing")
"""Fields that may change when a run is continued: its length, what it reports, and what memory it needs."""
