"""Network interpolation: one generator between two, weight by weight (arXiv 1809.00219, section 3.4)."""

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from model.files.checkpoint import Card, Checkpoint, reference_output
from model.files.reading import AnyCheckpoint
from model.flat_colours import correct_colours, upscaled_colours
from model.rrdb import RRDBNet

MAX_DRIFT = 2.0
"""Maximum distance of the interpolated output from either original, relative to the distance of the originals."""


class InterpolationError(Exception):
    """Two generators cannot be interpolated; the text says why."""


def interpolate(psnr: Checkpoint, gan: Checkpoint, alpha: float, *, related: bool = False) -> RRDBNet:
    """Interpolate two generators: (1 - alpha) * psnr + alpha * gan, for every weight.

    Between the two, the last convolution is then corrected: without that, colours would be several levels off.

    Args:
        psnr, gan: two generators of equal sizes, one trained from the other.
        alpha: 0 gives the first, 1 the second; the paper shows 0.2 to 0.8.
        related: they have been interpolated before, so their origin need not be checked again.

    Raises:
        InterpolationError: alpha is out of range, the sizes differ, or neither was trained from the other: the mean of
            two unrelated networks does not work.
    """
    if not 0 <= alpha <= 1:
        raise InterpolationError(f"alpha is {alpha}; it must be in [0, 1]")
    if psnr.net.config != gan.net.config:
        raise InterpolationError(
            f"{psnr.card.name} is {psnr.net.config} and {gan.card.name} is {gan.net.config}; the sizes must be equal"
        )
    net = _mixed(psnr.net, gan.net, alpha)
    if not related:
        _refuse_unrelated(psnr, gan, _mixed(psnr.net, gan.net, 0.5))
    if 0 < alpha < 1 and net.config.colours == 3:
        correct_colours(net, torch.lerp(upscaled_colours(psnr.net), upscaled_colours(gan.net), alpha))
    return net


def blended(psnr: AnyCheckpoint, gan: AnyCheckpoint, alpha: float, *, related: bool = False) -> Checkpoint:
    """Interpolate two checkpoints, with a new golden picture, a hash of both hashes and alpha, and a card of both.

    Args:
        related: see `interpolate`.

    Raises:
        InterpolationError: see `interpolate`; or one of them is of another architecture.
    """
    if not (isinstance(psnr, Checkpoint) and isinstance(gan, Checkpoint)):
        raise InterpolationError(f"{psnr.format} and {gan.format}: only ESRGAN networks can be mixed")
    net = interpolate(psnr, gan, alpha, related=related)
    sha256 = hashlib.sha256(f"{psnr.sha256} {gan.sha256} {alpha:.6f} colours".encode()).hexdigest()
    golden_output = reference_output(net, psnr.golden_input)
    card = _mixed_card(psnr, gan, alpha)
    return replace(psnr, net=net, card=card, sha256=sha256, golden_output=golden_output)


def _mixed(one: RRDBNet, other: RRDBNet, alpha: float) -> RRDBNet:
    others = other.state_dict()
    mixed = {name: torch.lerp(weight, others[name], alpha) for name, weight in one.state_dict().items()}
    return RRDBNet.of(one.config, mixed)


def _mixed_card(psnr: Checkpoint, gan: Checkpoint, alpha: float) -> Card:
    """Describe a mixture: it is bound by the licences of both, and has the data and origins of both."""
    one, other = psnr.card, gan.card
    if alpha in (0, 1):
        return other if alpha else one
    named = " ".join(f"{checkpoint.card.name}@{checkpoint.sha256[:12]}" for checkpoint in (psnr, gan))
    return replace(
        one,
        recipe=f"interpolate {named} --alpha {alpha:g}",
        steps=max(one.steps, other.steps),
        created=max(one.created, other.created),
        data=_of_both(one.data, other.data),
        licence=_of_both(one.licence, other.licence),
        source=_of_both(one.source, other.source),
        metrics={},
    )


def _of_both(one: str, other: str) -> str:
    return one if one == other else f"{one or 'unknown'}; {other or 'unknown'}"


def _refuse_unrelated(psnr: Checkpoint, gan: Checkpoint, middle: RRDBNet) -> None:
    """Compare the output of the mean network with both: it is close to them only if they are related."""
    picture = psnr.golden_input
    outputs = [reference_output(net, picture) for net in (psnr.net, gan.net, middle)]
    apart = _distance(outputs[0], outputs[1])
    drift = max(_distance(outputs[2], outputs[0]), _distance(outputs[2], outputs[1]))
    if drift > MAX_DRIFT * apart + 1:
        raise InterpolationError(
            f"{psnr.card.name} and {gan.card.name} were not trained from one another: the golden picture of their "
            f"mean differs from theirs by {drift:.1f} levels, and theirs by {apart:.1f}; use a pair of one origin"
        )


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the root mean square difference in 8-bit levels."""
    return (one.float() - other.float()).square().mean().sqrt().item()
