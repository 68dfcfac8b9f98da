import json
import os
import pickle
import threading
from pathlib import Path

import pytest
import torch

from tests.model.examples import textured
from tests.training.photographs import save
from training import cache as cache_module
from training.cache import PictureCache
from training.data import DataError, picture_files, read_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, (height, width) in enumerate([(20, 31), (17, 9), (40, 8)]):
        save(textured(height, width, number), tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded."""
    names: list[str] = []

    def counted(path: Path) -> torch.Tensor:
        names.append(path.name)
        return read_picture(path)

    monkeypatch.setattr(cache_module, "read_picture", counted)
    return names


def filled(folder: Path) -> PictureCache:
    """The cache of a folder, next to it."""
    cache = PictureCache(folder.parent / "cache")
    cache.fill(picture_files(folder), threads=2)
    return cache


def same(cache: PictureCache, folder: Path) -> bool:
    """True if the cache holds the pixels of every file."""
    return all(torch.equal(cache.read(path), read_picture(path)) for path in picture_files(folder))


def test_the_pixels_of_every_picture_are_those_of_the_file(folder: Path) -> None:
    assert same(filled(folder), folder)


def test_a_cache_is_built_once(folder: Path, decoded: list[str]) -> None:
    filled(folder)
    assert sorted(decoded) == ["0.png", "1.png", "2.png"]
    assert same(filled(folder), folder)
    assert len(decoded) == 3


def test_a_file_that_has_changed_is_decoded_again_and_no_other(folder: Path, decoded: list[str]) -> None:
    filled(folder)
    decoded.clear()
    save(textured(50, 50, 9), folder / "1.png")
    os.utime(folder / "2.png", ns=(0, 0))
    save(textured(9, 9, 7), folder / "new.png")
    assert same(filled(folder), folder)
    assert sorted(decoded) == ["1.png", "2.png", "new.png"]


def test_a_build_that_was_killed_goes_on_where_it_stopped(folder: Path, decoded: list[str]) -> None:
    filled(folder)
    index = folder.parent / "cache" / "index.jsonl"
    lines = index.read_text().splitlines()
    kept = json.loads(lines[0])["path"]
    index.write_text(lines[0] + "\n" + lines[1][:20])  # the second line was being written
    decoded.clear()
    assert same(filled(folder), folder)
    assert sorted(decoded) == [path.name for path in picture_files(folder) if str(path) != kept]
    decoded.clear()
    assert same(filled(folder), folder)
    assert decoded == []


def test_pixels_that_are_gone_are_decoded_again(folder: Path, decoded: list[str]) -> None:
    filled(folder)
    (folder.parent / "cache" / "pixels.bin").unlink()
    decoded.clear()
    assert same(filled(folder), folder)
    assert len(decoded) == 3


def test_a_broken_file_says_why_and_is_not_tried_again(folder: Path, decoded: list[str]) -> None:
    broken = folder / "1.png"
    broken.write_bytes(broken.read_bytes()[:150])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"."):
            filled(folder).read(broken)
    assert decoded.count("1.png") == 1
    assert filled(folder).problem(broken)
    assert not filled(folder).problem(folder / "2.png")
    assert torch.equal(filled(folder).read(folder / "2.png"), textured(40, 8, 2))


def test_a_cache_that_does_not_fit_on_the_disk_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PictureCache, "free_bytes", lambda _: 100)
    with pytest.raises(DataError, match=r"cache needs 0\.0 GB for decoded pictures and the disk has .* by --cache"):
        filled(folder)
    assert not (folder.parent / "cache" / "pixels.bin").exists()


def test_several_builders_decode_each_file_once(folder: Path, decoded: list[str]) -> None:
    threads = [threading.Thread(target=filled, args=(folder,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decoded) == ["0.png", "1.png", "2.png"]


def test_a_worker_gets_the_index_and_not_the_pixels(folder: Path) -> None:
    cache = filled(folder)
    assert same(cache, folder)  # the pixels are mapped now
    sent = pickle.dumps(cache)
    assert len(sent) < 3000
    assert same(pickle.loads(sent), folder)


def test_writing_to_a_picture_leaves_the_cache_as_it_is(folder: Path) -> None:
    filled(folder).read(folder / "0.png").zero_()
    assert same(filled(folder), folder)


def test_an_error_of_the_system_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (OSError(5, "Input/output error"), MemoryError()):
        with monkeypatch.context() as patch:

            def fails(path: Path, error: Exception = error) -> torch.Tensor:
                raise error

            patch.setattr(cache_module, "read_picture", fails)
            cache = filled(folder)
        with pytest.raises(ValueError, match=r"Input/output|MemoryError"):
            cache.read(folder / "1.png")
    assert same(filled(folder), folder)
