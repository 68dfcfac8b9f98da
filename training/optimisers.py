"""A network with its optimisers: Adam, or Muon for the hidden convolutions."""

from typing import Any

import torch
from torch import Tensor, nn

from training.config import OptimiserConfig
from training.distributed import average_gradients
from training.muon import Muon


def new_optimisers(net: nn.Module, config: OptimiserConfig) -> list[torch.optim.Optimizer]:
    """Create Adam for all weights; for `muon`, Muon for hidden convolutions and Adam for all other weights."""
    weights = list(net.parameters())
    layers = [weight for weight in weights if weight.dim() > 1]  # in the order in which pictures pass them
    muon = {weight for weight in layers[1:-1] if weight.dim() == 4} if config.method == "muon" else set()
    hidden = [weight for weight in weights if weight in muon]
    rest = [weight for weight in weights if weight not in muon]
    adam = torch.optim.Adam(rest, lr=config.learning_rate, betas=config.betas, fused=True)
    return [Muon(hidden, learning_rate=config.learning_rate), adam] if hidden else [adam]


class TrainedNetwork:
    """A network in training, with its optimisers."""

    def __init__(self, net: nn.Module, config: OptimiserConfig, device: torch.device) -> None:
        self.net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword
        self.config = config
        self.optimisers = new_optimisers(self.net, config)

    def clear_gradients(self) -> None:
        """Drop the gradients of the step before."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()

    def finish_gradients(self, loss_scale: float) -> Tensor:
        """Average the gradients over the processes, and divide them by the loss scale; returns their norm."""
        average_gradients(self.net)
        gradients = [weight.grad for weight in self.net.parameters() if weight.grad is not None]
        if loss_scale != 1:
            torch._foreach_div_(gradients, loss_scale)
        return torch.nn.utils.get_total_norm(gradients)

    def update(self, step: int, steps: int) -> None:
        """Set the learning rate, and take a step of each optimiser."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.config.rate_at(step, steps)
            optimiser.step()

    def state(self) -> dict[str, Any]:
        """Return the state of the network and of its optimisers."""
        return {"net": self.net.state_dict(), "optimisers": [one.state_dict() for one in self.optimisers]}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.net.load_state_dict(state["net"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
