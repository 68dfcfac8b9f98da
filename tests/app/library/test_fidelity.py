"""Blends of a network trained for PSNR and one trained with a GAN."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy
import pytest
import torch

from app.build import build_service
from app.errors import DeadlinePassed, Unavailable, Unprocessable
from app.http.application import create_app
from app.library.fidelity import Pair, pairs
from app.library.library import Library
from app.lifecycle import Lifecycle
from app.settings import Settings
from model.ensemble import ORIENTATIONS
from model.files.checkpoint import read_checkpoint, reference_output, write_checkpoint
from model.interpolation import interpolate
from tests.app.conftest import decoded, encoded, noise, problem, write_tiny_model
from tests.app.in_process import started
from tests.app.library.parts import NETWORK_BYTES, FakeLoader, Make, states

pytestmark = pytest.mark.anyio


async def version(library: Library, name: str, fidelity: float) -> str:
    async with library.lease(name, fidelity) as network:
        return network.info.version


@pytest.fixture
def pair(folder: Path) -> Pair:
    (folder / "x-psnr.net").write_text("p1")
    (folder / "x-gan.net").write_text("g1")
    return Pair(psnr="x-psnr", gan="x-gan")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["compact-psnr-x4", "compact-esrgan-x4", "other"], Pair(psnr="compact-psnr-x4", gan="compact-esrgan-x4")),
        (["RRDB_PSNR_x4", "RRDB_ESRGAN_x4"], Pair(psnr="RRDB_PSNR_x4", gan="RRDB_ESRGAN_x4")),
        (["a-gan", "a-psnr", "a-esrgan"], Pair(psnr="a-psnr", gan="a-esrgan")),
        (["realesrgan-x4", "realpsnr-x4", "a-psnr", "b-gan"], None),
    ],
)
def test_a_pair_differs_in_one_word(names: list[str], expected: Pair | None) -> None:
    found = pairs(names)
    assert set(found.values()) == ({expected} if expected else set())
    if expected:
        assert set(found) == {expected.psnr, expected.gan}


@pytest.mark.parametrize(
    ("fidelity", "expected"),
    [
        (1, "x-psnr@p1"),
        (0, "x-gan@g1"),
        (0.98, "x-psnr@p1"),
        (0.75, "x-psnr+x-gan:0.75@p1 g1 0.25"),
        (0.26, "x-psnr+x-gan:0.25@p1 g1 0.75"),
    ],
)
async def test_fidelity_1_and_0_are_the_two_models_with_steps_in_between(
    make: Make, pair: Pair, fidelity: float, expected: str
) -> None:
    library = make()
    assert await version(library, pair.psnr, fidelity) == expected
    assert await version(library, pair.gan, fidelity) == expected


async def test_a_blend_is_made_once_and_again_after_one_of_the_two_changed(
    make: Make, folder: Path, pair: Pair, loader: FakeLoader
) -> None:
    library = make()
    loader.loads.clear()
    await asyncio.gather(*(version(library, pair.psnr, 0.5) for _ in range(5)))
    assert loader.loads == ["x-psnr+x-gan:0.50"]
    before_bytes = library.memory_bytes
    (folder / "x-gan.net").write_text("g2")
    await library.reload("x-gan")
    assert await version(library, pair.psnr, 0.5) == "x-psnr+x-gan:0.50@p1 g2 0.50"
    assert library.memory_bytes == before_bytes


async def test_blends_count_as_memory_and_are_evicted_like_others(make: Make, pair: Pair) -> None:
    library = make(max_bytes=3 * NETWORK_BYTES, lazily=True)
    for fidelity in (0.1, 0.2, 0.3, 0.4, 0.1):
        await version(library, pair.psnr, fidelity)
    assert library.memory_bytes == 3 * NETWORK_BYTES
    assert "x-psnr+x-gan:0.10" not in states(library)  # only files are listed as models


async def test_the_error_for_a_model_without_a_pair_lists_those_with_one(make: Make, pair: Pair) -> None:
    with pytest.raises(Unprocessable, match=r"a is not one of a pair; .* \(x-psnr and x-gan\)"):
        await version(make(), "a", 0.5)


async def test_unrelated_models_cannot_be_blended(make: Make, folder: Path, pair: Pair) -> None:
    (folder / "x-gan.net").write_text("stranger")
    with pytest.raises(Unprocessable, match=r"fidelity = 0\.5: they are strangers"):
        await version(make(), pair.psnr, 0.5)


async def test_a_blend_without_memory_on_the_device_is_tried_again_by_each_request(
    make: Make, pair: Pair, loader: FakeLoader
) -> None:
    library = make()
    loader.is_full = True
    with pytest.raises(Unavailable, match="does not have enough memory"):
        await version(library, pair.psnr, 0.5)
    loader.is_full = False
    assert await version(library, pair.psnr, 0.5) == "x-psnr+x-gan:0.50@p1 g1 0.50"


async def test_a_blend_whose_caller_leaves_before_it_is_made_is_made_for_the_next(
    make: Make, pair: Pair, loader: FakeLoader
) -> None:
    library = make()
    loader.entered.clear()
    loader.gate.clear()
    reload = asyncio.create_task(library.reload("a"))  # other loads wait for it
    await asyncio.to_thread(loader.entered.wait, 60)
    impatient = asyncio.create_task(version(library, pair.psnr, 0.5))
    await asyncio.sleep(0.05)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    loader.gate.set()
    await reload
    assert await version(library, pair.psnr, 0.5) == "x-psnr+x-gan:0.50@p1 g1 0.50"


async def test_a_load_that_takes_longer_than_the_deadline_continues_for_others(
    make: Make, pair: Pair, loader: FakeLoader
) -> None:
    library = make(lazily=True)
    loader.gate.clear()
    with pytest.raises(DeadlinePassed, match="still being loaded"):
        async with library.lease("a", deadline_s=asyncio.get_running_loop().time() + 0.01):
            pass
    loader.gate.set()
    async with library.lease("a") as network:
        assert network.info.name == "a"
    assert loader.loads.count("a") == 1


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A service with two related tiny networks, and an unrelated one whose name suggests the same."""
    origin = read_checkpoint(write_tiny_model(tmp_path, "tiny-psnr-x4"))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in origin.net.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    write_checkpoint(tmp_path / "tiny-esrgan-x4.safetensors", origin.net, origin.card, golden_input=origin.golden_input)
    shutil.copy(tmp_path / "tiny-psnr-x4.safetensors", tmp_path / "odd-psnr.safetensors")
    write_tiny_model(tmp_path, "odd-gan", scale=2, seed=5)
    app = create_app(Lifecycle.of(build_service(Settings(models=tmp_path, default_model="tiny-psnr-x4"))))
    async with started(app) as it:
        yield it


