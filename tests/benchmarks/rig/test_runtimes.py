"""Every runtime computes the network that it is measured with."""

import os

import numpy
import pytest
import torch

from benchmarks.rig import runtimes
from benchmarks.rig.networks import random_generator
from benchmarks.rig.pictures import smooth_noise
from benchmarks.rig.runtimes import Build, NotHere, builders, eager, exact_output, ours
from benchmarks.rig.timing import fidelity_of
from model.rrdb import RRDBConfig
from model.transfer import Pixels

CPU = torch.device("cpu")
HEIGHT, WIDTH = 13, 19
NET = random_generator(RRDBConfig(channels=8, blocks=2, growth=4, scale=4))


@pytest.fixture
def picture() -> Pixels:
    return smooth_noise(HEIGHT, WIDTH)


def known() -> dict[str, Build]:
    """Return the runtimes under names that do not depend on which number format is the fastest at the moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtimes, "best_dtype", lambda *_: torch.bfloat16)
        return builders(NET, CPU, HEIGHT, WIDTH)


@pytest.mark.parametrize("name", known())
def test_a_runtime_gives_the_picture_of_the_float32_network(name: str, picture: Pixels) -> None:
    if "OpenVINO" in name and "jemalloc" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("OpenVINO aborts the process under jemalloc; `make bench-runtimes` runs without it")
    try:
        runtime = known()[name]()
    except (ModuleNotFoundError, NotHere) as reason:
        pytest.skip(str(reason))
    expected = exact_output(NET, picture)[0]
    assert expected.std() > 20
    fidelity = fidelity_of(runtime(picture)[0], expected)
    assert fidelity.psnr_db > (60 if "float32" in name else 40)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_runtime_knows_other_scales(scale: int, picture: Pixels) -> None:
    pytest.importorskip("ncnn")
    net = random_generator(RRDBConfig(channels=4, blocks=1, growth=2, scale=scale))
    upscaled = builders(net, CPU, HEIGHT, WIDTH)["ncnn, float32"]()(picture)[0]
    assert fidelity_of(upscaled, exact_output(net, picture)[0]).psnr_db > 60


@pytest.mark.parametrize(
    ("device", "others"),
    [("cuda", ("OpenVINO", "ONNX", "ncnn")), ("cpu", ("torch.compile",))],
)
def test_a_runtime_is_measured_only_where_it_belongs(
    device: str, others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in ("fast_dtype", "best_dtype"):  # they ask the device, which may not be here
        monkeypatch.setattr(runtimes, choice, lambda *_: torch.bfloat16)
    for name, build in builders(NET, torch.device(device), HEIGHT, WIDTH).items():
        if name.startswith(others):
            with pytest.raises(NotHere, match="only"):
                build()


@pytest.mark.slow
def test_the_compiled_network_is_the_network(picture: Pixels) -> None:
    runtime = eager(NET, CPU, torch.float32, torch.channels_last, compiled="default")
    assert fidelity_of(runtime(picture)[0], exact_output(NET, picture)[0]).psnr_db > 60


def test_our_runtime_leaves_the_network_that_it_was_given(picture: Pixels) -> None:
    before = {name: weight.clone() for name, weight in NET.state_dict().items()}
    upscaled = ours(NET, CPU)(picture)
    assert upscaled.shape == (1, 4 * HEIGHT, 4 * WIDTH, 3)
    assert all(torch.equal(weight, before[name]) for name, weight in NET.state_dict().items())


def test_equal_pictures_are_infinitely_near() -> None:
    black = numpy.zeros((2, 2, 3), numpy.uint8)
    assert fidelity_of(black, black).psnr_db == float("inf")
    assert fidelity_of(black + 255, black).psnr_db == 0
    assert fidelity_of(black + 255, black).worst_levels == 255
