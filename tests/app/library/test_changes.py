"""Files that appear, change, break and disappear while the library serves."""

import asyncio
import logging
import time
from pathlib import Path

import pytest

from app.errors import NoSuchModel, Unavailable, Unprocessable
from app.library.entry import FULL_RETRY_S, ModelState
from app.library.library import Library
from tests.app.library.parts import NETWORK_BYTES, FakeLoader, Make, states
from tests.app.live import until

pytestmark = pytest.mark.anyio


async def settle(library: Library) -> None:
    """Refresh twice: changes seen by both are applied."""
    await library.refresh()
    await library.refresh()


def taken_away(folder: Path) -> Path:
    """Rename a folder, to simulate a lost drive; returns its new path."""
    return folder.rename(folder.with_name(f"{folder.name} away"))


async def version(library: Library, name: str | None) -> str:
    async with library.lease(name) as network:
        return network.info.version


async def test_a_new_file_is_a_new_model(make: Make, folder: Path) -> None:
    library = make()
    (folder / "d.net").write_text("d1")
    await settle(library)
    assert await version(library, "d") == "d@d1"


async def test_a_file_that_is_still_being_written_is_left_alone(make: Make, folder: Path, loader: FakeLoader) -> None:
    library = make()
    loader.loads.clear()
    for content in ("b", "ba", "bad", "b2"):
        (folder / "b.net").write_text(content)
        await library.refresh()
        assert loader.loads == []
    await library.refresh()
    assert loader.loads == ["b"]
    assert await version(library, "b") == "b@b2"


async def test_a_file_that_stays_as_it_is_is_not_loaded_again(make: Make, loader: FakeLoader) -> None:
    library = make()
    loader.loads.clear()
    await settle(library)
    await settle(library)
    assert loader.loads == []


async def test_a_request_in_flight_keeps_the_old_version_and_the_next_gets_the_new_one(
    make: Make, folder: Path
) -> None:
    library = make()
    async with library.lease("a") as old:
        (folder / "a.net").write_text("a2")
        await settle(library)
        assert await version(library, "a") == "a@a2"
        assert old.info.version == "a@a1"
        assert library.memory_bytes == 4 * NETWORK_BYTES
    assert library.memory_bytes == 3 * NETWORK_BYTES
    assert library.counters.swaps == 1


async def test_while_a_new_version_is_loaded_the_old_one_serves(make: Make, folder: Path, loader: FakeLoader) -> None:
    library = make()
    (folder / "a.net").write_text("a2")
    await library.refresh()
    loader.gate.clear()
    loader.entered.clear()
    refresh = asyncio.create_task(library.refresh())
    await asyncio.to_thread(loader.entered.wait, 60)
    assert states(library)["a"] == "ready"
    assert await version(library, "a") == "a@a1"
    loader.gate.set()
    await refresh
    assert await version(library, "a") == "a@a2"


