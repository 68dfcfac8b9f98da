import torch
from torch import nn


def random_features(layers: nn.Module, std: float) -> nn.Sequential:
    """Layers of torchvision that were made on the meta device, with seeded random weights.

    Args:
        std: deviation of the biases.
    """
    chance = torch.Generator().manual_seed(0)
    assert isinstance(layers, nn.Sequential)
    layers.to_empty(device="cpu").requires_grad_(False)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=chance)
            assert layer.bias is not None
            nn.init.normal_(layer.bias, std=std, generator=chance)
    return layers
