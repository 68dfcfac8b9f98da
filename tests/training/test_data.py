from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from tests.model.examples import textured
from tests.training.photographs import lying, save
from training.data import READ_ERRORS, DataError, Pair, picture_files, read_pairs, read_picture, read_size
from training.degrade import crop_to_multiple, shrink_bicubic


def test_pictures_are_found_in_depth_in_a_fixed_order(tmp_path: Path) -> None:
    files = [save(textured(8, 8), tmp_path / name) for name in ("b.png", "a/z.jpg", "a/c.WEBP")]
    (tmp_path / "notes.txt").write_text("not a picture")
    assert picture_files(tmp_path) == sorted(files)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent is not a folder; name one with photographs"):
        picture_files(tmp_path / "absent")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(DataError, match=r"holds no picture; looked for \.apng, \.avif, \.bmp"):
        picture_files(tmp_path)


def test_a_picture_is_read_as_planes_of_rgb(tmp_path: Path) -> None:
    picture = textured(9, 13)
    assert torch.equal(read_picture(save(picture, tmp_path / "a.png")), picture)


def test_a_grey_picture_is_read_as_rgb(tmp_path: Path) -> None:
    grey = textured(9, 13)[0]
    Image.fromarray(grey.numpy()).save(tmp_path / "grey.png")
    assert torch.equal(read_picture(tmp_path / "grey.png"), grey.expand(3, 9, 13))


def test_a_picture_that_lies_on_its_side_is_read_upright(tmp_path: Path) -> None:
    picture = textured(9, 13)
    path = save(picture, tmp_path / "side.png", exif=lying(6))  # show it rotated by 90 degrees clockwise
    assert torch.equal(read_picture(path), picture.rot90(-1, (1, 2)))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_picture(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = save(textured(9, 13), tmp_path / f"a.{suffix}", exif=lying(orientation))
    assert read_size(path) == tuple(read_picture(path).shape[1:])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_the_size_is_read_from_the_header_alone(suffix: str, tmp_path: Path) -> None:
    path = save(textured(90, 130), tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[:1000])
    assert read_size(path) == (90, 130)
    with pytest.raises(READ_ERRORS):
        read_picture(path)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n"], ids=["empty", "text", "a start"])
def test_a_size_that_cannot_be_read_is_one_of_the_read_errors(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(READ_ERRORS):
        read_size(tmp_path / "a.png")


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
    small, whole = read_pairs(tmp_path, 4, least_px=8)
    assert small == f"{tmp_path / 'small.png'}: 80 x 28 px is less than 32 px a side"
    assert isinstance(whole, Pair)


def test_only_the_pictures_that_are_asked_for_are_read(tmp_path: Path) -> None:
    wanted = save(textured(16, 16), tmp_path / "b.png")
    (tmp_path / "a.png").write_text("would be reported")
    (pair,) = read_pairs(tmp_path, 4, only={wanted})
    assert isinstance(pair, Pair)
    assert pair.name == "b"


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = numpy.array([[0, 128, 257, 32_896, 65_535]], dtype=numpy.uint16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    assert read_picture(tmp_path / "ramp.png").tolist() == [[[0, 0, 1, 128, 255]]] * 3
