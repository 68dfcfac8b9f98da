"""Networks of other architectures, built by spandrel (the extra `spandrel`) from weights that were read safely.

Nothing is known of what is inside, so such a network cannot stream: it runs in tiles (`model.tiling`). How far a tile's
cut edges spoil its inside is measured when the network is read.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from model.checkpoint import Card
from model.errors import WeightsError
from model.rrdb import mirrored

WRAPPERS = (
    *("params_ema.", "params-ema.", "params.", "model_state_dict.", "state_dict."),
    *("generator.", "net_g.", "netG.", "module.", "model.", "net."),
)
"""What stands in front of the names of published weights, the best first."""

CUT_TOLERANCE = 0.5 / 255
"""What a cut may still change where it has no effect any more; tests hold results to four times as much."""

TRIAL_ROWS = 24
TRIAL_REACH_PX = 128
"""How far a cut's effect is looked for; a network that it reaches further is tiled with this margin all the same."""

log = logging.getLogger(__name__)


class Descriptor(Protocol):
    """What is used of spandrel's `ImageModelDescriptor`."""

    model: nn.Module
    scale: int
    input_channels: int
    output_channels: int
    supports_bfloat16: bool

    def __call__(self, image: Tensor, /) -> Tensor:
        """(1, input_channels, H, W) in [0, 1] -> (1, output_channels, scale * H, scale * W) in [0, 1]."""


class ForeignNet(nn.Module):
    """A network of any architecture: RGB in, RGB `scale` times larger out.

    Args:
        multiple: what the sides of its pictures must be divisible by.
        least_px: the shortest side that it takes.
    """

    def __init__(self, descriptor: Descriptor, architecture: str, *, multiple: int, least_px: int) -> None:
        super().__init__()
        self.inner = descriptor.model
        self.architecture = architecture
        self.scale = descriptor.scale
        self.inputs = descriptor.input_channels
        self.takes_bfloat16 = descriptor.supports_bfloat16
        self.multiple = multiple
        self.margin_px = 0
        """How far the effect of a cut reaches; measured when the network is read."""
        self._descriptor = descriptor
        self._least_px = least_px

    def forward(self, x: Tensor) -> Tensor:
        """Float RGB (N, 3, H, W) in [0, 1] -> float RGB (N, 3, scale * H, scale * W) in [0, 1], one by one."""
        height, width = x.shape[2:]
        for axis in (2, 3):
            wanted = max(self._least_px, x.shape[axis])
            wanted += -wanted % self.multiple
            if wanted != x.shape[axis]:
                x = x.index_select(axis, torch.tensor(mirrored(x.shape[axis], wanted)[:wanted], device=x.device))
        made = torch.cat([self._one(picture) for picture in x.split(1)])
        return made[:, :, : self.scale * height, : self.scale * width]

    def _one(self, picture: Tensor) -> Tensor:
        """As `RRDBNet` has it: a grey network takes each colour by itself, one of four inputs an opaque alpha."""
        weight = next(self.inner.parameters())
        rgb = picture.to(weight.dtype)
        if self.inputs == 1:
            made = torch.cat([self._descriptor(rgb[:, colour : colour + 1])[:, :1] for colour in range(3)], dim=1)
        elif self.inputs == 4:
            made = self._descriptor(torch.cat((rgb, torch.ones_like(rgb[:, :1])), dim=1))[:, :3]
        else:
            made = self._descriptor(rgb)[:, :3]
        return made.float()


@dataclass(frozen=True, kw_only=True)
class ForeignCheckpoint:
    """A weight file of another architecture; its fields are those of `Checkpoint`."""

    net: ForeignNet
    card: Card
    sha256: str
    golden_input: Tensor
    golden_output: Tensor
    format: str


def foreign_network(tensors: Mapping[str, Tensor]) -> ForeignNet:
    """The network that these weights belong to.

    Raises:
        WeightsError: spandrel is not installed or does not know it, or it is not one that upscales RGB pictures.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader
    except ImportError as error:
        raise WeightsError("other architectures serve where spandrel is installed: pip install spandrel") from error
    loader = ModelLoader(device="cpu")
    reason = "nothing"
    for weights in _unwrapped(tensors):
        try:
            found = loader.load_from_state_dict(weights)
        except Exception as error:  # its architectures raise whatever foreign shapes lead to
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            continue
        if not isinstance(found, ImageModelDescriptor):
            raise WeightsError(f"is {found.architecture.name}, which does more than upscale a picture")
        return _examined(found, found.architecture.name, found.size_requirements)
    raise WeightsError(f"and spandrel knows it neither ({reason})")


def _unwrapped(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    for wrapper in WRAPPERS:
        inside = {name.removeprefix(wrapper): one for name, one in tensors.items() if name.startswith(wrapper)}
        if inside:
            yield {name.removeprefix("module."): one for name, one in inside.items()}
    yield dict(tensors)


class _Sizes(Protocol):
    minimum: int
    multiple_of: int


def _examined(descriptor: Descriptor, architecture: str, sizes: _Sizes) -> ForeignNet:
    """Refuse what cannot serve, and measure the margin."""
    channels = (descriptor.input_channels, descriptor.output_channels)
    if channels not in ((1, 1), (3, 3), (4, 4), (4, 3)):
        raise WeightsError(f"is {architecture} from {channels[0]} to {channels[1]} channels; RGB pictures have 3")
    for name, weight in descriptor.model.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise WeightsError(f"{name} holds NaN or infinity; it cannot serve")
    net = ForeignNet(descriptor, architecture, multiple=max(1, sizes.multiple_of), least_px=max(1, sizes.minimum))
    net.eval().requires_grad_(False).float()
    net.margin_px = measured_margin(net)
    log.info("%s: a cut changes %d px beside it, so tiles overlap by that", architecture, net.margin_px)
    return net


@torch.inference_mode()
def measured_margin(net: ForeignNet) -> int:
    """How many px of the input beside a cut the result differs from that of the uncut picture."""
    length = TRIAL_REACH_PX + 64
    length += -length % (2 * net.multiple)
    rows = TRIAL_ROWS + -TRIAL_ROWS % net.multiple
    chance = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, rows, length, generator=chance)
    smooth = nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False) * 3 - 1
    picture = torch.where(torch.rand(1, 1, 1, length, generator=chance) < 0.5, noise, smooth).clamp(0, 1)
    cut = 64 - 64 % net.multiple
    margins = []
    for lying in (picture, picture.flip(3)):
        for one in (lying, lying.transpose(2, 3)):
            along = 3 if one is lying else 2
            whole = net(one).narrow(along, cut * net.scale, (length - cut) * net.scale)
            part = net(one.narrow(along, cut, length - cut))
            change = (whole - part).abs().amax(dim=tuple({0, 1, 2, 3} - {along}))
            changed = (change > CUT_TOLERANCE).nonzero()
            margins.append(int(changed.max()) // net.scale + 1 if len(changed) else 0)
    return min(TRIAL_REACH_PX, max(margins))