async def test_a_bad_change_keeps_the_old_version_and_says_why(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = make(max_bytes=2 * NETWORK_BYTES, lazily=True)
    assert await version(library, "a") == "a@a1"
    (folder / "a.net").write_text("bad")
    with caplog.at_level(logging.ERROR):
        await settle(library)
    entry = library.find("a")
    assert entry.state.value == "ready"
    assert entry.reason == "a.net is bad; a@a1 keeps serving"
    assert "a.net is bad" in caplog.text
    assert library.counters.failed_loads == 1
    for name in ("b", "c", "b", "c"):  # it could not be loaded again, so it is not evicted
        await version(library, name)
    assert await version(library, "a") == "a@a1"
    (folder / "a.net").write_text("a3")
    await settle(library)
    assert await version(library, "a") == "a@a3"
    assert library.find("a").reason is None


async def test_a_model_that_failed_serves_once_its_file_is_good(make: Make, folder: Path) -> None:
    (folder / "c.net").write_text("bad")
    library = make()
    assert states(library)["c"] == "failed"
    (folder / "c.net").write_text("c2")
    await settle(library)
    assert await version(library, "c") == "c@c2"


async def test_a_removed_model_drains_and_is_unknown_afterwards(make: Make, folder: Path) -> None:
    library = make()
    async with library.lease("a") as network:
        (folder / "a.net").unlink()
        await settle(library)
        assert network.info.version == "a@a1"
        with pytest.raises(NoSuchModel):
            library.find("a")
    assert library.memory_bytes == 2 * NETWORK_BYTES


async def test_a_file_that_is_gone_for_a_moment_only_is_replaced_not_removed(make: Make, folder: Path) -> None:
    library = make()
    (folder / "a.net").unlink()
    await library.refresh()
    assert await version(library, "a") == "a@a1"
    (folder / "a.net").write_text("a2")
    await settle(library)
    assert await version(library, "a") == "a@a2"


async def test_the_default_model_keeps_serving_without_its_file_and_says_so(make: Make, folder: Path) -> None:
    library = make()
    (folder / "b.net").unlink()
    await settle(library)
    assert await version(library, None) == "b@b1"
    assert "removed" in (library.find("b").reason or "")
    (folder / "b.net").write_text("b2")
    await settle(library)
    assert await version(library, None) == "b@b2"


async def test_a_folder_that_cannot_be_read_changes_nothing(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = make()
    taken_away(folder)
    library.watch(0.001)
    await until(lambda: "cannot read the model folder" in caplog.text)
    assert await version(library, "a") == "a@a1"


async def test_a_missing_folder_is_logged_once_and_its_return_too(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, looks = make(), 0
    refresh = library.refresh

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await refresh()

    monkeypatch.setattr(library, "refresh", counted)
    away = taken_away(folder)
    caplog.set_level(logging.INFO)
    library.watch(0.001)
    await until(lambda: looks >= 5)
    away.rename(folder)
    await until(lambda: "can read the model folder again" in caplog.text)
    assert caplog.text.count("cannot read the model folder") == 1


async def test_a_model_requested_while_its_folder_is_missing_is_loaded_when_it_is_back(
    make: Make, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library = make(lazily=True)
    away = taken_away(folder)
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"a cannot be loaded now: a\.net cannot be read") as refused:
            await version(library, "a")
        assert refused.value.retry_after_s
    assert states(library)["a"] == "unloaded"
    assert caplog.text.count("a was not loaded") == 1
    away.rename(folder)
    assert await version(library, "a") == "a@a1"
    assert library.find("a").reason is None


async def test_a_reload_while_the_folder_is_missing_gets_503(make: Make, folder: Path) -> None:
    library = make()
    away = taken_away(folder)
    with pytest.raises(Unavailable, match=r"the model folder cannot be read at the moment \(No such file") as refused:
        await library.reload("a")
    assert str(folder) not in str(refused.value)
    away.rename(folder)
    assert (await library.reload("a")).reason is None


async def test_an_unreadable_changed_file_is_retried_while_the_old_version_serves(
    make: Make, folder: Path, loader: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = make()
    (folder / "a.net").write_text("a2")
    read_text = Path.read_text

    def fail(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", fail)
    await settle(library)
    assert await version(library, "a") == "a@a1"
    assert library.find("a").reason == "a.net cannot be read (Permission denied); a@a1 keeps serving"
    monkeypatch.setattr(Path, "read_text", read_text)
    await library.refresh()
    assert await version(library, "a") == "a@a2"
    assert library.find("a").reason is None


async def test_a_model_without_memory_on_the_device_is_tried_again_by_each_request(
    make: Make, loader: FakeLoader
) -> None:
    library = make(lazily=True)
    loader.is_full = True
    for _ in range(2):
        with pytest.raises(Unavailable, match="does not have enough memory") as refused:
            await version(library, "a")
        assert refused.value.retry_after_s == FULL_RETRY_S
    assert library.find("a").state is ModelState.UNLOADED
    await library.refresh()
    assert loader.loads == ["b", "a", "a"]  # it was not requested meanwhile
    loader.is_full = False
    assert await version(library, "a") == "a@a1"


async def test_a_new_version_without_memory_on_the_device_is_tried_again_later(
    make: Make, folder: Path, loader: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = make()
    loader.is_full = True
    (folder / "a.net").write_text("a2")
    await settle(library)
    assert await version(library, "a") == "a@a1"
    assert library.find("a").is_evictable
    loader.is_full = False
    await library.refresh()
    assert await version(library, "a") == "a@a1"
    later_s = time.monotonic() + FULL_RETRY_S
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    await library.refresh()
    assert await version(library, "a") == "a@a2"


def reloads_of_a(library: Library) -> int:
    """Return the number of reloads that have found the file."""
    return sum(task.get_name() == "reload a" for task in library._tasks)


@pytest.mark.parametrize("first", ["reload", "removal"])
async def test_a_model_that_is_reloaded_while_it_is_to_be_removed_stays(
    first: str, make: Make, folder: Path, loader: FakeLoader
) -> None:
    library = make()
    loader.entered.clear()
    loader.gate.clear()
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(library.reload("a"))]
    await asyncio.to_thread(loader.entered.wait, 60)  # the others wait for this load
    if first == "reload":
        tasks.append(asyncio.create_task(library.reload("a")))
        await until(lambda: reloads_of_a(library) == 2)  # it has found the file
    (folder / "a.net").rename(folder / "away")
    await library.refresh()
    seen = library._seen
    tasks.append(asyncio.create_task(library.refresh()))
    await until(lambda: library._seen is not seen)  # it has missed the file
    (folder / "away").rename(folder / "a.net")
    if first == "removal":
        tasks.append(asyncio.create_task(library.reload("a")))
        await until(lambda: reloads_of_a(library) == 2)
    loader.gate.set()
    await asyncio.gather(*tasks)
    assert await version(library, "a") == "a@a1"


async def test_a_reload_takes_effect_at_once(make: Make, folder: Path) -> None:
    library = make()
    (folder / "a.net").write_text("a2")
    assert (await library.reload("a")).reason is None
    assert await version(library, "a") == "a@a2"


async def test_a_reload_of_a_bad_file_says_why(make: Make, folder: Path) -> None:
    library = make()
    (folder / "a.net").write_text("bad")
    with pytest.raises(Unprocessable, match=r"a was not reloaded: a\.net is bad; a@a1 keeps serving"):
        await library.reload("a")
    with pytest.raises(NoSuchModel, match="'nobody'"):
        await library.reload("nobody")


async def test_a_model_whose_file_goes_while_it_loads_answers_who_waits_and_is_unknown_then(
    make: Make, folder: Path, loader: FakeLoader
) -> None:
    library = make(lazily=True)
    loader.gate.clear()
    loader.entered.clear()
    waiting = asyncio.create_task(version(library, "a"))
    await asyncio.to_thread(loader.entered.wait, 60)
    (folder / "a.net").write_text("bad")  # the loaded version was read before
    (folder / "a.net").unlink()
    loader.gate.set()
    assert await waiting == "a@a1"
    await settle(library)
    with pytest.raises(NoSuchModel):
        library.find("a")
    assert library.memory_bytes == NETWORK_BYTES
