from pathlib import Path

import pytest
import torch

from tests.model.examples import textured
from tests.training.photographs import save
from training import validation_set as module
from training.damage import DAMAGES, Damage, damaged, damaged_pair
from training.data import DataError, Pair, Pairs, read_picture
from training.pairs import PairFiles, find_pairs, read_pair
from training.validation_set import is_measurable, validation_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        save(textured(64, 72, number), tmp_path / f"{number}.png")
    return tmp_path


def all_of(pairs: Pairs) -> list[Pair]:
    return [pairs[number] for number in range(len(pairs))]


@pytest.mark.parametrize("max_bytes", [0, 15_000, 10**9])
def test_pictures_are_the_same_whether_they_fit_into_memory_or_not(max_bytes: int, folder: Path) -> None:
    sets = validation_set(find_pairs(folder, 4).files, 4, DAMAGES, print, max_bytes=max_bytes)
    assert list(sets) == list(DAMAGES)
    for damage, pairs in sets.items():
        for _ in range(2):
            assert [pair.name for pair in all_of(pairs)] == ["0", "1"]
            for pair in all_of(pairs):
                assert torch.equal(pair.high_res, read_picture(folder / f"{pair.name}.png"))
                assert torch.equal(pair.low_res, damaged(pair.high_res, 4, damage, name=pair.name))


def test_pictures_beyond_the_memory_are_read_at_each_look(folder: Path) -> None:
    size = 3 * (64 * 72 + 16 * 18)
    pairs = validation_set(find_pairs(folder, 4).files, 4, ["clean"], print, max_bytes=size)["clean"]
    for path in folder.iterdir():
        path.unlink()
    assert pairs[0].name == "0"
    with pytest.raises(DataError, match=r"1\.png: cannot be read"):
        pairs[1]


def test_a_picture_that_cannot_be_read_is_tried_once_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = validation_set(find_pairs(folder, 4).files, 4, ["clean"], print, max_bytes=0)["clean"]
    tries: list[PairFiles] = []

    def read(files: PairFiles, scale: int, *, min_px: int) -> Pair:
        tries.append(files)
        if len(tries) == 1:
            raise DataError("the network is gone")
        return read_pair(files, scale, min_px=min_px)

    monkeypatch.setattr(module, "read_pair", read)
    assert pairs[0].name == "0"
    assert len(tries) == 2


@pytest.mark.parametrize("max_bytes", [0, 10**9])
def test_the_middle_of_a_large_picture_is_measured(
    max_bytes: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEASURED_PX", 16)
    pairs = validation_set(find_pairs(folder, 4).files, 4, DAMAGES, print, max_bytes=max_bytes)
    for number in range(2):
        cut = read_picture(folder / f"{number}.png")[:, :, 4:68]
        for damage, of_damage in pairs.items():
            assert torch.equal(of_damage[number].high_res, cut)
            if damage != "clean":  # which is cut from the reduction of the whole picture
                assert torch.equal(of_damage[number].low_res, damaged(cut, 4, damage, name=f"{number}"))


def test_damaged_pictures_count_as_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(pair: Pair, damage: Damage) -> Pair:
        made.append(pair.name)
        return damaged_pair(pair, damage)

    monkeypatch.setattr(module, "damaged_pair", counted)
    size, low_res_size = 3 * (64 * 72 + 16 * 18), 3 * 16 * 18
    pairs = validation_set(
        find_pairs(folder, 4).files, 4, ["clean", "web50"], print, max_bytes=2 * size + low_res_size
    )["web50"]
    for _ in range(2):
        assert [pair.name for pair in all_of(pairs)] == ["0", "1"]
    assert made == ["0", "1", "1"]


def test_a_picture_that_cannot_be_measured_is_left_out_with_a_line(folder: Path) -> None:
    (folder / "0.png").write_text("no picture")
    lines: list[str] = []
    pairs = validation_set(find_pairs(folder, 4).files, 4, ["clean"], lines.append)["clean"]
    assert [pair.name for pair in all_of(pairs)] == ["1"]
    assert lines[0].startswith(f"left out: {folder / '0.png'}: cannot be read (")


def test_a_pair_is_measurable_by_its_headers(tmp_path: Path) -> None:
    sizes = {"small": (31, 40), "large": (32, 40), "unlike": (40, 40)}
    for name, (height, width) in sizes.items():
        save(textured(height, width), tmp_path / "HR" / f"{name}.png")
        save(textured(8, 10), tmp_path / "LR" / f"{name}.png")
    (tmp_path / "HR" / "broken.png").write_text("no picture")
    save(textured(8, 10), tmp_path / "LR" / "broken.png")
    files = find_pairs(tmp_path / "HR", 4, tmp_path / "LR").files
    assert {one.name: is_measurable(one, 4) for one in files} == {
        "broken": False,
        "large": True,
        "small": False,
        "unlike": False,
    }


def test_without_a_picture_there_is_nothing_to_measure_on() -> None:
    assert validation_set([], 4, DAMAGES, print) == {}
