import struct
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image, UnidentifiedImageError

from tests.model.examples import textured
from tests.tiff_file import Tiff
from tests.training.photographs import lying, save
from training.data import READ_ERRORS, DataError, folder_name, picture_files, read_picture, read_size


def test_pictures_are_found_in_depth_in_a_fixed_order(tmp_path: Path) -> None:
    files = [save(textured(8, 8), tmp_path / name) for name in ("b.png", "a/z.jpg", "a/c.WEBP")]
    (tmp_path / "notes.txt").write_text("not a picture")
    assert picture_files(tmp_path) == sorted(files)


def test_a_folder_has_the_name_that_was_given_or_that_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos" / "below").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "photos" / "below")
    named = {name: folder_name(Path(name)) for name in (".", "..", "../../linked", "../../photos/")}
    assert named == {".": "below", "..": "photos", "../../linked": "linked", "../../photos/": "photos"}


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent is not a folder; name one with photographs"):
        picture_files(tmp_path / "absent")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(DataError, match=r"holds no picture; looked for \.apng, \.avif, \.avifs, \.bmp"):
        picture_files(tmp_path)


def test_a_picture_is_read_as_planes_of_rgb(tmp_path: Path) -> None:
    picture = textured(9, 13)
    assert torch.equal(read_picture(save(picture, tmp_path / "a.png")), picture)


def test_a_grey_picture_is_read_as_rgb(tmp_path: Path) -> None:
    grey = textured(9, 13)[0]
    Image.fromarray(grey.numpy()).save(tmp_path / "grey.png")
    assert torch.equal(read_picture(tmp_path / "grey.png"), grey.expand(3, 9, 13))


def test_a_turned_picture_is_read_upright(tmp_path: Path) -> None:
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


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = numpy.array([[0, 128, 257, 32_896, 65_535]], dtype=numpy.uint16)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    assert read_picture(tmp_path / "ramp.png").tolist() == [[[0, 0, 1, 128, 255]]] * 3


def test_a_jpeg_that_pillow_does_not_open_has_the_size_that_the_service_sees(tmp_path: Path) -> None:
    file = save(textured(9, 13), tmp_path / "a.jpg").read_bytes()
    text, inches = struct.pack("<HHI4s", 282, 2, 2, b"1"), struct.pack("<HHIHxx", 296, 3, 1, 2)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + text + inches + bytes(4)
    start = b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif  # without JFIF, whose resolution counts first
    path = tmp_path / "odd.jpg"
    path.write_bytes(start + file[file.index(b"\xff\xdb") :])
    with pytest.raises(UnidentifiedImageError):
        Image.open(path)
    assert read_size(path) == tuple(read_picture(path).shape[1:]) == (9, 13)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_a_grey_tiff_is_read_as_the_service_reads_it(photometric: int, bits: int, order: str, tmp_path: Path) -> None:
    ramp = numpy.linspace(0, 2**bits - 1, 12).astype(numpy.uint16).reshape(3, 4, 1)
    path = tmp_path / "ramp.tif"
    for orientation in (1, 6):
        file = Tiff(bits=bits, photometric=photometric, order=order, fields={274: [orientation]})
        path.write_bytes(file.file(ramp))
        shown = numpy.round((2**bits - 1 - ramp if photometric == 0 else ramp) * (255 / (2**bits - 1)))
        upright = numpy.rot90(shown[..., 0], -1) if orientation == 6 else shown[..., 0]
        seen = read_picture(path)
        assert numpy.abs(seen[0].numpy() - upright).max() <= 1
        assert read_size(path) == tuple(seen.shape[1:])


def test_sixteen_bits_of_colour_are_rounded(tmp_path: Path) -> None:
    levels = numpy.random.default_rng(0).integers(0, 2**16, (5, 6, 3), dtype=numpy.uint16)
    (tmp_path / "a.tif").write_bytes(Tiff(bits=16).file(levels))
    seen = read_picture(tmp_path / "a.tif").permute(1, 2, 0).numpy()
    assert (seen == numpy.round(levels / 257)).all()


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.JPG", "a.avif", "a.avifs", "a.gif", "a.dib"])
def test_every_suffix_of_a_format_that_is_read_is_found(name: str, tmp_path: Path) -> None:
    suffix = name[2:].upper()
    kind = {"JFIF": "JPEG", "JPE": "JPEG", "JPG": "JPEG", "DIB": "BMP", "AVIFS": "AVIF"}.get(suffix, suffix)
    save(textured(8, 8), tmp_path / name, format=kind)
    assert picture_files(tmp_path) == [tmp_path / name]
    assert read_picture(tmp_path / name).shape == (3, 8, 8)


def test_a_cut_jpeg_that_was_closed_again_cannot_be_read(tmp_path: Path) -> None:
    path = save(textured(90, 130), tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:-1500] + b"\xff\xd9")
    with pytest.raises(READ_ERRORS, match="pixels are missing"):
        read_picture(path)


def test_a_folder_that_is_named_like_a_picture_is_a_folder(tmp_path: Path) -> None:
    inner = save(textured(8, 8), tmp_path / "sub.jpg/a.png")
    assert picture_files(tmp_path) == [inner]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    inside = save(textured(8, 8), folder / "own/a.png")
    save(textured(8, 8), tmp_path / "elsewhere/b.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(folder / "own")
    (folder / "own/loop").symlink_to(folder)
    assert picture_files(folder) == [folder / "linked/b.png", inside]
