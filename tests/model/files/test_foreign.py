"""Networks of other architectures: spandrel's networks in tiles, compared with the whole picture."""

import copy
import gc
import sys
from pathlib import Path

import numpy
import pytest
import torch
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.MMRealSR import MMRealSR
from torch import Tensor, nn

from model.errors import WeightsError
from model.files.foreign import ForeignNet
from model.files.reading import read, read_any
from model.formats import native_dtypes
from model.reliable import ReliableUpscaler, load
from model.tiling import TiledUpscaler, default_dtype
from model.transfer import Pixels
from tests.model.examples import textured
from tests.model.published import randomised

CPU = torch.device("cpu")


class Compact(nn.Module):
    """SRVGG, the architecture of Real-ESRGAN's small networks, as it is published: one list, `body`."""

    def __init__(self, channels: int = 8, convolutions: int = 4, scale: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, 1, 1), nn.PReLU(channels)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, channels, 3, 1, 1), nn.PReLU(channels)]
        self.body = nn.ModuleList([*layers, nn.Conv2d(channels, 3 * scale**2, 3, 1, 1)])
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.body:
            out = layer(out)
        return nn.functional.pixel_shuffle(out, self.scale) + nn.functional.interpolate(x, scale_factor=self.scale)


@pytest.fixture(scope="module")
def compact() -> Compact:
    net = Compact()
    randomised(net, 3)
    with torch.no_grad():
        net.body[-1].weight.mul_(0.1)  # type: ignore[operator]  # torch's stub sees modules only
    return net


