"""The losses of ESRGAN (arXiv 1809.00219, section 3.2 and 3.3) that need no network of their own."""

from torch import Tensor
from torch.nn import functional

from training.distributed import mean_over_processes


def l1_loss(upscaled: Tensor, high_res: Tensor) -> Tensor:
    """Mean absolute difference, in float32; a scalar."""
    return functional.l1_loss(upscaled.float(), high_res.float())


def relativistic_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """How badly real pictures are told from upscaled ones, each against the average of the other kind (equation 1).

    -E[log D(real, fake)] - E[log(1 - D(fake, real))], where D(x, y) = sigmoid(C(x) - E[C(y)]).

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


def _relative(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    real, fake = real.float(), fake.float()
    return real - mean_over_processes(fake.mean()), fake - mean_over_processes(real.mean())


def _bce(verdicts: Tensor, label: float) -> Tensor:
    """Binary cross-entropy of sigmoid(verdicts) against one label for all, computed so that no sigmoid saturates."""
    return functional.softplus(-verdicts if label else verdicts).mean()
