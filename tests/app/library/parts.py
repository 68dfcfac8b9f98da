"""A library of fake networks, and a loader that tests can block."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from app.library.files import Folder
from app.library.library import Library
from app.library.loading import DeviceFullError, LoadError, Loading, UnreadableError
from app.library.network import Edges, ModelInfo, Network
from app.pictures.picture import Pixels

NETWORK_BYTES = 100


class Nothing:
    """A fake upscaler that only has a memory size."""

    most_px = 1000
    convolution = "library"
    memory_bytes = NETWORK_BYTES

    def batch(self, pictures: Sequence[Pixels], edges: Edges = "auto") -> Sequence[Pixels]:
        raise NotImplementedError

    def stream(self, picture: Pixels, band_rows: int, *, edges: Edges = "auto") -> Iterator[Pixels]:
        raise NotImplementedError


class FakeLoader:
    """Loads a file: its text is the hash of the network; `bad` cannot be loaded. Blocks while the gate is closed."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.on_device: set[str] = set()
        self.is_full = False

    def file(self, name: str, path: Path) -> Loading:
        try:
            text = path.read_text()
        except OSError as error:
            raise UnreadableError(f"{path.name} cannot be read ({error.strerror})") from error
        self.loads.append(name)
        yield
        self.on_device.add(threading.current_thread().name)
        self.entered.set()
        assert self.gate.wait(60)
        if text.startswith("bad"):
            raise LoadError(f"{path.name} is {text}")
        if self.is_full:
            raise DeviceFullError("the device does not have enough memory for it right now")
        if text == "surprise":
            raise ArithmeticError("secret")
        return Network(info=info(name, text), upscaler=Nothing())

    def blend(self, name: str, psnr: Network, gan: Network, *, alpha: float) -> Loading:
        self.loads.append(name)
        yield
        if gan.info.sha256 == "stranger":
            raise LoadError("they are strangers")
        if self.is_full:
            raise DeviceFullError("the device does not have enough memory for it right now")
        return Network(info=info(name, f"{psnr.info.sha256} {gan.info.sha256} {alpha:.2f}"), upscaler=Nothing())


def info(name: str, sha256: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        sha256=sha256,
        scale=4,
        device="cpu",
        precision="float32",
        licence="",
        metrics={},
        whole_picture_px=1000,
        state_bytes_per_column=1,
    )


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.net").write_text(f"{name}1")
    return tmp_path


Make = Callable[..., Library]


@pytest.fixture
async def make(folder: Path, loader: FakeLoader) -> AsyncIterator[Make]:
    """Make libraries of the folder, which are closed after the test."""
    made: list[Library] = []

    async def freed() -> None:
        pass

    def one(*, max_bytes: int = 10**9, default: str = "", lazily: bool = False, opened: bool = True) -> Library:
        library = Library(
            Folder(folder, {".net", ".net.tar", ".safetensors"}),
            loader,
            on_device=asyncio.to_thread,
            ready=lambda network: None,
            freed=freed,
            max_bytes=max_bytes,
        )
        made.append(library)
        if opened:
            library.open(default=default, preferred=("b",), lazily=lazily, run=lambda step: step())
        return library

    yield one
    for library in made:
        library.close()


def states(library: Library) -> dict[str, str]:
    return {entry.name: entry.state.value for entry in library.entries()}