async def test_a_blend_is_the_interpolated_network(served: httpx.AsyncClient, tmp_path: Path) -> None:
    image = noise(9, 7)
    answer = await served.post("/v1/upscale?fidelity=0.7", content=encoded(image))
    psnr, gan = (read_checkpoint(tmp_path / f"tiny-{kind}-x4.safetensors") for kind in ("psnr", "esrgan"))
    picture = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)
    expected = reference_output(interpolate(psnr, gan, 0.3), picture).permute(1, 2, 0).numpy()
    assert numpy.abs(numpy.asarray(decoded(answer)).astype(int) - expected).max() <= 2
    assert answer.headers["x-model"].startswith("tiny-psnr-x4+tiny-esrgan-x4:0.70@")


async def test_an_ensemble_of_a_blend_is_the_mean_of_its_turns(served: httpx.AsyncClient, tmp_path: Path) -> None:
    image = noise(9, 7)
    answer = await served.post("/v1/upscale?fidelity=0.7&ensemble=true", content=encoded(image))
    psnr, gan = (read_checkpoint(tmp_path / f"tiny-{kind}-x4.safetensors") for kind in ("psnr", "esrgan"))
    between, total = interpolate(psnr, gan, 0.3), numpy.zeros((1, 28, 36, 3))
    for turn in ORIENTATIONS:
        picture = torch.from_numpy(turn.of(numpy.array(image)[None])[0].copy()).permute(2, 0, 1)
        turn.of(total)[0] += reference_output(between, picture).permute(1, 2, 0).numpy()
    assert numpy.abs(numpy.asarray(decoded(answer)) - total[0] / 8).max() <= 2
    assert answer.headers["x-model"].startswith("tiny-psnr-x4+tiny-esrgan-x4:0.70@")


async def test_fidelity_is_refused_where_it_is_not_available(served: httpx.AsyncClient) -> None:
    upload = encoded(noise(9, 7))
    assert "equal" in problem(
        await served.post("/v1/upscale?model=odd-gan&fidelity=0.5", content=upload), 422, "unprocessable"
    )
    for wrong in ("1.01", "-0.1", "nan", "much"):
        problem(await served.post(f"/v1/upscale?fidelity={wrong}", content=upload), 422, "unprocessable")
    listed = {model["name"]: model for model in (await served.get("/v1/models")).json()["models"]}
    assert listed["tiny-esrgan-x4"]["fidelity"] == {"psnr": "tiny-psnr-x4", "gan": "tiny-esrgan-x4"}
