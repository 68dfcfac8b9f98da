"""LPIPS v0.1 with AlexNet: how different two pictures look, learned from the judgements of people.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", arXiv 1801.03924, section 3.
Super-resolution reports it on whole RGB pictures: unlike PSNR and SSIM, without a border cut.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.errors import WeightsError
from training.torchvision_weights import feature_weights

LINEAR = Path(__file__).parent / "weights" / "lpips-alex-v0.1.safetensors"
MIN_LPIPS_PX = 31
"""Minimum of both sides: smaller pictures leave nothing for AlexNet's second pooling."""

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""RGB statistics of ImageNet for pixels in [-1, 1], as LPIPS rounded them."""


class LPIPS(nn.Module):
    """The distance of pictures in the feature space of AlexNet; `load_lpips` makes one with its weights.

    The features have the layout of torchvision's AlexNet; they and the five linear layers are float32 and frozen.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )
        self.linear = nn.ParameterList([torch.zeros(channels) for channels in (64, 192, 384, 256, 256)])
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def distance(self, picture: Tensor, reference: Tensor) -> float:
        """LPIPS, 0 for equal pictures; lower is more alike.

        Args:
            picture, reference: uint8 RGB (3, H, W), at least 31 x 31 px, on any device.

        Raises:
            ValueError: the sizes differ, or are too small for AlexNet.
        """
        if picture.shape != reference.shape:
            raise ValueError(f"cannot compare {tuple(picture.shape)} with {tuple(reference.shape)}: the sizes differ")
        height, width = picture.shape[-2:]
        if min(height, width) < MIN_LPIPS_PX:
            raise ValueError(
                f"LPIPS needs at least {MIN_LPIPS_PX} x {MIN_LPIPS_PX} px, and the picture has {width} x {height}"
            )
        total = 0.0
        pairs = zip(self._directions(picture), self._directions(reference), strict=True)
        for weights, (a, b) in zip(self.linear, pairs, strict=True):
            per_channel = (a - b).square().mean(dim=(1, 2))
            total += float(weights @ per_channel)  # equation 1: every layer is one term of the sum
        return total

    def _directions(self, picture: Tensor) -> list[Tensor]:
        """Compute the outputs (channels, h, w) of the five ReLUs, with a vector of length one at every position."""
        values = (picture.to(self.shift.device).float() / 127.5 - 1 - self.shift) / self.scale
        directions = []
        for layer in self.features:
            values = layer(values)
            if isinstance(layer, nn.ReLU):
                directions.append(values / (values.norm(dim=0) + 1e-10))
        return directions


def load_lpips(alexnet: Path | None) -> LPIPS:
    """LPIPS v0.1 on the CPU.

    Args:
        alexnet: .safetensors or .pth file with AlexNet's ImageNet weights under torchvision's names (the classifier
            may be missing); None downloads torchvision's own, 233 MiB, and keeps them in its cache.

    Raises:
        WeightsError: the file does not hold AlexNet's features, or the download failed.
    """
    features, _ = feature_weights(alexnet, "AlexNet_Weights.IMAGENET1K_V1", "--alexnet-weights")
    metric = LPIPS()
    try:
        metric.load_state_dict(features | load_file(LINEAR))
    except RuntimeError as error:
        raise WeightsError(f"{alexnet} does not hold the features of torchvision's AlexNet ({error})") from error
    return metric
