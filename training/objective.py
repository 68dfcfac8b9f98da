"""The function that a generator minimises: the weighted sum of its losses."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from training.loss_config import LossConfig
from training.losses import PIXEL_LOSSES, artefact_loss
from training.native.library import Instructions
from training.native.perceptual import NativePerceptual
from training.perceptual import VGGFeatures, perceptual_loss
from training.teacher import Teacher

log = logging.getLogger(__name__)


class Objective:
    """All losses of a generator except the adversarial one, which needs a discriminator in training.

    Args:
        vgg: needed where the perceptual loss has a weight.
        teacher: needed where its loss has a weight.
        instructions: those that VGG19 computes with; None: PyTorch runs it.
    """

    def __init__(
        self,
        config: LossConfig,
        *,
        vgg: VGGFeatures | None,
        teacher: Teacher | None,
        instructions: Instructions | None = None,
    ) -> None:
        if config.perceptual and vgg is None:
            raise ValueError("the perceptual loss needs VGG19")
        if config.teacher and teacher is None:
            raise ValueError("the teacher loss needs a teacher")
        self._config = config
        self.vgg = vgg
        self.teacher = teacher
        self._perceptual_loss: Callable[..., Tensor] | None = None
        if instructions and isinstance(vgg, VGGFeatures):
            log.info("VGG19 runs on %s", instructions)
            self._perceptual_loss = NativePerceptual(vgg, instructions)
        elif vgg:
            self._perceptual_loss = partial(perceptual_loss, vgg)

    def losses(
        self, low: Tensor, high: Tensor, upscaled: Tensor, average: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """Compute L1 and every loss with a weight, unweighted, by their names in `LossConfig`.

        Args:
            low, high, upscaled: float RGB in [0, 1], (N, 3, H, W) and twice (N, 3, scale * H, scale * W).
            average: the moving average of the generator.
        """
        config = self._config
        losses = {
            name: loss(upscaled, high) for name, loss in PIXEL_LOSSES.items() if name == "l1" or getattr(config, name)
        }
        if config.artefacts:
            with torch.no_grad():
                averaged = average(low)
            losses["artefacts"] = artefact_loss(upscaled, averaged, high)
        if config.teacher and self.teacher:
            losses["teacher"] = PIXEL_LOSSES["l1"](upscaled, self.teacher(low))
        if config.perceptual and self.vgg and self._perceptual_loss:
            losses["perceptual"] = self._perceptual_loss(
                upscaled,
                high,
                weights=config.perceptual_layers.weights,
                feature_scale=self._feature_scale(self.vgg),
            )
        return losses

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Add up losses times their weights; a scalar."""
        return torch.stack([getattr(self._config, name) * loss for name, loss in losses.items()]).sum()

    def _feature_scale(self, vgg: VGGFeatures) -> float | Literal["relative"]:
        scale = self._config.feature_scale
        return vgg.feature_scale if scale == "auto" else scale
