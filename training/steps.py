"""One step of training: the losses of both networks, their gradients, and the update where all of them are finite."""

import copy
import functools
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.device import exact_float32, fast_dtype
from model.rrdb import ResidualDenseBlock, RRDBNet
from training.compiled import Compiled
from training.config import DiscriminatorConfig, TrainingConfig
from training.discriminator import Judge, UNetDiscriminator, new_discriminator, verdicts
from training.distributed import mean_over_processes, processes, this_process
from training.errors import Mistake
from training.loss_scale import LossScale
from training.losses import ADVERSARIAL_LOSSES, flat_loss
from training.native import discriminator as native_discriminator
from training.native import generator as native_generator
from training.native.library import Instructions, available
from training.objective import Objective
from training.optimisers import TrainedNetwork
from training.perceptual import VGGFeatures
from training.teacher import Teacher

log = logging.getLogger(__name__)

INITIAL_SCALE = 0.1
"""Factor on the initial weights of the dense blocks (the paper, section 3.1: smaller initialisation)."""

FLAT_COLOURS = 64
"""Random colours per step of the flat loss, over all processes."""

MAX_SKIPPED = 10
"""Steps in a row that may be skipped for a loss or gradient that is not finite."""


class DivergedError(Mistake):
    """The losses are not finite any more; the text has the step and what to try."""


def new_generator(config: TrainingConfig) -> RRDBNet:
    """Create a generator with He initialisation, its dense blocks scaled by `INITIAL_SCALE`; equal for equal seeds."""
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


