"""Fixtures for every test, and options for a whole run."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model.convolutions import trial
from model.convolutions.convolver import Convolver
from model.device import FORMATS
from model.rrdb import RRDBNet

_alone = "PYTEST_XDIST_WORKER" not in os.environ
THREADS = min(2, torch.get_num_threads()) if _alone else 1
torch.set_num_threads(THREADS)  # tiny tensors: more only wait for each other


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options that replace choices by timing, which may differ between machines and runs."""
    parser.addoption("--precision", choices=FORMATS, help="number format that networks compute in")
    parser.addoption(
        "--convolution", choices=("library", "ours"), help="who convolves: PyTorch, or our code if it runs"
    )


def pytest_collection_finish() -> None:
    """Keep modules and collected tests out of collections of garbage, which would go through them for 0.4 s each."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _forced(pytestconfig: pytest.Config) -> Iterator[None]:
    """Compute in the number format and by the convolution that the options of the run name."""
    precision, convolution = pytestconfig.getoption("--precision"), pytestconfig.getoption("--convolution")

    def convolver(net: RRDBNet) -> Convolver:
        weight = net.conv_body.weight
        ours = trial.our_way(weight.dtype, weight.device) if convolution == "ours" else None
        return (ours or trial.library_way(weight.dtype, weight.device))()

    with pytest.MonkeyPatch.context() as patch:
        if precision:
            patch.setattr("model.upscaler.best_dtype", lambda net, device: FORMATS[precision])
            patch.setattr("model.tiling.default_dtype", lambda net, device: FORMATS[precision])
        if convolution:
            patch.setattr("model.upscaler.best_convolver", convolver)
        yield


@pytest.fixture(autouse=True, scope="session")
def _cores() -> Iterator[None]:
    """Let services and commands find no more cores than these tests use, because each of them sets torch's threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.device.usable_cores", lambda cpus: THREADS)
        yield


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Fail if a test changes the number of threads for those that follow, which would then wait for each other."""
    yield
    assert torch.get_num_threads() == THREADS


@pytest.fixture(autouse=True, scope="session")
def _state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep jobs of services with default settings out of the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The benchmark pictures next to the clone; tests that need them are skipped if they are missing."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "bench" / "Set5" / "HR").is_dir():
        pytest.skip(f"{folder} with bench/Set5 does not lie beside the clone")
    return folder
