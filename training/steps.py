"""One step of training: the losses of both networks, their gradients, and the update where all of them are finite."""

import copy
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from model.device import exact_float32, fast_dtype
from model.errors import one_line
from model.memory import says_out_of_memory
from model.rrdb import ResidualDenseBlock, RRDBNet
from training.config import DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.discriminator import new_discriminator
from training.distributed import average_gradients, mean_over_processes
from training.losses import l1_loss, relativistic_discriminator_loss, relativistic_generator_loss
from training.muon import Muon
from training.perceptual import VGGFeatures, perceptual_loss

INITIAL_SCALE = 0.1
"""Factor on the initial weights of the dense blocks (the paper, section 3.1: smaller initialisation)."""

MOST_SKIPPED = 10
"""Steps in a row that may be skipped for a loss or gradient that is not finite."""


log = logging.getLogger(__name__)


class DivergedError(Exception):
    """The losses stopped being finite; the text says since when and what to try."""


def new_generator(config: TrainingConfig) -> RRDBNet:
    """A generator with He initialisation, its dense blocks scaled by `INITIAL_SCALE`; equal for equal seeds."""
    chance = torch.Generator().manual_seed(config.seed)
    net = RRDBNet(config.generator)
    dense = {conv for block in net.modules() if isinstance(block, ResidualDenseBlock) for conv in block.children()}
    for conv in net.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, generator=chance)
            if conv in dense:
                conv.weight.data *= INITIAL_SCALE
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
    return net


def new_optimisers(net: nn.Module, config: OptimiserConfig) -> list[torch.optim.Optimizer]:
    """Adam for all weights; with `muon`, Muon for the convolutions between feature maps and Adam for the rest."""
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for weight in net.parameters():
        between_features = weight.dim() == 4 and min(weight.shape[:2]) > 3
        (hidden if config.method == "muon" and between_features else rest).append(weight)
    adam = torch.optim.Adam(rest, lr=config.learning_rate, betas=config.betas, fused=True)
    return [Muon(hidden, learning_rate=config.learning_rate), adam] if hidden else [adam]