def ema_decay_at(config: TrainingConfig, step: int) -> float:
    """Return the decay of the weight average: small at first, so that the initial weights are soon forgotten."""
    return min(config.ema_decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Average <- decay * average + (1 - decay) * net, for every weight."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)


def as_network_input(pixels: Tensor) -> Tensor:
    """uint8 RGB (N, 3, H, W) -> float32 in [0, 1], channels last."""
    return pixels.to(memory_format=torch.channels_last).float() / 255


class Steps:
    """The networks of a run, and the steps that change them.

    Args:
        start: weights to begin with; None: new ones.
        discriminator: the network to begin with where the config has one; None: a new one.
        vgg: needed where the config has a perceptual loss.
        teacher: needed where the config learns from one.
        compiled: let torch compile the generator, if it can. It pays on a GPU; on a CPU it was slower.
        native: train on our own convolutions where the processor has their instructions, instead of PyTorch.
    """

    def __init__(
        self,
        config: TrainingConfig,
        device: torch.device,
        *,
        start: RRDBNet | None = None,
        discriminator: nn.Module | None = None,
        vgg: VGGFeatures | None = None,
        teacher: Teacher | None = None,
        compiled: bool = False,
        native: bool = True,
    ) -> None:
        exact_float32()
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every step has the same shapes
        self.config = config
        self.device = device
        self.done = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        net = new_generator(config)
        if start:  # whose padding may differ
            net.load_state_dict(start.state_dict())
        self.generator = TrainedNetwork(net, config.optimiser, device)
        self.average: RRDBNet = copy.deepcopy(self.generator.net).requires_grad_(False)
        if config.checkpointing:
            keep_only_block_inputs(self.generator.net)
        self.discriminator = _trained_discriminator(config.discriminator, config.seed, discriminator, device)
        self._dtype = fast_dtype(device)
        if device.type == "cuda" and self._dtype is torch.float32:  # no bfloat16: GPUs before Ampere
            self._dtype = torch.float16
        self.loss_scale = LossScale(needed=self._dtype is torch.float16)
        native = native and device.type == "cpu" and self._dtype is torch.bfloat16
        self._instructions: Instructions | None = next(iter(available()), None) if native else None
        self._judge = self._fastest_judge()
        self.objective = Objective(config.losses, vgg=vgg, teacher=teacher, instructions=self._instructions)
        self._upscale = Compiled(self.generator.net) if compiled else self._fastest()

    def take(self, low_res: Tensor, high_res: Tensor) -> dict[str, float]:
        """Take a step on a batch: uint8 RGB (N, 3, H, W) and (N, 3, scale * H, scale * W) on the device.

        Returns:
            Each loss by name, unweighted, and the norm of each network's gradients, the mean over all processes; not
            finite where the step was skipped.

        Raises:
            DivergedError: this was the last of `MAX_SKIPPED` steps in a row that had to be skipped.
        """
        values = self._set_gradients(low_res, high_res)
        if all(map(math.isfinite, values.values())):
            self._update()
        else:
            self._skip()
        self.done += 1
        return values

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Take back everything that steps have changed, at the end of a `with` block."""
        before = copy.deepcopy(self.state())
        try:
            yield
        finally:
            self.restore(before)

    def rehearse(self, low_res: Tensor, high_res: Tensor) -> None:
        """Do the work of a step, to time it, within `undone`."""
        self._set_gradients(low_res, high_res)
        self._update()

    def _set_gradients(self, low_res: Tensor, high_res: Tensor) -> dict[str, float]:
        """Compute the gradients of a batch, part by part; returns the losses and the norms of the gradients."""
        config, firsts = self.config, range(min(self.config.accumulate, len(low_res)))
        networks = {"generator": self.generator} | ({"discriminator": self.discriminator} if self.discriminator else {})
        for network in networks.values():
            network.clear_gradients()
        # Every n-th crop is of one part, because a batch is in the order of its noise.
        batch = [(low_res[first :: config.accumulate], high_res[first :: config.accumulate]) for first in firsts]
        parts = [self._add_gradients(low, high, len(low) / len(low_res)) for low, high in batch]
        values = {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}
        if self.config.losses.flat:
            values["flat"] = self._add_flat_gradients()
        for name, network in networks.items():
            values[f"{name}_gradient"] = network.finish_gradients(self.loss_scale.value)
        means = mean_over_processes(torch.stack([*values.values()]))
        return dict(zip(values, means.tolist(), strict=True))

    def _add_gradients(self, low_res: Tensor, high_res: Tensor, share: float) -> dict[str, Tensor]:
        """Add the gradients of a part of the batch; returns its losses, times its share of the batch."""
        low, high = as_network_input(low_res), as_network_input(high_res)
        factor = share * self.loss_scale.value
        with self._autocast():
            upscaled = self._upscale(low)
            losses = self.objective.losses(low, high, upscaled, self.average)
        total = factor * self.objective.total(losses)
        if self._judge:
            adversarial, gradient = self._adversarial_gradients(self._judge, upscaled, high, factor)
            torch.autograd.backward((total, upscaled), (None, gradient))
            losses |= adversarial
        else:
            total.backward()
        return {name: share * loss.detach() for name, loss in losses.items()}

    def _adversarial_gradients(
        self, judge: Judge, upscaled: Tensor, high: Tensor, factor: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Add the gradients of the discriminator; returns the losses of both networks and the pictures' gradient."""
        kind, config = ADVERSARIAL_LOSSES[self.config.losses.adversarial_kind], self.config.losses
        judged = max(1, round(cast(DiscriminatorConfig, self.config.discriminator).share * len(high)))
        # The generator's own graph is walked once, by the caller.
        pictures = upscaled.detach()[:judged].requires_grad_()
        with self._autocast():
            for_generator, for_discriminator = judge(pictures, high[:judged])
        losses = {
            "adversarial": kind.generator(*for_generator),
            "discriminator": kind.discriminator(*for_discriminator),
        }
        weights = list(cast(TrainedNetwork, self.discriminator).net.parameters())
        weight = config.adversarial * judged / len(high)  # a judged crop counts the same for any share
        (factor * weight * losses["adversarial"]).backward(inputs=[pictures], retain_graph=True)
        (factor * losses["discriminator"]).backward(inputs=weights)
        gradient = torch.zeros_like(upscaled)
        gradient[:judged] = cast(Tensor, pictures.grad)
        return losses, gradient

    def _add_flat_gradients(self) -> Tensor:
        """Add the gradients of the flat loss, whose colours depend on the seed and the step; returns the loss."""
        chance = numpy.random.default_rng((self.config.seed, self.done))
        colours = torch.from_numpy(chance.random((FLAT_COLOURS, 3), dtype=numpy.float32))
        mine = colours[this_process() :: processes()].to(self.device)
        with self._autocast():
            loss = flat_loss(self._upscale, mine) * (len(mine) * processes() / FLAT_COLOURS)
        (self.config.losses.flat * self.loss_scale.value * loss).backward()
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Return everything that decides later steps. The tensors are live: save them before the next step."""
        return {
            "done": self.done,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "generator": self.generator.state(),
            "average": self.average.state_dict(),
            "discriminator": self.discriminator.state() if self.discriminator else None,
            "loss_scale": self.loss_scale.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.done, self.skipped = state["done"], state["skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self.generator.restore(state["generator"])
        self.average.load_state_dict(state["average"])
        if self.discriminator:
            self.discriminator.restore(state["discriminator"])
        self.loss_scale.restore(state["loss_scale"])

    def _fastest(self) -> nn.Module:
        """Return the generator itself, or its implementation in C."""
        net = cast(RRDBNet, self.generator.net)
        keeps_maps = not self.config.checkpointing  # as the passes in C do
        if self._instructions and keeps_maps and native_generator.takes(net.config):
            log.info("the generator trains on %s", self._instructions)
            return native_generator.NativeGenerator(net, self._instructions)
        log.info("the generator trains on PyTorch in %s", str(self._dtype).removeprefix("torch."))
        return net

    def _fastest_judge(self) -> Judge | None:
        """Return the discriminator, run by PyTorch or by its implementation in C."""
        net = self.discriminator.net if self.discriminator else None
        if self._instructions and isinstance(net, UNetDiscriminator) and native_discriminator.takes(net):
            log.info("the discriminator trains on %s", self._instructions)
            return native_discriminator.NativeDiscriminator(net, self._instructions)
        return functools.partial(verdicts, net) if net else None

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype is not torch.float32)

    def _update(self) -> None:
        self.skipped_in_a_row = 0
        self.loss_scale.count_step()
        self.generator.update(self.done, self.config.steps)
        if self.discriminator:
            self.discriminator.update(self.done, self.config.steps)
        update_average(self.average, self.generator.net, ema_decay_at(self.config, self.done))

    def _skip(self) -> None:
        self.skipped += 1
        if self.loss_scale.lower():
            return
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= MAX_SKIPPED:
            raise DivergedError(
                f"steps {self.done - MAX_SKIPPED + 2} to {self.done + 1} gave losses or gradients that are not finite "
                "and changed nothing. Look at the pictures with `python -m training doctor`; the same command "
                "continues from the last saved state. Or lower the learning rate in a new run: --out NEW --start "
                "OLD/state.pt --set optimiser.learning_rate=RATE"
            )


def keep_only_block_inputs(net: RRDBNet) -> None:
    """Recompute each block of the trunk in the backward pass, so that only its input is kept."""
    for block in net.body:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def _trained_discriminator(
    config: DiscriminatorConfig | None, seed: int, start: nn.Module | None, device: torch.device
) -> TrainedNetwork | None:
    return TrainedNetwork(start or new_discriminator(config, seed), config.optimiser, device) if config else None
