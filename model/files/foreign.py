"""Networks of other architectures, built by spandrel (the extra `spandrel`) from weights that were read safely.

Nothing is known of what is inside, so such a network cannot stream: it runs in tiles (`model.tiling`). Where tiles may
begin and how far a cut changes the pixels next to it is measured when the network is read (`model.reach`).
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from model.errors import WeightsError, one_line
from model.files.checkpoint import Card
from model.reach import Probe
from model.rrdb import mirrored

WRAPPERS = (
    *("params_ema.", "params-ema.", "params.", "model_state_dict.", "state_dict."),
    *("generator.", "net_g.", "netG.", "module.", "model.", "net."),
)
"""What stands in front of the names of published weights, the best first."""

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

    Attributes:
        period_px: tiles give the same pixels as the whole picture where they begin on a multiple of this.
        margin_px: how far a cut there changes the pixels next to it.
    """

    def __init__(self, descriptor: Descriptor, architecture: str, *, multiple: int, least_px: int) -> None:
        super().__init__()
        self.inner = descriptor.model
        self.architecture = architecture
        self.scale = descriptor.scale
        self.inputs = descriptor.input_channels
        self.takes_bfloat16 = descriptor.supports_bfloat16
        self.multiple = multiple
        self.period_px = multiple
        self.margin_px = 0
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

    def measure(self) -> None:
        """Find out where tiles may begin, and how far a cut is seen."""
        probe = Probe(self, self.scale, multiple=self.multiple, least_px=self._least_px)
        self.period_px = probe.period_px()
        self.margin_px = probe.margin_px(self.period_px)
        # Networks mirror a picture up to whole windows, which takes more than half a window to mirror.
        self._least_px = max(self._least_px, self.period_px // 2 + 1)

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
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ImportError as error:
        raise WeightsError("other architectures serve where spandrel is installed: pip install spandrel") from error
    loader = ModelLoader(device="cpu")
    reasons: list[str] = []
    for weights in _unwrapped(tensors):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other projects' code, which says them to its authors
                found = loader.load_from_state_dict(weights)
        except Exception as error:  # its architectures raise whatever foreign shapes lead to
            reasons += [] if isinstance(error, UnsupportedModelError) else [one_line(error)]
            continue
        if not isinstance(found, ImageModelDescriptor):
            raise WeightsError(f"is {found.architecture.name}, which does more than upscale a picture")
        return _examined(found, found.architecture.name, found.size_requirements)
    if reasons:
        raise WeightsError(f"and spandrel cannot build it ({reasons[0]}); its weights may be incomplete or renamed")
    raise WeightsError("and spandrel knows it neither; docs/models.md lists the names of weights that are known")


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
    try:
        net.measure()
    except Exception as error:  # its architecture raises whatever it trips over
        raise WeightsError(f"is {architecture}, which fails on a test picture ({one_line(error)})") from error
    log.info(
        "%s: tiles begin on multiples of %d px and overlap by %d px, as far as a cut is seen",
        *(architecture, net.period_px, net.margin_px),
    )
    return net
