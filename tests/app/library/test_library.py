"""The library of models, with fake networks: loading, use, eviction and failure."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.errors import NoSuchModel, Unavailable
from app.library.entry import ModelState
from app.library.library import NoModelError
from tests.app.library.parts import NETWORK_BYTES, FakeLoader, Make, states

pytestmark = pytest.mark.anyio


async def test_every_file_is_a_model_named_by_its_stem(make: Make) -> None:
    library = make()
    assert states(library) == {"a": "ready", "b": "ready", "c": "ready"}
    assert library.default == "b"
    async with library.lease("a") as network:
        assert network.info.version == "a@a1"


@pytest.mark.parametrize(
    ("file", "name"),
    [("4x Ultra Sharp (2).net", "4x-Ultra-Sharp-2"), ("größe.net", "gr-e"), ("A.B_c-1.NET", "A.B_c-1")],
)
async def test_characters_not_allowed_in_a_url_become_a_dash(make: Make, folder: Path, file: str, name: str) -> None:
    (folder / file).write_text("x")
    assert name in states(make())


async def test_among_files_with_one_stem_safetensors_gets_the_name(make: Make, folder: Path) -> None:
    (folder / "a.safetensors").write_text("safe")
    library = make()
    assert library.find("a").info.sha256 == "safe"  # type: ignore[union-attr]  # it is ready
    assert library.find("a.net").info.sha256 == "a1"  # type: ignore[union-attr]  # it is ready


async def test_a_lazy_library_loads_the_default_first_and_others_on_request(make: Make, loader: FakeLoader) -> None:
    library = make(lazily=True)
    assert states(library) == {"a": "unloaded", "b": "ready", "c": "unloaded"}
    async with library.lease("c"):
        assert states(library) == {"a": "unloaded", "b": "ready", "c": "ready"}


async def test_many_requests_for_an_unloaded_model_wait_for_one_load(make: Make, loader: FakeLoader) -> None:
    library = make(lazily=True)
    loader.loads.clear()
    loader.gate.clear()

    async def use() -> str:
        async with library.lease("a") as network:
            return network.info.name

    waiting = [asyncio.create_task(use()) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert states(library)["a"] == "loading"
    waiting[0].cancel()  # a caller that leaves does not cancel the load
    loader.gate.set()
    assert await asyncio.gather(*waiting[1:]) == ["a"] * 19
    assert loader.loads == ["a"]


async def test_a_bad_file_is_listed_as_failed_and_the_others_serve(make: Make, folder: Path) -> None:
    (folder / "b.net").write_text("bad")
    library = make()
    assert states(library) == {"a": "ready", "b": "failed", "c": "ready"}
    assert library.find("b").reason == "b.net is bad"
    assert library.default == "a"
    with pytest.raises(Unavailable, match=r"b cannot serve: b\.net is bad"):
        async with library.lease("b"):
            pass


async def test_a_named_default_that_is_bad_lets_the_others_serve(make: Make, folder: Path) -> None:
    (folder / "c.net").write_text("bad")
    library = make(default="c", lazily=True)
    assert library.default == "c"
    assert states(library) == {"a": "unloaded", "b": "ready", "c": "failed"}


async def test_an_unexpected_error_is_described_only_in_the_log(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "c.net").write_text("surprise")
    library = make()
    assert library.find("c").state is ModelState.FAILED
    assert "secret" not in (library.find("c").reason or "")
    assert "secret" in caplog.text


async def test_a_folder_without_any_good_file_cannot_open(make: Make, folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / f"{name}.net").write_text("bad to the bone")
    with pytest.raises(NoModelError, match=r"a: a\.net is bad to the bone; b: "):
        make()


async def test_the_error_for_an_unknown_name_lists_the_models(make: Make) -> None:
    with pytest.raises(NoSuchModel, match="'nobody'; the models are a, b, c"):
        make().find("nobody")


async def test_the_least_recently_used_model_is_evicted_when_memory_is_short(make: Make) -> None:
    library = make(max_bytes=2 * NETWORK_BYTES, lazily=True)
    for name in ("b", "a", "b", "c"):
        async with library.lease(name):
            pass
    assert states(library) == {"a": "unloaded", "b": "ready", "c": "ready"}
    assert library.memory_bytes == 2 * NETWORK_BYTES
    async with library.lease("a"):
        assert states(library) == {"a": "ready", "b": "unloaded", "c": "ready"}


async def test_a_model_in_use_is_never_unloaded(make: Make) -> None:
    library = make(max_bytes=NETWORK_BYTES, lazily=True)
    async with AsyncExitStack() as leases:
        for name in ("a", "b", "c"):
            await leases.enter_async_context(library.lease(name))
        assert states(library) == {"a": "ready", "b": "ready", "c": "ready"}
    async with library.lease("b"):
        pass
    assert library.memory_bytes == NETWORK_BYTES


async def test_at_the_start_no_more_is_loaded_than_fits(make: Make) -> None:
    library = make(max_bytes=2 * NETWORK_BYTES)
    assert states(library) == {"a": "ready", "b": "ready", "c": "unloaded"}


async def test_more_models_in_use_than_fit_are_all_served(make: Make, folder: Path, loader: FakeLoader) -> None:
    for name in ("d-psnr", "d-gan", "e-psnr", "e-gan"):
        (folder / f"{name}.net").write_text(name)
    library = make(max_bytes=2 * NETWORK_BYTES, lazily=True)
    loader.loads.clear()

    async def use(name: str, fidelity: float | None) -> str:
        async with library.lease(name, fidelity) as network:
            await asyncio.sleep(0)
            return network.info.name

    callers = [("d-psnr", 0.5), ("e-psnr", 0.5), ("a", None), ("c", None), ("d-gan", None)]
    async with asyncio.timeout(60):
        served = await asyncio.gather(*(use(*caller) for caller in callers))
    assert served == ["d-psnr+d-gan:0.50", "e-psnr+e-gan:0.50", "a", "c", "d-gan"]
    assert max(loader.loads.count(name) for name in loader.loads) == 1
    assert library.memory_bytes <= 2 * NETWORK_BYTES


async def test_a_network_with_waiting_requests_is_not_evicted_until_they_are_gone(
    make: Make, loader: FakeLoader
) -> None:
    library = make(max_bytes=NETWORK_BYTES, lazily=True)
    loader.gate.clear()
    waiting = asyncio.create_task(library.lease("a").__aenter__())
    await asyncio.to_thread(loader.entered.wait, 60)
    entry = library.find("a")
    assert entry.waiting == 1
    waiting.cancel()
    await asyncio.wait({waiting})
    assert entry.waiting == 0
    loader.gate.set()
    async with library.lease("c"):
        assert states(library)["a"] == "unloaded"


async def test_memory_is_reported_by_name_with_blends_and_replaced_versions(make: Make, folder: Path) -> None:
    for name in ("d-psnr", "d-gan"):
        (folder / f"{name}.net").write_text(name)
    library = make(lazily=True)
    async with library.lease("a"), library.lease("d-psnr", 0.3):
        (folder / "a.net").write_text("a2")
        await library.reload("a")
        loaded = library.memory_by_name()
        assert loaded["a"] == 2 * NETWORK_BYTES
        assert loaded["d-psnr+d-gan:0.30"] == NETWORK_BYTES
        assert loaded["c"] == 0
        assert sum(loaded.values()) == library.memory_bytes