def ema_decay_at(config: TrainingConfig, step: int) -> float:
    """Decay of the weight average: small at first, so that the initial weights are soon forgotten."""
    return min(config.ema_decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Average <- decay * average + (1 - decay) * net, for every weight."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)


def as_network_input(pixels: Tensor) -> Tensor:
    """uint8 RGB (N, 3, H, W) -> float32 in [0, 1], channels last."""
    return pixels.to(memory_format=torch.channels_last).float() / 255


class Trained:
    """A network in training, with its optimisers."""

    def __init__(self, net: nn.Module, config: OptimiserConfig, device: torch.device) -> None:
        self.net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword
        self.config = config
        self.optimisers = new_optimisers(self.net, config)

    def set_gradients(self, loss: Tensor) -> Tensor:
        """Compute the gradients of a loss, averaged over the processes; returns their norm."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()
        average_gradients(self.net)
        gradients = [weight.grad for weight in self.net.parameters() if weight.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def update(self, step: int, steps: int) -> None:
        """Move the weights along their gradients."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.config.rate_at(step, steps)
            optimiser.step()

    def state(self) -> dict[str, Any]:
        """Weights and optimisers."""
        return {"net": self.net.state_dict(), "optimisers": [one.state_dict() for one in self.optimisers]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.net.load_state_dict(state["net"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


class Compiled:
    """A network that torch compiles at the first call; if it cannot, without a C compiler say, it runs as it is."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._call: Callable[[Tensor], Tensor] = torch.compile(net)
        self._proven = False

    def __call__(self, low: Tensor) -> Tensor:
        """Run the network; its first call decides how all later ones run."""
        if self._proven:
            return self._call(low)
        try:
            made = self._call(low)
        except Exception as error:  # dynamo, inductor, Triton and the C compiler each raise their own
            if says_out_of_memory(error):
                raise
            log.warning("torch.compile does not work here, so training is slower: %s", one_line(error))
            self._call = self._net
            made = self._net(low)
        self._proven = True
        return made


class Steps:
    """The networks of a run, and the steps that change them.

    Args:
        start: weights to begin with; None: new ones.
        vgg: needed where the config has a perceptual loss.
        compiled: let torch compile the generator, if it can. It pays on a GPU; on a CPU it was slower.
    """

    def __init__(
        self,
        config: TrainingConfig,
        device: torch.device,
        *,
        start: RRDBNet | None = None,
        vgg: VGGFeatures | None = None,
        compiled: bool = False,
    ) -> None:
        if config.losses.perceptual and vgg is None:
            raise ValueError(f"{config.recipe} has a perceptual loss and needs VGG19")
        exact_float32()
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every step has the same shapes
        self.config = config
        self.device = device
        self.done = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        net = new_generator(config)
        if start:  # whose padding may have been another
            net.load_state_dict(start.state_dict())
        self.generator = Trained(net, config.optimiser, device)
        self.average: RRDBNet = copy.deepcopy(self.generator.net).requires_grad_(False)
        self.discriminator = _trained_discriminator(config.discriminator, config.seed, device)
        self.vgg = vgg
        self._upscale = Compiled(self.generator.net) if compiled else self.generator.net
        self._dtype = fast_dtype(device)

    def take(self, low_res: Tensor, high_res: Tensor) -> dict[str, float]:
        """One step on a batch: uint8 RGB (N, 3, H, W) and (N, 3, scale * H, scale * W) on the device.

        Returns:
            Each loss by name, unweighted, the mean over all processes; not finite where the step was skipped.

        Raises:
            DivergedError: this was the last of `MOST_SKIPPED` steps in a row that had to be skipped.
        """
        low, high = as_network_input(low_res), as_network_input(high_res)
        losses, upscaled = self._generator_losses(low, high)
        norms = [self.generator.set_gradients(self._total(losses))]
        if self.discriminator:
            losses["discriminator"] = self._discriminator_loss(self.discriminator.net, upscaled.detach(), high)
            norms.append(self.discriminator.set_gradients(losses["discriminator"]))
        means = mean_over_processes(torch.stack([*losses.values(), *norms]).detach())
        values: list[float] = means.tolist()  # the only time in a step that the host waits for a GPU
        if all(map(math.isfinite, values)):
            self._update()
        else:
            self._skip()
        self.done += 1
        return dict(zip(losses, values, strict=False))

    def state(self) -> dict[str, Any]:
        """Everything that decides the steps to come; it changes with the next step, so it is to be saved at once."""
        return {
            "done": self.done,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "generator": self.generator.state(),
            "average": self.average.state_dict(),
            "discriminator": self.discriminator.state() if self.discriminator else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.done, self.skipped = state["done"], state["skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self.generator.restore(state["generator"])
        self.average.load_state_dict(state["average"])
        if self.discriminator:
            self.discriminator.restore(state["discriminator"])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not torch.float32)

    def _generator_losses(self, low: Tensor, high: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        weights = self.config.losses
        with self._autocast():
            upscaled: Tensor = self._upscale(low)
            losses = {"l1": l1_loss(upscaled, high)}
            if weights.perceptual and self.vgg:
                losses["perceptual"] = perceptual_loss(self.vgg, upscaled, high, weights.feature_scale)
            if self.discriminator:
                with frozen(self.discriminator.net) as judge:
                    losses["adversarial"] = relativistic_generator_loss(judge(high).detach(), judge(upscaled))
        return losses, upscaled

    def _total(self, losses: dict[str, Tensor]) -> Tensor:
        weighted = [getattr(self.config.losses, name) * loss for name, loss in losses.items()]
        return torch.stack(weighted).sum()

    def _discriminator_loss(self, discriminator: nn.Module, upscaled: Tensor, high: Tensor) -> Tensor:
        with self._autocast():
            return relativistic_discriminator_loss(discriminator(high), discriminator(upscaled))

    def _update(self) -> None:
        self.skipped_in_a_row = 0
        self.generator.update(self.done, self.config.steps)
        if self.discriminator:
            self.discriminator.update(self.done, self.config.steps)
        update_average(self.average, self.generator.net, ema_decay_at(self.config, self.done))

    def _skip(self) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= MOST_SKIPPED:
            raise DivergedError(
                f"steps {self.done - MOST_SKIPPED + 2} to {self.done + 1} gave losses or gradients that are not finite "
                "and changed nothing. Lower the learning rate, or look at the pictures with "
                "`python -m training doctor`. The same command goes on from the last saved state"
            )


@contextmanager
def frozen(net: nn.Module) -> Iterator[nn.Module]:
    """A network that passes gradients through but collects none, and whose spectral norms stand still."""
    net.eval().requires_grad_(False)
    try:
        yield net
    finally:
        net.train().requires_grad_(True)


def _trained_discriminator(config: DiscriminatorConfig | None, seed: int, device: torch.device) -> Trained | None:
    return Trained(new_discriminator(config, seed), config.optimiser, device) if config else None
