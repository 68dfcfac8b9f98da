"""Networks of other architectures, built by spandrel (the extra `spandrel`) from weights that were read safely.

Their layers are unknown, so such a network cannot stream: it runs in tiles (`model.tiling`). The positions where tiles
may begin, and how far a cut changes the pixels next to it, are measured when the network is read (`model.reach`).
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from model.edges import mirrored
from model.errors import WeightsError, one_line
from model.files.building import built
from model.files.by_shape import under_prefixes
from model.files.checkpoint import Card
from model.files.dialects import PREFERRED
from model.reach import Probe

MAX_SCALE = 16
"""Maximum scale of a network; the last convolution of some has few weights for any scale."""

MAX_WEIGHT_SETS = 20
"""Maximum number of prefixes under which a network is built: each takes up to some seconds."""

log = logging.getLogger(__name__)


class Descriptor(Protocol):
    """The part of spandrel's `ImageModelDescriptor` that is used."""

    model: nn.Module
    scale: int
    input_channels: int
    output_channels: int
    supports_half: bool
    supports_bfloat16: bool

    def __call__(self, image: Tensor, /) -> Tensor:
        """(1, input_channels, H, W) in [0, 1] -> (1, output_channels, scale * H, scale * W) in [0, 1]."""


class ForeignNet(nn.Module):
    """A network of any architecture: RGB in, RGB `scale` times larger out.

    Args:
        multiple: the sides of its pictures must be divisible by this.
        min_px: minimum side of a picture.

    Attributes:
        dtypes: number formats that the architecture can run in.
        period_px: tiles that begin on a multiple of this have the same pixels as the whole picture.
        margin_px: distance up to which a cut there changes pixels.
    """

    def __init__(self, descriptor: Descriptor, architecture: str, *, multiple: int, min_px: int) -> None:
        super().__init__()
        self.inner = descriptor.model
        self.architecture = architecture
        self.scale = descriptor.scale
        self.inputs = descriptor.input_channels
        halves = {torch.float16: descriptor.supports_half, torch.bfloat16: descriptor.supports_bfloat16}
        self.dtypes = (torch.float32, *(dtype for dtype, taken in halves.items() if taken))
        self.multiple = multiple
        self.period_px = multiple
        self.margin_px = 0
        self._descriptor = descriptor
        self._min_px = min_px
        self.inner.register_forward_hook(_not_infinite)

    def forward(self, x: Tensor) -> Tensor:
        """Float RGB (N, 3, H, W) in [0, 1] -> float RGB (N, 3, scale * H, scale * W) in [0, 1], one by one."""
        height, width = x.shape[2:]
        for axis in (2, 3):
            wanted = max(self._min_px, x.shape[axis])
            wanted += -wanted % self.multiple
            if wanted != x.shape[axis]:
                x = x.index_select(axis, torch.tensor(mirrored(x.shape[axis], wanted)[:wanted], device=x.device))
        made = torch.cat([self._one(picture) for picture in x.split(1)])
        return made[:, :, : self.scale * height, : self.scale * width]

    def measure(self) -> None:
        """Measure where tiles may begin, and how far a cut changes pixels."""
        probe = Probe(self, self.scale, multiple=self.multiple, min_px=self._min_px)
        self.period_px = probe.period_px()
        self.margin_px = probe.margin_px(self.period_px)
        # Networks pad a picture to whole windows by mirroring, which needs more than half a window.
        self._min_px = max(self._min_px, self.period_px // 2 + 1)

    def _one(self, picture: Tensor) -> Tensor:
        """Upscale one picture. A grey network gets each colour by itself; one with four inputs an opaque alpha."""
        weight = next(self.inner.parameters())
        rgb = picture.to(weight.dtype)
        if self.inputs == 1:
            made = torch.cat([self._descriptor(rgb[:, colour : colour + 1])[:, :1] for colour in range(3)], dim=1)
        elif self.inputs == 4:
            made = self._descriptor(torch.cat((rgb, torch.ones_like(rgb[:, :1])), dim=1))[:, :3]
        else:
            made = self._descriptor(rgb)[:, :3]
        return made.float()


def _not_infinite(_: nn.Module, __: object, made: object) -> object:
    """Turn infinity into NaN, which says that float16 was not enough: spandrel clamps infinity to white."""
    return made + 0 * made if isinstance(made, Tensor) and made.dtype is torch.float16 else made


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
    """Build the network of these weights.

    Raises:
        WeightsError: spandrel is not installed or does not know the network, or it does not upscale RGB pictures.
    """
    try:
        from spandrel import ImageModelDescriptor
    except ImportError as error:
        raise WeightsError("other architectures serve where spandrel is installed: pip install spandrel") from error
    reasons: list[str] = []
    for weights in _weight_sets(tensors):
        try:
            found = built(weights)
        except Exception as error:  # architectures raise all kinds of errors for unexpected shapes
            reasons.append(one_line(error))
            if len(reasons) == MAX_WEIGHT_SETS:
                break
            continue
        if isinstance(found, ImageModelDescriptor) and found.purpose != "FaceSR":
            return _examined(found, found.architecture.name, found.size_requirements)
        if found is not None:
            raise WeightsError(f"is {found.architecture.name}, which does more than upscale a picture")
    if reasons:
        raise WeightsError(f"and spandrel cannot build it ({reasons[0]}); its weights may be incomplete or renamed")
    raise WeightsError("and spandrel knows it neither; docs/models.md lists the names of weights that are known")


def _weight_sets(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield all weights, then those under each prefix, without it: moving averages first, then short prefixes."""
    found = under_prefixes(tensors)
    for prefix in sorted(found, key=lambda prefix: (prefix != "", _rank(prefix), prefix.count("."))):
        yield {name.removeprefix(prefix): one for name, one in found[prefix].items()}


def _rank(prefix: str) -> int:
    return next((rank for rank, word in enumerate(PREFERRED) if word in prefix.lower()), len(PREFERRED))


class _Sizes(Protocol):
    minimum: int
    multiple_of: int


def _examined(descriptor: Descriptor, architecture: str, sizes: _Sizes) -> ForeignNet:
    """Check that a network can serve, and measure its margin."""
    channels = (descriptor.input_channels, descriptor.output_channels)
    if channels not in ((1, 1), (3, 3), (4, 4), (4, 3)):
        raise WeightsError(f"is {architecture} from {channels[0]} to {channels[1]} channels; RGB pictures have 3")
    if not 1 <= descriptor.scale <= MAX_SCALE:
        raise WeightsError(f"is {architecture} of scale {descriptor.scale}; scales of 1 to {MAX_SCALE} can serve")
    for name, weight in descriptor.model.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise WeightsError(f"{name} holds NaN or infinity; it cannot serve")
    net = ForeignNet(descriptor, architecture, multiple=max(1, sizes.multiple_of), min_px=max(1, sizes.minimum))
    net.eval().requires_grad_(False).float()
    try:
        net.measure()
    except Exception as error:  # architectures raise all kinds of errors
        raise WeightsError(f"is {architecture}, which fails on a test picture ({one_line(error)})") from error
    log.info(
        "%s: tiles begin on multiples of %d px and overlap by %d px, as far as a cut is seen",
        *(architecture, net.period_px, net.margin_px),
    )
    return net
