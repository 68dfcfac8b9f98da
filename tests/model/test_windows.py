"""Networks with window attention: their tiles lie on the grid of the windows, for any period."""

import copy
from collections.abc import Callable

import numpy
import pytest
import torch
from spandrel.architectures.Swin2SR import Swin2SR
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

from model.files.foreign import ForeignNet, foreign_network
from model.reach import Probe
from model.tiling import TiledUpscaler
from model.transfer import Pixels
from tests.model.examples import textured

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # by the architectures, as they are made

CPU = torch.device("cpu")


@torch.no_grad()
def lively(net: nn.Module) -> nn.Module:
    """Random weights with which the place of a window changes many levels of the result."""
    chance = torch.Generator().manual_seed(0)
    for name, weight in net.named_parameters():
        if weight.dim() > 1 and weight.numel():
            weight.copy_(torch.randn(weight.shape, generator=chance) * (0.4 / weight[0].numel()) ** 0.5)
        elif "norm" not in name:
            weight.copy_(torch.randn(weight.shape, generator=chance) * 0.02)
    return net.eval()


def swin_ir(window: int) -> nn.Module:
    sizes = {"embed_dim": 8, "depths": [2], "num_heads": [2], "mlp_ratio": 1, "resi_connection": "1conv"}
    net: nn.Module = SwinIR(img_size=2 * window, window_size=window, upscale=2, upsampler="pixelshuffledirect", **sizes)
    return net


def swin2_sr() -> nn.Module:
    sizes = {"embed_dim": 8, "depths": [2], "num_heads": [2], "mlp_ratio": 1, "resi_connection": "1conv"}
    net: nn.Module = Swin2SR(img_size=16, window_size=8, upscale=2, upsampler="pixelshuffledirect", **sizes)
    return net


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "SwinIR of 12": (lambda: swin_ir(12), 12),
    "SwinIR of 24": (lambda: swin_ir(24), 24),
    "Swin2SR of 8": (swin2_sr, 8),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[ForeignNet, int]:
    make, window = NETWORKS[request.param]
    return foreign_network(lively(make()).state_dict()), window


def whole(net: ForeignNet, picture: Pixels, dtype: torch.dtype) -> Pixels:
    net = copy.deepcopy(net).to(dtype)
    with torch.inference_mode():
        made = net(torch.from_numpy(picture).permute(0, 3, 1, 2) / 255)
    levels: Pixels = made.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return levels


def pixels(height: int, width: int) -> Pixels:
    return textured(height, width).permute(1, 2, 0)[None].contiguous().numpy()


def test_the_grid_is_found(network: tuple[ForeignNet, int]) -> None:
    net, window = network
    assert net.period_px == window
    assert 1 <= net.margin_px <= 4 * window


@pytest.mark.parametrize(("height", "width"), [(17, 401), (230, 19)])
def test_tiles_give_the_untiled_result(network: tuple[ForeignNet, int], height: int, width: int) -> None:
    net, _ = network
    picture = pixels(height, width)
    streamed = list(TiledUpscaler(copy.deepcopy(net), CPU, torch.float32).stream(picture, 1))
    made = numpy.concatenate(streamed, axis=1).astype(int)
    assert numpy.abs(made - whole(net, picture, torch.float32)).max() <= 1


def test_off_the_grid_the_tiles_would_show() -> None:
    net = foreign_network(lively(swin_ir(12)).state_dict())
    net.period_px = 1
    picture = pixels(17, 401)
    made = TiledUpscaler(copy.deepcopy(net), CPU, torch.float32).upscale(picture).astype(int)
    assert numpy.abs(made - whole(net, picture, torch.float32)).max() > 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30), (5, 3), (23, 12)])
def test_pictures_smaller_than_a_window_come_out_in_their_size(
    network: tuple[ForeignNet, int], height: int, width: int
) -> None:
    net, _ = network
    made = TiledUpscaler(copy.deepcopy(net), CPU, torch.float32).batch([pixels(height, width)])[0]
    assert made.shape == (1, 2 * height, 2 * width, 3)
    assert made.any()


class Convolution(nn.Module):
    """Sees 3 px around each pixel, and the mean of the whole picture if `share` is not 0."""

    def __init__(self, share: float = 0.0) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 7, 1, 3) + self.share * x.mean(dim=(2, 3), keepdim=True)


def test_a_network_without_windows_has_no_grid() -> None:
    probe = Probe(Convolution(), 1)
    assert (probe.period_px(), probe.margin_px(1)) == (1, 3)


def test_a_network_that_sees_the_whole_picture_is_tiled_with_the_widest_margin() -> None:
    probe = Probe(Convolution(share=1.0), 1)
    assert probe.margin_px(probe.period_px()) == 128


def test_a_grid_shows_although_the_network_also_sees_the_whole_picture() -> None:
    def windows(x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        means = nn.functional.avg_pool2d(x, 12, 12, ceil_mode=True)
        return means.repeat_interleave(12, 2).repeat_interleave(12, 3)[:, :, :height, :width] + 0.01 * x.mean()

    assert Probe(windows, 1).period_px() % 12 == 0


def test_sides_that_a_network_pads_to_are_part_of_its_grid() -> None:
    assert Probe(Convolution(), 1, multiple=10).period_px() % 10 == 0
