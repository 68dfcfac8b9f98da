"""The perceptual loss: the distance of two pictures in VGG19's features, before their activation.

Source: arXiv 1809.00219, section 3.3: features before the activation are denser and keep the brightness; the paper
takes those of conv5_4. The network is Simonyan and Zisserman's VGG19 (arXiv 1409.1556).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg19

from model.errors import WeightsError
from training.distributed import mean_over_processes
from training.loss_config import VGG_LAYERS
from training.torchvision_weights import feature_weights

LAYERS = dict(zip(VGG_LAYERS, (2, 7, 16, 25, 34), strict=True))
"""Their indices in torchvision's `vgg19().features`; the module after each is its activation."""

CAFFE_FEATURE_SCALE = 0.05
"""Brings conv5_4 of the original Caffe weights to about the size of torchvision's: docs/training_reference.md."""


class Normalisation(NamedTuple):
    """Mean and standard deviation by which a VGG19 normalises RGB in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


TORCHVISION = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = Normalisation((0.48501961, 0.45795686, 0.40760392), (1.0, 1.0, 1.0))


class VGGFeatures(nn.Module):
    """VGG19 up to the deepest of some layers; fixed.

    Args:
        layers: keys of `LAYERS`, from shallow to deep.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation, layers: Sequence[str]) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.wanted = {LAYERS[name] for name in layers}
        with torch.device("meta"):  # its classifier alone would take half a gigabyte
            features = vgg19(weights=None, init_weights=False).features
        for index in self.wanted:
            features[index + 1].inplace = False  # torchvision's in-place ReLU would overwrite these features
        self.features = features[: max(self.wanted) + 1].to_empty(device="cpu").eval().requires_grad_(False)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(normalisation, name))[:, None, None]
            self.register_buffer(name, values, persistent=False)

    @property
    def feature_scale(self) -> float:
        """Factor that brings its features to the magnitude of those of torchvision's weights."""
        return CAFFE_FEATURE_SCALE if self.normalisation is CAFFE else 1.0

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Float RGB (N, 3, H, W) in [0, 1], sides from 16 -> the features of each layer, before its activation.

        They are (N, 64, H, W) for conv1_2; with each further block the sides are halved, down to (N, 512, H // 16,
        W // 16) for conv5_4.
        """
        values = (pictures - self.mean) / self.std
        found = []
        for index, layer in enumerate(self.features):
            values = layer(values)
            if index in self.wanted:
                found.append(values)
        return found


def perceptual_loss(
    vgg: Callable[[Tensor], Sequence[Tensor]],
    upscaled: Tensor,
    high_res: Tensor,
    *,
    weights: Sequence[float] | None = None,
    feature_scale: float | Literal["relative"] = 1.0,
) -> Tensor:
    """Mean absolute difference of the features of each layer, times scale and weight, added up in float32; a scalar.

    The gradient flows into `upscaled` alone.

    Args:
        weights: one for each layer; None: 1 for all of them.
        feature_scale: the scale of all layers; `relative`: that of each is one over the mean size of its features of
            `high_res` (over all processes), so that the layers count alike, whatever weights VGG19 has.
    """
    with torch.no_grad():
        wanted = [features.float() for features in vgg(high_res)]
        scales = [_one_over_size(features) if feature_scale == "relative" else feature_scale for features in wanted]
    found = [features.float() for features in vgg(upscaled)]
    layers = zip(weights or [1.0] * len(found), scales, found, wanted, strict=True)
    return torch.stack([weight * scale * functional.l1_loss(one, other) for weight, scale, one, other in layers]).sum()


def _one_over_size(features: Tensor) -> Tensor:
    return 1 / mean_over_processes(features.abs().mean())


def load_vgg(path: Path | None, device: torch.device, layers: Sequence[str] = ("conv5_4",)) -> VGGFeatures:
    """Load VGG19 with torchvision's weights (None: downloaded once), or with those of a file in torchvision's layout.

    A `.safetensors` file with Caffe in its metadata has the original weights, which need another normalisation.

    Args:
        layers: the layers of `VGGFeatures`; a file does not need the weights of deeper ones.

    Raises:
        WeightsError: the download failed, or the file does not contain a VGG19.
    """
    weights, metadata = feature_weights(path, "VGG19_Weights.IMAGENET1K_V1", "--vgg-weights")
    vgg = VGGFeatures(CAFFE if "caffe" in " ".join(metadata.values()).lower() else TORCHVISION, layers)
    try:
        vgg.features.load_state_dict(
            {
                name.removeprefix("features."): weight.float()
                for name, weight in weights.items()
                if int(name.split(".")[1]) < len(vgg.features)
            }
        )
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} does not hold VGG19 in torchvision's layout ({error})") from error
    return vgg.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # torch's stub lacks the keyword
