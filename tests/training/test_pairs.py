from pathlib import Path

import pytest
import torch

from tests.model.examples import textured
from tests.training.photographs import save
from training.data import DataError, Pair
from training.degrade import crop_to_multiple, shrink_bicubic
from training.pairs import find_pairs, read_pair, read_pairs


def test_a_photograph_becomes_a_pair_cut_to_whole_low_res_pixels(tmp_path: Path) -> None:
    picture = textured(42, 55)
    save(picture, tmp_path / "photo.png")
    (pair,) = read_pairs(tmp_path, 4)
    assert isinstance(pair, Pair)
    assert pair.name == "photo"
    assert torch.equal(pair.high_res, crop_to_multiple(picture, 4))
    assert torch.equal(pair.low_res, shrink_bicubic(pair.high_res, 4))


def test_a_corrupt_file_is_reported_in_its_place_and_the_rest_is_read(tmp_path: Path) -> None:
    for name in ("a", "c"):
        save(textured(16, 16), tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:150])
    (tmp_path / "d.jpg").write_text("no picture at all")
    first, second, third, fourth = read_pairs(tmp_path, 4)
    assert isinstance(first, Pair)
    assert isinstance(second, str)
    assert second.startswith(f"{tmp_path / 'b.png'}: cannot be read (")
    assert isinstance(third, Pair)
    assert isinstance(fourth, str)
    assert fourth.startswith(f"{tmp_path / 'd.jpg'}: cannot be read (")


def test_a_picture_smaller_than_a_crop_is_reported_with_its_size(tmp_path: Path) -> None:
    save(textured(31, 80), tmp_path / "small.png")
    save(textured(32, 32), tmp_path / "whole.png")
    save(textured(1, 1), tmp_path / "one.png")
    one, small, whole = read_pairs(tmp_path, 4, min_px=32)
    assert one == f"{tmp_path / 'one.png'}: 1 x 1 px is less than 32 px a side"
    assert small == f"{tmp_path / 'small.png'}: 80 x 31 px is less than 32 px a side"
    assert isinstance(whole, Pair)


def test_a_linked_file_is_found_and_a_broken_link_is_reported(tmp_path: Path) -> None:
    save(textured(16, 16), tmp_path / "elsewhere/b.png")
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "a.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "b.png").symlink_to(tmp_path / "elsewhere/b.png")
    broken, pair = read_pairs(folder, 4)
    assert isinstance(broken, str)
    assert isinstance(pair, Pair)


