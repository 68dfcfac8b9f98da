"""The losses of a generator: each by its name, with its weight."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Literal

from training.errors import ConfigError

AdversarialKind = Literal["relativistic", "vanilla", "hinge"]


def _check_weight(name: str, weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise ConfigError(f"{name} is {weight}; a loss weight must be finite and not negative")


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """Weights of the layers of VGG19 in the perceptual loss: the last convolution before each halving.

    Raises:
        ConfigError: a weight is negative or not finite, or all are zero.
    """

    conv1_2: float = 0.0
    conv2_2: float = 0.0
    conv3_4: float = 0.0
    conv4_4: float = 0.0
    conv5_4: float = 1.0
    """The only layer of the paper."""

    def __post_init__(self) -> None:
        for name, weight in asdict(self).items():
            _check_weight(name, weight)
        if not self.names:
            raise ConfigError("every layer has weight 0; give one of them a weight, or perceptual = 0")

    @property
    def names(self) -> tuple[str, ...]:
        """Layers that are compared, from shallow to deep."""
        return tuple(name for name, weight in asdict(self).items() if weight)

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of these layers."""
        return tuple(weight for weight in asdict(self).values() if weight)


VGG_LAYERS = tuple(one.name for one in fields(LayerWeights))

ALL_LAYERS = LayerWeights(conv1_2=1.0, conv2_2=1.0, conv3_4=1.0, conv4_4=1.0, conv5_4=1.0)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the generator's losses. Losses of weight 0 are skipped, except L1, which is always reported.

    `training/losses.py` has their formulas and sources.

    Raises:
        ConfigError: a weight is negative or not finite, all are zero, or a setting of a loss is not valid.
    """

    l1: float = 1.0
    l2: float = 0.0
    charbonnier: float = 0.0
    fourier: float = 0.0
    artefacts: float = 0.0
    """Where the generator is farther from the original than its moving average (LDL)."""
    teacher: float = 0.0
    """L1 to the output of another generator, which the run is given; `high_res` stays the target of all others."""
    teacher_ensemble: bool = False
    """Use the teacher's self-ensemble, the mean over eight orientations of a crop: better, for 8 times the work."""
    flat: float = 0.0
    """L2 of random flat colours, which must come back as they are; for generators that repeat the border."""
    perceptual: float = 0.0
    adversarial: float = 0.0
    adversarial_kind: AdversarialKind = "relativistic"
    """`relativistic` is the average one of the paper; the discriminator learns by the same kind."""
    perceptual_layers: LayerWeights = field(default_factory=LayerWeights)
    feature_scale: float | Literal["auto", "relative"] = "auto"
    """Factor on VGG19's features before they are compared. `auto`: the one that belongs to the loaded weights, 1 for
    torchvision's and `CAFFE_FEATURE_SCALE` for the original ones. `relative`: one over the mean size of the features of
    each layer, whatever the weights."""

    def __post_init__(self) -> None:
        for name in LOSSES:
            _check_weight(name, getattr(self, name))
        if not any(getattr(self, name) for name in LOSSES):
            raise ConfigError("every loss weight is 0; nothing would be learnt")
        if self.teacher_ensemble and not self.teacher:
            raise ConfigError("teacher_ensemble is true, and losses.teacher, the weight of its loss, is 0")
        if self.adversarial_kind not in ("relativistic", "vanilla", "hinge"):
            raise ConfigError(
                f"adversarial_kind is {self.adversarial_kind!r}; it must be 'relativistic', 'vanilla' or 'hinge'"
            )
        if isinstance(self.feature_scale, str):
            if self.feature_scale not in ("auto", "relative"):
                raise ConfigError(
                    f"feature_scale is {self.feature_scale!r}; it must be 'auto', 'relative' or a positive number"
                )
        elif not 0 < self.feature_scale < math.inf:
            raise ConfigError(f"feature_scale is {self.feature_scale}; it must be finite and positive")


LOSSES = ("l1", "l2", "charbonnier", "fourier", "artefacts", "teacher", "flat", "perceptual", "adversarial")
"""Names of all losses: the fields of `LossConfig` that are weights."""
