import torch
from torch import nn

from training.loss_config import VGG_LAYERS
from training.perceptual import TORCHVISION, VGGFeatures


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


def random_vgg(*layers: str) -> VGGFeatures:
    """VGG19 with random weights, up to the deepest of some layers, of all five by default."""
    vgg = VGGFeatures(TORCHVISION, layers or VGG_LAYERS)
    random_features(vgg.features, std=0.1)
    return vgg