def names(folder: Path, *files: str) -> Path:
    """A folder of files that are found and not read."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def found(folder: Path, scale: int = 4, low_res: str | None = None) -> list[tuple[str, str | None]]:
    """The originals of a folder and their low-res pictures, as paths within it."""
    pictures = find_pairs(folder, scale, folder / low_res if low_res else None)
    return [
        (
            one.high_res.relative_to(folder).as_posix(),
            one.low_res.relative_to(folder).as_posix() if one.low_res else None,
        )
        for one in pictures.files
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            ["HR/baby.png", "LRbicX4/baby.png", "LRbicX2/baby.png"], [("HR/baby.png", "LRbicX4/baby.png")], id="Set5"
        ),
        pytest.param(
            ["GTmod12/baby.png", "LRbicx4/baby.png", "LRbicx3/baby.png"],
            [("GTmod12/baby.png", "LRbicx4/baby.png")],
            id="Set5 of BasicSR",
        ),
        pytest.param(
            ["DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X4/0001x4.png", "DIV2K_train_LR_bicubic/X2/0001x2.png"],
            [("DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X4/0001x4.png")],
            id="DIV2K",
        ),
        pytest.param(
            ["Flickr2K_HR/000001.png", "Flickr2K_LR_bicubic/X2/000001x2.png", "DIV2K_train_HR/0001.png"],
            [("DIV2K_train_HR/0001.png", None), ("Flickr2K_HR/000001.png", None)],
            id="DF2K without this scale",
        ),
        pytest.param(["baby.png", "LRbicX4/baby.png"], [("baby.png", "LRbicX4/baby.png")], id="originals at the top"),
        pytest.param(["a_HR.png", "a_LR4.png", "b_HR.png", "b_LR4.png"], [("a_HR.png", None), ("b_HR.png", None)]),
        pytest.param(
            ["Set5/HR/a.png", "Set5/LRbicX4/a.png", "Set14/HR/a.png", "Set14/LRbicX4/a.png"],
            [("Set14/HR/a.png", "Set14/LRbicX4/a.png"), ("Set5/HR/a.png", "Set5/LRbicX4/a.png")],
            id="two sets with one name",
        ),
        pytest.param(["LR/a.jpg", "LR/b.jpg"], [("LR/a.jpg", None), ("LR/b.jpg", None)], id="edited in Lightroom"),
        pytest.param(
            ["walrus.png", "lrc/a.png", "color/b.png"],
            [(n, None) for n in ("color/b.png", "lrc/a.png", "walrus.png")],
            id="no such word",
        ),
    ],
)
def test_low_res_copies_are_no_originals(
    files: list[str], expected: list[tuple[str, str | None]], tmp_path: Path
) -> None:
    assert found(names(tmp_path, *files)) == expected


def test_copies_that_are_left_out_are_named_with_the_way_to_use_them(tmp_path: Path) -> None:
    pictures = find_pairs(names(tmp_path, "a_HR.png", "a_LR4.png"), 4)
    assert pictures.notes == (
        f"{tmp_path}: 1 pictures are taken for low-res copies and left out, {tmp_path / 'a_LR4.png'} first; to use "
        "them, name their folder by --low-res",
    )


def test_published_low_res_pictures_are_used_without_a_word(tmp_path: Path) -> None:
    assert find_pairs(names(tmp_path, "HR/a.png", "LRbicX4/a.png"), 4).notes == ()


@pytest.mark.parametrize(
    ("files", "low_res", "expected"),
    [
        (["HR/a.png", "LR/a.png"], "LR", [("HR/a.png", "LR/a.png")]),
        (["big/a.jpg", "small/a.png"], "small", [("big/a.jpg", "small/a.png")]),
        (
            ["big/x/a.png", "big/y/a.png", "small/x/a.png", "small/y/a.png"],
            "small",
            [("big/x/a.png", "small/x/a.png"), ("big/y/a.png", "small/y/a.png")],
        ),
        (["big/0001.png", "small/0001x4.png"], "small", [("big/0001.png", "small/0001x4.png")]),
        (
            ["big/bmwx5.png", "big/bmwx6.png", "small/bmwx5.png", "small/bmwx6.png"],
            "small",
            [("big/bmwx5.png", "small/bmwx5.png"), ("big/bmwx6.png", "small/bmwx6.png")],
        ),
        (["big/photo.png", "small/photo_x2.png"], "small", [("big/photo.png", "small/photo_x2.png")]),
        (["c_HR.png", "c_LR4.png"], ".", [("c_HR.png", "c_LR4.png")]),
    ],
)
def test_low_res_pictures_of_ones_own_are_found_by_name(
    files: list[str], low_res: str, expected: list[tuple[str, str | None]], tmp_path: Path
) -> None:
    assert found(names(tmp_path, *files), low_res=low_res) == expected


def test_pictures_without_a_partner_are_named_on_both_sides(tmp_path: Path) -> None:
    names(tmp_path, "big/a.png", "big/b.png", "small/b.png", "small/c.png")
    pictures = find_pairs(tmp_path / "big", 4, tmp_path / "small")
    assert [files.name for files in pictures.files] == ["b"]
    assert pictures.problems == [
        f"{tmp_path / 'big/a.png'}: there is no low-res picture of this name",
        f"{tmp_path / 'small/c.png'}: there is no original of this name",
    ]


def test_names_that_end_in_x_and_another_number_than_the_scale_are_not_shortened(tmp_path: Path) -> None:
    names(tmp_path, "big/tex1.png", "small/tex2.png")
    pictures = find_pairs(tmp_path / "big", 4, tmp_path / "small")
    assert pictures.files == ()
    assert [path.name for path, _ in pictures.unpaired] == ["tex1.png", "tex2.png"]


@pytest.mark.parametrize(
    ("originals", "low_res", "paired"),
    [
        (["tex1.png", "tex2.png"], "tex2.png", ["tex2"]),
        (["a.png", "a_HR.png"], "a.png", ["a"]),
        (["ax4.png", "a.png"], "a.png", ["a"]),
        (["x/a.png", "y/a.png"], "y/a.png", ["y/a"]),
        (["x/a.png", "y/a.png"], "a.png", []),
        (["a.png", "a_HR.png"], "a_LR4.png", []),
    ],
)
def test_a_low_res_picture_belongs_to_one_original(
    originals: list[str], low_res: str, paired: list[str], tmp_path: Path
) -> None:
    names(tmp_path, *(f"big/{name}" for name in originals), f"small/{low_res}")
    pictures = find_pairs(tmp_path / "big", 4, tmp_path / "small")
    assert [files.name for files in pictures.files] == paired
    unpaired = {path.relative_to(tmp_path / "big").as_posix() for path, _ in pictures.unpaired if "big" in path.parts}
    assert unpaired == set(originals) - {f"{name}.png" for name in paired}


def test_an_original_whose_low_res_picture_is_that_of_another_one_is_named_with_it(tmp_path: Path) -> None:
    names(tmp_path, "big/a.png", "big/a_HR.png", "small/a.png")
    pictures = find_pairs(tmp_path / "big", 4, tmp_path / "small")
    assert pictures.problems == [
        f"{tmp_path / 'big/a_HR.png'}: {tmp_path / 'small/a.png'} could also be the low-res picture of "
        f"{tmp_path / 'big/a.png'}; rename one"
    ]


@pytest.mark.parametrize("folders", [("HR", "LR"), ("big", "small"), ("DIV2K_HR", "DIV2K_LR_bicubic/X4")])
def test_paths_are_compared_a_few_times_each(folders: tuple[str, str], tmp_path: Path) -> None:
    names(tmp_path, *(f"{folder}/{number}.png" for folder in folders for number in range(200)))
    calls = 0
    hashed = Path.__hash__

    def counted(path: Path) -> int:
        nonlocal calls
        calls += 1
        return hashed(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tmp_path), "__hash__", counted)
        assert len(find_pairs(tmp_path / folders[0], 4, tmp_path / folders[1]).files) == 200
        assert len(find_pairs(tmp_path, 4).files) in (200, 400)
    assert calls < 20 * 400


def test_two_low_res_pictures_for_one_original_are_refused_and_named(tmp_path: Path) -> None:
    names(tmp_path, "big/a.png", "small/x/a.png", "small/y/a.png")
    pictures = find_pairs(tmp_path / "big", 4, tmp_path / "small")
    assert pictures.files == ()
    assert "could both be its low-res picture; rename one" in pictures.problems[0]


def test_one_folder_named_twice_without_a_hint_is_refused(tmp_path: Path) -> None:
    names(tmp_path, "a.png", "b.png")
    with pytest.raises(DataError, match="is named twice, and no name in it says LR; keep the two sizes in two folders"):
        find_pairs(tmp_path, 4, tmp_path)


def test_two_pictures_of_one_name_are_distinguished_by_their_folders(tmp_path: Path) -> None:
    names(tmp_path, "x/a.png", "y/a.png", "y/b.png")
    assert [files.name for files in find_pairs(tmp_path, 4).files] == ["x/a", "y/a", "b"]


def test_a_pair_of_files_is_read_as_it_is(tmp_path: Path) -> None:
    high_res, low_res = textured(33, 41), textured(8, 10, seed=1)
    save(high_res, tmp_path / "big" / "a.png")
    save(low_res, tmp_path / "small" / "a.png")
    (pair,) = read_pairs(tmp_path / "big", 4, low_res=tmp_path / "small")
    assert isinstance(pair, Pair)
    assert torch.equal(pair.low_res, low_res)
    assert torch.equal(pair.high_res, high_res[:, :32, :40])


def test_a_low_res_picture_of_the_wrong_size_is_named_with_the_right_one(tmp_path: Path) -> None:
    save(textured(32, 40), tmp_path / "HR" / "a.png")
    save(textured(8, 9), tmp_path / "LRbicX4" / "a.png")
    (files,) = find_pairs(tmp_path, 4).files
    with pytest.raises(DataError, match=r"a\.png: 9 x 8 px is not 1/4 of .*HR/a\.png; it must have 10 x 8 px"):
        read_pair(files, 4)
