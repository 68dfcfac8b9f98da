"""Generators made of others, weight by weight: between two, or with the difference of two added to a third."""

import hashlib
import math
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

    Source: arXiv 1809.00219, section 3.4.

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
    _check_sizes(psnr, gan)
    if not related:
        _check_origin(psnr, gan)
    net = _mixed(psnr.net, gan.net, alpha)
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
    card = gan.card if alpha else psnr.card
    if 0 < alpha < 1:
        card = _card_of_both(psnr, gan, f"interpolate {_named(psnr, gan)} --alpha {alpha:g}")
    return replace(psnr, net=net, card=card, sha256=sha256, golden_output=golden_output)


def transferred(generator: Checkpoint, before: Checkpoint, after: Checkpoint, alpha: float) -> Checkpoint:
    """Add what training changed between two generators to a third: generator + alpha * (after - before).

    The result has a new golden picture, a hash of the three hashes and alpha, and a card of `generator` and `after`.

    So a GAN generator learns from the further training of the PSNR generator that it came from. Flat colours stay those
    of the generator.

    Source: Ilharco et al., "Editing Models with Task Arithmetic", arXiv 2212.04089.

    Args:
        generator, before, after: of equal sizes and of one origin.

    Raises:
        InterpolationError: alpha is not finite, the sizes differ, or the generators have another origin.
    """
    if not math.isfinite(alpha):
        raise InterpolationError(f"alpha is {alpha}; it must be a number")
    for other in (generator, after):
        _check_sizes(before, other)
        _check_origin(before, other)
    old, new = before.net.state_dict(), after.net.state_dict()
    weights = {name: weight + alpha * (new[name] - old[name]) for name, weight in generator.net.state_dict().items()}
    net = RRDBNet.of(generator.net.config, weights)
    if net.config.colours == 3:
        correct_colours(net, upscaled_colours(generator.net))
    hashes = f"{generator.sha256} {before.sha256} {after.sha256}"
    return replace(
        generator,
        net=net,
        card=_card_of_both(generator, after, f"transfer {_named(generator, before, after)} --alpha {alpha:g}"),
        sha256=hashlib.sha256(f"transfer {hashes} {alpha:.6f}".encode()).hexdigest(),
        golden_output=reference_output(net, generator.golden_input),
    )


def _mixed(one: RRDBNet, other: RRDBNet, alpha: float) -> RRDBNet:
    others = other.state_dict()
    mixed = {name: torch.lerp(weight, others[name], alpha) for name, weight in one.state_dict().items()}
    return RRDBNet.of(one.config, mixed)


def _named(*checkpoints: Checkpoint) -> str:
    return " ".join(f"{checkpoint.card.name}@{checkpoint.sha256[:12]}" for checkpoint in checkpoints)


def _card_of_both(first: Checkpoint, second: Checkpoint, recipe: str) -> Card:
    """Describe a network made of two: it is bound by the licences of both, and has the data and origins of both."""
    one, other = first.card, second.card
    return replace(
        one,
        recipe=recipe,
        steps=max(one.steps, other.steps),
        created=max(one.created, other.created),
        data=_of_both(one.data, other.data),
        licence=_of_both(one.licence, other.licence),
        source=_of_both(one.source, other.source),
        metrics={},
    )


def _of_both(one: str, other: str) -> str:
    return one if one == other else f"{one or 'unknown'}; {other or 'unknown'}"


def _check_sizes(one: Checkpoint, other: Checkpoint) -> None:
    if one.net.config != other.net.config:
        raise InterpolationError(
            f"{one.card.name} is {one.net.config} and {other.card.name} is {other.net.config}; the sizes must be equal"
        )


def _check_origin(one: Checkpoint, other: Checkpoint) -> None:
    """Compare the output of the mean network with both: it is close to them only if they are related."""
    nets = (one.net, other.net, _mixed(one.net, other.net, 0.5))
    outputs = [reference_output(net, one.golden_input) for net in nets]
    apart = _distance(outputs[0], outputs[1])
    drift = max(_distance(outputs[2], outputs[0]), _distance(outputs[2], outputs[1]))
    if drift > MAX_DRIFT * apart + 1:
        raise InterpolationError(
            f"{one.card.name} and {other.card.name} were not trained from one another: the golden picture of their "
            f"mean differs from theirs by {drift:.1f} levels, and theirs by {apart:.1f}; use a pair of one origin"
        )


def _distance(one: Tensor, other: Tensor) -> float:
    """Return the root mean square difference in 8-bit levels."""
    return (one.float() - other.float()).square().mean().sqrt().item()