@pytest.fixture(scope="module")
def path(compact: Compact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small.pth"
    torch.save({"params": compact.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def net(path: Path) -> ForeignNet:
    net = read_any(path).net
    assert isinstance(net, ForeignNet)
    return net


def pixels(height: int, width: int) -> Pixels:
    return textured(height, width).permute(1, 2, 0)[None].contiguous().numpy()


def expected(compact: Compact, picture: Pixels) -> Pixels:
    with torch.inference_mode():
        made = compact(torch.from_numpy(picture).permute(0, 3, 1, 2) / 255)
    levels: Pixels = made.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return levels


def levels(made: Pixels, wanted: Pixels) -> int:
    assert made.shape == wanted.shape
    return int(numpy.abs(made.astype(int) - wanted).max())


def test_a_network_of_another_architecture_is_known_by_its_weights(net: ForeignNet, path: Path) -> None:
    assert (net.architecture, net.scale, net.inputs) == ("RealESRGAN Compact", 4, 3)
    with pytest.raises(WeightsError, match="holds no network of ESRGAN's kind"):
        read(path)


def test_it_computes_what_the_published_structure_computes(net: ForeignNet, compact: Compact) -> None:
    picture = torch.rand(2, 3, 9, 7)
    with torch.inference_mode():
        assert (net(picture) - compact(picture).clamp(0, 1)).abs().max() < 1e-5


def test_the_margin_is_what_a_cut_reaches(net: ForeignNet) -> None:
    assert 1 <= net.margin_px <= 6  # six convolutions of 3x3: a cut cannot reach further


def test_a_network_that_sees_one_pixel_only_needs_no_margin(net: ForeignNet) -> None:
    blind = copy.deepcopy(net)
    for layer in blind.inner.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    blind.measure()
    assert blind.margin_px == 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (97, 20), (230, 31), (201, 700), (410, 290)])
def test_tiles_give_the_untiled_result_to_two_levels(
    height: int, width: int, net: ForeignNet, compact: Compact
) -> None:
    upscaler = TiledUpscaler(copy.deepcopy(net), CPU, torch.float32)
    picture = pixels(height, width)
    wanted = expected(compact, picture)
    for rows in (1, 100, 1000):
        streamed = numpy.concatenate(list(upscaler.stream(picture, rows)), axis=1)
        assert levels(streamed, wanted) <= 2
    assert levels(upscaler.batch([picture])[0], wanted) <= 2


def test_without_its_margin_the_tiles_would_show(net: ForeignNet, compact: Compact) -> None:
    careless = copy.deepcopy(net)
    careless.margin_px = 0
    upscaler, picture = TiledUpscaler(careless, CPU, torch.float32), pixels(230, 31)
    streamed = numpy.concatenate(list(upscaler.stream(picture, 1)), axis=1)
    assert levels(streamed, expected(compact, picture)) > 2


def test_a_batch_of_many_sizes_and_planes_comes_back_in_order(net: ForeignNet, compact: Compact) -> None:
    upscaler = TiledUpscaler(copy.deepcopy(net), CPU, torch.float32)
    pictures = [pixels(5, 9), numpy.concatenate((pixels(8, 8), 255 - pixels(8, 8))), pixels(5, 9)]
    for made, picture in zip(upscaler.batch(pictures), pictures, strict=True):
        assert levels(made, expected(compact, picture)) <= 1


def test_a_tiled_stream_yields_rows_before_the_picture_is_read_and_then_all(net: ForeignNet) -> None:
    upscaler = TiledUpscaler(copy.deepcopy(net), CPU, torch.float32)
    heights = [rows.shape[1] for rows in upscaler.stream(pixels(500, 8), 96)]
    assert sum(heights) == 2000
    assert any(heights[: len(heights) // 2])


def test_between_bands_a_tiled_stream_has_the_memory_that_it_states(net: ForeignNet) -> None:
    upscaler = TiledUpscaler(copy.deepcopy(net), CPU, torch.float32)
    upscaler.band_px = 96 * 40
    gc.freeze()  # else each search goes through all that other tests have left
    weights, held = storages(), list[int]()
    for rows in upscaler.stream(pixels(900, 40)):
        del rows
        held.append(sum(size for place, size in storages().items() if place not in weights))
    assert max(held) <= upscaler.state_bytes(1, 40) < 2 * max(held)


def storages() -> dict[int, int]:
    """Return the bytes of all memory of floating-point tensors, by its address; levels are the caller's."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) is Tensor and one.layout is torch.strided]
    found = [one.untyped_storage() for one in tensors if one.is_floating_point() and one.device == CPU]
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def test_it_loads_tests_itself_and_serves_like_any_other(path: Path, compact: Compact) -> None:
    upscaler, checkpoint = load(path, CPU, dtype=torch.float32)
    assert (upscaler.scale, checkpoint.card.name, len(checkpoint.sha256)) == (4, "small", 64)
    assert upscaler.memory_bytes > 0
    assert upscaler.state_bytes(1, 10) > 0
    assert levels(upscaler.upscale(pixels(13, 11)), expected(compact, pixels(13, 11))) <= 1


def test_esrgan_plus_serves_as_another_architecture(tmp_path: Path) -> None:
    plus = randomised(ESRGAN(in_nc=3, out_nc=3, num_filters=4, num_blocks=1, scale=2, plus=True))
    torch.save(plus.state_dict(), tmp_path / "plus.pth")
    net = read_any(tmp_path / "plus.pth").net
    assert isinstance(net, ForeignNet)
    picture = torch.rand(1, 3, 8, 6)
    assert (net(picture) - plus(picture).clamp(0, 1)).abs().max() < 1e-5


def test_a_network_that_contains_blocks_of_esrgan_serves_as_another_architecture(tmp_path: Path) -> None:
    sizes = {"num_feats": [4, 4, 4, 8], "num_blocks": [1, 1, 1, 1], "downscales": [2, 2, 2, 1]}
    modulated = MMRealSR(
        num_in_ch=3, num_out_ch=3, scale=4, num_feat=4, num_block=5, num_grow_ch=2, num_degradation=2, **sizes
    )
    torch.save({"params_ema": modulated.state_dict()}, tmp_path / "modulated.pth")
    net = read_any(tmp_path / "modulated.pth").net
    assert isinstance(net, ForeignNet)
    assert net.architecture == "MMRealSR"


def test_an_esrgan_that_lacks_weights_is_refused_with_both_reasons(tmp_path: Path) -> None:
    weights = ESRGAN(in_nc=3, out_nc=3, num_filters=4, num_blocks=1, scale=2).state_dict()
    weights.pop(next(reversed(weights)))
    torch.save(weights, tmp_path / "cut.pth")
    with pytest.raises(
        WeightsError, match=r"cut\.pth does not hold a network of RRDB.* missing, .*spandrel cannot build"
    ):
        read_any(tmp_path / "cut.pth")


def test_unknown_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth holds no network of ESRGAN's kind.*spandrel knows it neither"):
        read_any(tmp_path / "odd.pth")


def test_foreign_weights_that_are_not_finite_are_refused(compact: Compact, tmp_path: Path) -> None:
    weights = compact.state_dict()
    weights["body.0.bias"] = weights["body.0.bias"] * float("nan")
    torch.save(weights, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match=r"nan\.pth .*body\.0\.bias holds NaN"):
        read_any(tmp_path / "nan.pth")


def test_without_spandrel_the_refusal_names_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(WeightsError, match=r"small\.pth holds no network of ESRGAN's kind.*pip install spandrel"):
        read_any(path)


class Stubborn(nn.Module):
    """Makes a tensor in float32 by itself, as networks with attention masks do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        torch.matmul(x, torch.ones(x.shape[3], 1))
        made: Tensor = self.inner(x)
        return made


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_that_raises_in_16_bits_serves_in_float32(
    dtype: torch.dtype, path: Path, compact: Compact, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = read_any(path)
    assert isinstance(checkpoint.net, ForeignNet)
    stubborn = Stubborn(checkpoint.net.inner)
    checkpoint.net._descriptor = stubborn  # type: ignore[assignment]  # all that is called of it
    upscaler = ReliableUpscaler(checkpoint, CPU, dtype=dtype)
    assert upscaler.dtype is torch.float32
    assert not upscaler.retries
    assert f"small runs in float32: in {dtype} the golden picture does not come out" in caplog.text
    assert f"does not run in {dtype}: expected m1 and m2 to have the same dtype" in caplog.text
    assert levels(upscaler.upscale(pixels(13, 11)), expected(compact, pixels(13, 11))) <= 1


def test_a_network_that_raises_in_every_format_is_refused_with_its_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ForeignNet, picture: Tensor) -> Tensor:
        raise ValueError("no\nheads")

    monkeypatch.setattr(ForeignNet, "_one", fail)
    with pytest.raises(WeightsError, match=r"is RealESRGAN Compact, which fails on a test picture \(no heads\)"):
        read_any(path)


def test_edges_wrap_in_tiles_as_well(net: ForeignNet) -> None:
    upscaler = TiledUpscaler(copy.deepcopy(net), CPU, torch.float32)
    picture = textured(40, 300).permute(1, 2, 0)[None].numpy()
    made, of_rolled = upscaler.batch([picture, numpy.roll(picture, (13, 70), (1, 2))], "wrap")
    assert numpy.abs(numpy.roll(made, (4 * 13, 4 * 70), (1, 2)).astype(int) - of_rolled).max() <= 1
    unwrapped = upscaler.batch([picture])[0]
    assert numpy.abs(unwrapped[:, 0].astype(int) - made[:, 0]).max() > 1


def test_it_runs_in_float32_on_every_cpu_unless_a_format_is_named(
    net: ForeignNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert default_dtype(net, CPU) is torch.float32
    assert native_dtypes(net, CPU) == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize(
    ("capability", "taken", "dtype"),
    [
        ((7, 0), True, torch.float32),
        ((7, 5), True, torch.float16),
        ((9, 0), True, torch.float16),
        ((9, 0), False, torch.float32),
    ],
)
def test_it_runs_in_float16_on_gpus_that_are_fast_in_it(
    capability: tuple[int, int], taken: bool, dtype: torch.dtype, net: ForeignNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(net, "dtypes", (torch.float32, torch.float16) if taken else (torch.float32,))
    assert default_dtype(net, torch.device("cuda")) is dtype
    assert dtype in native_dtypes(net, torch.device("cuda"))


def test_infinity_in_float16_is_no_white_picture_but_done_again_in_float32(path: Path) -> None:
    checkpoint = read_any(path)
    assert isinstance(checkpoint.net, ForeignNet)
    upscaler = ReliableUpscaler(checkpoint, CPU, dtype=torch.float16)
    assert upscaler.dtype is torch.float16
    *_, weight, _ = checkpoint.net.inner.parameters()  # those of the last convolution
    weight[:4], weight[4:8] = 6e4, -6e4  # infinite in one half of red, and in the other minus infinite
    upscaler.upscale(pixels(13, 11))
    assert upscaler.retries["float32"] == 1
