"""Losses without a network of their own: pixels, spectra, LDL's artefact map, a discriminator's verdicts."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.distributed import mean_over_processes
from training.loss_config import AdversarialKind

CHARBONNIER_EPSILON = 1e-3
"""Smaller differences count about quadratically, larger ones about linearly; a quarter of a level."""

ARTEFACT_WINDOW_PX = 7
ARTEFACT_EXPONENT = 1 / 5
"""Side of the windows and power of the variance in LDL's artefact map."""

TINY_VARIANCE = 1e-12
"""Keeps the slope of the fifth root finite where two pictures differ by the same everywhere."""

Loss = Callable[[Tensor, Tensor], Tensor]


def l1_loss(upscaled: Tensor, high_res: Tensor) -> Tensor:
    """Mean absolute difference, in float32; a scalar."""
    return functional.l1_loss(upscaled.float(), high_res.float())


def l2_loss(upscaled: Tensor, high_res: Tensor) -> Tensor:
    """Mean squared difference, in float32; a scalar."""
    return functional.mse_loss(upscaled.float(), high_res.float())


def charbonnier_loss(upscaled: Tensor, high_res: Tensor) -> Tensor:
    """Mean of sqrt(difference² + epsilon²), in float32; a scalar.

    Source: Lai et al., "Fast and Accurate Image Super-Resolution with Deep Laplacian Pyramid Networks", arXiv
    1710.01992, section 3.2.
    """
    return ((upscaled.float() - high_res.float()).square() + CHARBONNIER_EPSILON**2).sqrt().mean()


def fourier_loss(upscaled: Tensor, high_res: Tensor) -> Tensor:
    """Mean absolute difference of the real and imaginary parts of the 2-D spectra, in float32; a scalar.

    The transform is orthonormal, so values are of the size of differences of pixels. Source: Cho et al., "Rethinking
    Coarse-to-Fine Approach in Single Image Deblurring", arXiv 2108.05054, section 3.3, whose sums are not normalised.
    """
    spectrum = torch.fft.rfft2(upscaled.float() - high_res.float(), norm="ortho")
    return torch.view_as_real(spectrum).abs().mean()


PIXEL_LOSSES: dict[str, Loss] = {
    "l1": l1_loss,
    "l2": l2_loss,
    "charbonnier": charbonnier_loss,
    "fourier": fourier_loss,
}
"""Losses that compare the upscaled with the high-res pictures, by their names in `LossConfig`."""


def flat_loss(upscale: Callable[[Tensor], Tensor], colours: Tensor) -> Tensor:
    """L2 between flat colours and the generator's outputs for them; a scalar.

    Each colour is a picture of one pixel: with repeated borders a flat picture of any size gives the same values. L1
    would pull as hard at a rounding error of bfloat16 as at a wrong colour.

    Args:
        colours: float RGB in [0, 1], (N, 3).
    """
    flat = colours[:, :, None, None]
    upscaled = upscale(flat)
    return l2_loss(upscaled, flat.expand_as(upscaled))


def artefact_loss(upscaled: Tensor, averaged: Tensor, high_res: Tensor) -> Tensor:
    """Mean absolute difference, weighted by LDL's map of artefacts; a scalar, in float32.

    The map is high where the error varies from pixel to pixel, and 0 where the generator is nearer to the original
    than its moving average, which draws fewer artefacts. As in the authors' code the gradient flows through the map
    too, so it also learns to err evenly.

    Source: Liang et al., "Details or Artifacts: A Locally Discriminative Learning Approach to Realistic Image
    Super-Resolution", arXiv 2203.09195, section 3.3.

    Args:
        upscaled, averaged: outputs of the generator and of its moving average for the same low-res pictures, (N, 3, H,
            W) with sides from 4.
    """
    upscaled, averaged, high_res = upscaled.float(), averaged.float(), high_res.float()
    error = (high_res - upscaled).abs().sum(dim=1, keepdim=True)
    worse = error >= (high_res - averaged).abs().sum(dim=1, keepdim=True)
    of_picture = (error.var(dim=(1, 2, 3), keepdim=True) + TINY_VARIANCE) ** ARTEFACT_EXPONENT
    artefacts = of_picture * _local_variance(error) * worse
    return (artefacts * (upscaled - high_res).abs()).mean()


def _local_variance(values: Tensor) -> Tensor:
    """Variance in the window around each pixel, (N, 1, H, W) -> the same shape; mirrored at the border."""
    padded = functional.pad(values, [ARTEFACT_WINDOW_PX // 2] * 4, mode="reflect")
    windows = padded.unfold(2, ARTEFACT_WINDOW_PX, 1).unfold(3, ARTEFACT_WINDOW_PX, 1)
    return windows.var(dim=(-1, -2))


def relativistic_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Compare each verdict with the average verdict on pictures of the other kind (equation 1); a scalar.

    -E[log D(real, fake)] - E[log(1 - D(fake, real))], where D(x, y) = sigmoid(C(x) - E[C(y)]).

    Source: arXiv 1809.00219, section 3.2.

    Args:
        real, fake: the discriminator's raw verdicts C on photographs and on upscaled pictures, any shape with the
            batch first; the means E go over the batch, the pixels and all processes.
    """
    real_against_fake, fake_against_real = _relative(real, fake)
    return _bce(real_against_fake, 1.0) + _bce(fake_against_real, 0.0)


def relativistic_generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's loss with the labels exchanged (equation 2): both halves, not the upscaled one alone.

    -E[log(1 - D(real, fake))] - E[log D(fake, real)]. The gradient flows through `fake` in both terms.
    """
    real_against_fake, fake_against_real = _relative(real, fake)
    return _bce(real_against_fake, 0.0) + _bce(fake_against_real, 1.0)


def vanilla_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(real)] - E[log(1 - D(fake))], where D = sigmoid(C) (Goodfellow et al., arXiv 1406.2661)."""
    return _bce(real.float(), 1.0) + _bce(fake.float(), 0.0)


def vanilla_generator_loss(_real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(fake)], which does not saturate where the discriminator is sure."""
    return _bce(fake.float(), 1.0)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 - C(real))] + E[max(0, 1 + C(fake))] (Lim and Ye, arXiv 1705.02894)."""
    return functional.relu(1 - real.float()).mean() + functional.relu(1 + fake.float()).mean()


def hinge_generator_loss(_real: Tensor, fake: Tensor) -> Tensor:
    """-E[C(fake)]."""
    return -fake.float().mean()


@dataclass(frozen=True)
class AdversarialLoss:
    """A kind of adversarial loss: two functions of the verdicts on photographs and on upscaled pictures."""

    discriminator: Loss
    generator: Loss


ADVERSARIAL_LOSSES: dict[AdversarialKind, AdversarialLoss] = {
    "relativistic": AdversarialLoss(relativistic_discriminator_loss, relativistic_generator_loss),
    "vanilla": AdversarialLoss(vanilla_discriminator_loss, vanilla_generator_loss),
    "hinge": AdversarialLoss(hinge_discriminator_loss, hinge_generator_loss),
}
"""Kinds of adversarial losses, by their names in `LossConfig`."""


def _relative(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    real, fake = real.float(), fake.float()
    return real - mean_over_processes(fake.mean()), fake - mean_over_processes(real.mean())


def _bce(verdicts: Tensor, label: float) -> Tensor:
    """Binary cross-entropy of sigmoid(verdicts) against one label for all, computed so that no sigmoid saturates."""
    return functional.softplus(-verdicts if label else verdicts).mean()
