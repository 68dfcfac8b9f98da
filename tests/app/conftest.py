"""A whole service with a tiny random generator, and a client that calls it without a socket."""

import io
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import httpx
import numpy
import pytest
import torch
from fastapi import FastAPI
from PIL import Image

from app.build import build_service
from app.http.application import create_app
from app.lifecycle import Lifecycle
from app.networks import DeviceEngine, NetworkLoader
from app.service import UpscaleService
from app.settings import Settings
from model.files.checkpoint import Card, write_checkpoint
from model.reliable import ReliableUpscaler
from model.rrdb import RRDBConfig, RRDBNet
from tests.app.blocked_device import BlockedDevice
from tests.app.in_process import started
from tests.app.library.parts import folder, loader, make
from tests.app.live import Live, calling, serving

__all__ = ["folder", "loader", "make"]  # fixtures


def write_tiny_model(folder: Path, name: str, *, scale: int = 4, seed: int = 0) -> Path:
    """Write a generator whose output depends on its input: random weights around a copy of the picture."""
    path = folder / f"{name}.safetensors"
    path.write_bytes(_tiny_model(name, scale, seed))
    return path


@cache
def _tiny_model(name: str, scale: int, seed: int) -> bytes:
    torch.manual_seed(seed)
    net = RRDBNet(RRDBConfig(channels=6, blocks=1, growth=4, scale=scale))
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(std=0.15)
    picture = torch.randint(0, 256, (3, 9, 13), dtype=torch.uint8)
    card = Card(name=name, recipe="none", steps=0, data="nothing", metrics={}, created="2026-01-01")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        write_checkpoint(path, net, card, golden_input=picture)
        return path.read_bytes()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path, "tiny")
    return tmp_path


@pytest.fixture
def settings(models: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the service; a test changes some with `parametrize("settings", [{...}], indirect=True)`."""
    # Small limits, so that a test reaches them with small pictures.
    small = Settings(
        models=models,
        default_model="tiny",
        max_upload_bytes=100_000,
        max_picture_px=40_000,
        whole_picture_px=3_000,
        max_width_px=2_000,
        jobs_folder=tmp_path_factory.mktemp("jobs"),
        jobs_min_free_bytes=0,
    )
    return small.model_copy(update=getattr(request, "param", {}))


@pytest.fixture
def engine() -> DeviceEngine:
    """The engine of the service, whose methods a test may replace."""
    return DeviceEngine()


class QuickLoader(NetworkLoader):
    """A loader that measures networks of one shape once, because that takes longer than all other steps of loading."""

    speeds: ClassVar[dict[tuple[int, int, torch.dtype], Sequence[tuple[int, float]]]] = {}

    def _warm_up(self, upscaler: ReliableUpscaler) -> Generator[None, None, Sequence[tuple[int, float]]]:
        shape = (upscaler.scale, upscaler.state_bytes(planes=1, width=64), upscaler.dtype)
        if shape not in self.speeds:
            self.speeds[shape] = yield from super()._warm_up(upscaler)
        return self.speeds[shape]


@pytest.fixture
async def service(settings: Settings, engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch) -> UpscaleService:
    monkeypatch.setattr("app.build.NetworkLoader", QuickLoader)
    return build_service(settings, engine=engine)


@pytest.fixture
async def life(service: UpscaleService) -> Lifecycle:
    return Lifecycle.of(service)


@pytest.fixture
async def app(life: Lifecycle) -> FastAPI:
    return create_app(life)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with started(app) as it:
        yield it


@pytest.fixture
async def live(life: Lifecycle) -> AsyncIterator[Live]:
    async with serving(life) as it:
        yield it


@pytest.fixture
async def caller(live: Live) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(live) as it:
        yield it


@pytest.fixture
def blocked(engine: DeviceEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockedDevice]:
    device = BlockedDevice(engine, monkeypatch)
    yield device
    device.gate.set()


def noise(width: int, height: int, *, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Make a picture of random pixels, so that no two look alike."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = numpy.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=numpy.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0], mode=None).convert(mode)


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """Return the bytes of a picture file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def decoded(answer: httpx.Response) -> Image.Image:
    """Return the picture in a successful answer."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    return image


def problem(answer: httpx.Response, status: int, kind: str) -> str:
    """Check that an answer is the expected problem document; returns its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"] == f"urn:esrgan-serve:problem:{kind}"
    assert set(body) - {"state"} == {"type", "title", "status", "detail"}
    assert "Traceback" not in body["detail"]
    return str(body["detail"])
