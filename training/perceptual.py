"""The perceptual loss: how far apart two pictures are to VGG19, in conv5_4 before its activation.

Source: arXiv 1809.00219, section 3.3: features before the activation are denser and keep the brightness. The network is
Simonyan and Zisserman's VGG19 (arXiv 1409.1556) up to that convolution.
"""

import pickle
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VGG19_Weights, vgg19

CONV5_4 = 34
"""Index of conv5_4 in torchvision's `vgg19().features`; the one after it would be its activation."""

CAFFE_FEATURE_SCALE = 0.05
"""Brings conv5_4 of the original Caffe weights to about the size of torchvision's; docs/training.md has the figures."""


class VGGError(Exception):
    """The weights of VGG19 cannot be had or used; the text says why and what would help."""


class Normalisation(NamedTuple):
    """What a VGG19 subtracts from RGB in [0, 1], and what it then divides by."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


TORCHVISION = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = Normalisation((0.48501961, 0.45795686, 0.40760392), (1.0, 1.0, 1.0))


class VGGFeatures(nn.Module):
    """VGG19 up to conv5_4, before its activation; fixed."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.normalisation = normalisation
        with torch.device("meta"):  # its classifier alone would take half a gigabyte
            layers = vgg19(weights=None, init_weights=False).features[: CONV5_4 + 1]
        self.features = layers.to_empty(device="cpu").eval().requires_grad_(False)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(normalisation, name))[:, None, None]
            self.register_buffer(name, values, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Float RGB (N, 3, H, W) in [0, 1], sides from 16 -> (N, 512, H // 16, W // 16)."""
        features: Tensor = self.features((pictures - self.mean) / self.std)
        return features


def perceptual_loss(vgg: nn.Module, upscaled: Tensor, high_res: Tensor, feature_scale: float = 1.0) -> Tensor:
    """Mean absolute difference of the features, times `feature_scale`, in float32; a scalar.

    The gradient flows into `upscaled` alone.
    """
    with torch.no_grad():
        wanted = vgg(high_res)
    return feature_scale * functional.l1_loss(vgg(upscaled).float(), wanted.float())


def load_vgg(path: Path | None, device: torch.device) -> VGGFeatures:
    """VGG19 with torchvision's weights (None: downloaded once), or with those of a file in torchvision's layout.

    A `.safetensors` file whose metadata says Caffe holds the original weights, which expect another normalisation.

    Raises:
        VGGError: the download failed, or the file is none of VGG19.
    """
    weights, normalisation = _downloaded() if path is None else _read(path)
    vgg = VGGFeatures(normalisation)
    try:
        vgg.features.load_state_dict(
            {
                name.removeprefix("features."): weight.float()
                for name, weight in weights.items()
                if str(name).startswith("features.") and int(name.split(".")[1]) <= CONV5_4
            }
        )
    except (RuntimeError, ValueError, AttributeError) as error:
        raise VGGError(f"{path} does not hold VGG19 in torchvision's layout ({error})") from error
    return vgg.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # torch's stub lacks the keyword


def _downloaded() -> tuple[dict[str, Tensor], Normalisation]:
    try:
        return dict(VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)), TORCHVISION
    except (OSError, RuntimeError) as error:  # no network, or a file that was cut short
        raise VGGError(
            f"torchvision's weights of VGG19 cannot be downloaded ({error}); name a local file with --vgg-weights"
        ) from error


def _read(path: Path) -> tuple[dict[str, Tensor], Normalisation]:
    try:
        if path.suffix != ".safetensors":
            weights = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(weights, dict):
                raise VGGError(f"{path} holds {type(weights).__name__}, not weights by name")
            return weights, TORCHVISION
        with safe_open(path, framework="pt") as file:
            caffe = "caffe" in " ".join((file.metadata() or {}).values()).lower()
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict, and cannot be iterated
            return weights, CAFFE if caffe else TORCHVISION
    except (SafetensorError, pickle.UnpicklingError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise VGGError(f"{path} is not a readable weight file ({error})") from error
