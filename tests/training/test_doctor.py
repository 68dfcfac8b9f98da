import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image, ImageFilter

from tests.model.examples import textured
from tests.training.photographs import save as save_planes
from training.__main__ import main
from training.data import LIMITS, DataError, read_picture
from training.degrade import shrink_bicubic
from training.detail import detail
from training.doctor import MIN_DETAIL, Finding, Report, examine


def sharp(height: int, width: int, seed: int = 0) -> Image.Image:
    """A seeded picture with the spectrum of a photograph: amplitudes that fall as 1 / frequency."""
    chance = numpy.random.default_rng(seed)
    down, across = numpy.fft.fftfreq(height)[:, None], numpy.fft.rfftfreq(width)
    spectrum = numpy.fft.rfft2(chance.normal(size=(3, height, width))) / numpy.maximum(numpy.hypot(down, across), 0.01)
    noise = numpy.fft.irfft2(spectrum, s=(height, width))
    levels = 128 + 40 * noise / noise.std()
    return Image.fromarray(numpy.moveaxis(levels.clip(0, 255).round().astype(numpy.uint8), 0, -1))


def resized(picture: Image.Image, factor: float, filter: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), filter)


def save(picture: Image.Image, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def problems(folder: Path, min_px: int = 64) -> list[tuple[str, str]]:
    """Name and problem of each finding."""
    return [(one.path.name, one.problem) for one in examine(folder, min_px=min_px).findings]


def only_finding(folder: Path, min_px: int = 64) -> Finding:
    (finding,) = examine(folder, min_px=min_px).findings
    return finding


def levels_of(picture: Image.Image) -> numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.uint8]]:
    return numpy.asarray(picture.convert("L"))


def test_sound_pictures_give_no_finding(tmp_path: Path) -> None:
    save(sharp(100, 150, seed=1), tmp_path / "a.png")
    save(sharp(200, 100, seed=2), tmp_path / "deep/er/b.jpg", quality=90)
    report = examine(tmp_path, min_px=100)
    assert report.findings == ()
    assert (report.files, report.usable) == (2, 2)
    assert report.megapixels == pytest.approx(0.035)


def test_files_that_are_no_picture_are_broken_and_do_not_stop_the_rest(tmp_path: Path) -> None:
    whole = save(sharp(100, 100), tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture at all")
    names = ["cut.jpg", "empty.png", "text.png"]
    assert problems(tmp_path) == [(name, "broken") for name in names]
    assert examine(tmp_path, min_px=64).usable == 1


def test_a_broken_file_is_reported_with_the_decoders_reason(tmp_path: Path) -> None:
    whole = save(sharp(100, 100), tmp_path / "cut.jpg")
    whole.write_bytes(whole.read_bytes()[:-2000])
    assert only_finding(tmp_path).detail.startswith(
        "cannot be decoded (the JPEG file is truncated or corrupt: some of its pixels are missing"
    )


def test_whatever_a_decoder_raises_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def runs_out(path: Path) -> None:
        raise MemoryError

    save(sharp(100, 100), tmp_path / "a.png")
    monkeypatch.setattr("training.doctor.read_picture", runs_out)
    assert only_finding(tmp_path).detail == "cannot be decoded (MemoryError); replace or delete it"


def test_a_decompression_bomb_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(sharp(100, 100), tmp_path / "bomb.png")
    monkeypatch.setattr("training.data.LIMITS", replace(LIMITS, max_picture_px=4000))
    finding = only_finding(tmp_path)
    assert finding.problem == "broken"
    assert "10000 px" in finding.detail
    assert "cut it into smaller pictures" in finding.detail


def test_a_picture_smaller_than_a_crop_is_tiny(tmp_path: Path) -> None:
    save(sharp(63, 200, seed=1), tmp_path / "small.png")
    save(sharp(64, 200, seed=2), tmp_path / "whole.png")
    finding = only_finding(tmp_path, min_px=64)
    assert (finding.path.name, finding.problem) == ("small.png", "tiny")
    assert finding.detail.startswith("200 x 63 px is less than 64 px a side")


@pytest.mark.parametrize("name", ["b.bmp", "b.webp", "b.tif"])
def test_the_same_pixels_in_another_format_are_a_duplicate(tmp_path: Path, name: str) -> None:
    save(sharp(100, 120), tmp_path / "a.png")
    save(sharp(100, 120), tmp_path / name, **({"lossless": True} if name == "b.webp" else {}))
    finding = only_finding(tmp_path)
    assert finding.problem == "duplicate"
    others = {"a.png", name} - {finding.path.name}
    assert finding.detail == f"has the same pixels as {tmp_path / others.pop()}; delete one of them"


@pytest.mark.parametrize(
    "copy",
    [lambda a: a, lambda a: resized(a, 0.7), lambda a: resized(a, 0.5).point(lambda level: level * 0.9)],
    ids=["recompressed", "resized", "resized and darkened"],
)
def test_a_copy_of_a_photograph_is_a_duplicate_of_the_better_file(
    tmp_path: Path, copy: Callable[[Image.Image], Image.Image]
) -> None:
    original = save(sharp(200, 250), tmp_path / "z.png")
    save(copy(sharp(200, 250)), tmp_path / "a.jpg", quality=60)
    finding = only_finding(tmp_path)
    assert (finding.path.name, finding.problem) == ("a.jpg", "duplicate")
    assert finding.detail.startswith(f"shows what {original} shows")


def test_every_copy_is_reported_once_and_of_the_same_original(tmp_path: Path) -> None:
    original = save(sharp(200, 250), tmp_path / "b.png")
    for name, quality in (("a.jpg", 70), ("c.jpg", 80), ("d.jpg", 90)):
        save(sharp(200, 250), tmp_path / name, quality=quality)
    report = examine(tmp_path, min_px=64)
    assert [one.path.name for one in report.findings] == ["a.jpg", "c.jpg", "d.jpg"]
    assert all(str(original) in one.detail for one in report.findings)


def test_an_enlarged_copy_does_not_replace_its_sound_original(tmp_path: Path) -> None:
    original = save(sharp(128, 160), tmp_path / "small.png")
    save(resized(sharp(128, 160), 2), tmp_path / "large.png")
    report = examine(tmp_path, min_px=64)
    assert [(one.path.name, one.problem) for one in report.findings] == [
        ("large.png", "low detail"),
        ("large.png", "duplicate"),
    ]
    assert str(original) in report.findings[1].detail
    assert report.usable == 1


def test_pictures_that_share_only_their_large_shapes_are_no_duplicates(tmp_path: Path) -> None:
    light = numpy.linspace(235, 20, 200)[None, :, None]  # each area is darker than its left one: equal hashes
    for seed in range(4):
        things = (numpy.asarray(sharp(200, 200, seed), dtype=float) - 128) * 0.5
        save(Image.fromarray((light + things).clip(0, 255).astype(numpy.uint8)), tmp_path / f"{seed}.png")
    assert problems(tmp_path) == []


def test_flat_pictures_of_different_colours_are_no_duplicates(tmp_path: Path) -> None:
    for colour in ("teal", "tan"):
        save(Image.new("RGB", (100, 100), colour), tmp_path / f"{colour}.png")
    assert problems(tmp_path) == [("tan.png", "low detail"), ("teal.png", "low detail")]


def test_equal_pixels_in_another_shape_are_no_duplicate(tmp_path: Path) -> None:
    save(Image.new("RGB", (100, 200), "teal"), tmp_path / "a.png")
    save(Image.new("RGB", (200, 100), "teal"), tmp_path / "b.png")
    assert problems(tmp_path) == [("a.png", "low detail"), ("b.png", "low detail")]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.filter(ImageFilter.GaussianBlur(2)),
        lambda a: resized(a, 2),
        lambda a: resized(a, 2, Image.Resampling.LANCZOS),
        lambda a: resized(a, 4),
        lambda a: resized(resized(a, 0.5), 2),
    ],
    ids=["blurred", "enlarged by 2", "enlarged by 2 with Lanczos", "enlarged by 4", "reduced and enlarged"],
)
def test_a_picture_without_finest_detail_is_reported(
    tmp_path: Path, spoil: Callable[[Image.Image], Image.Image]
) -> None:
    save(spoil(sharp(128, 160)), tmp_path / "soft.jpg", quality=90)
    finding = only_finding(tmp_path)
    assert finding.problem == "low detail"
    assert f"is less than {MIN_DETAIL:.3f}: flat, blurred or enlarged" in finding.detail


def test_the_limit_of_detail_can_be_set(tmp_path: Path) -> None:
    save(resized(sharp(128, 160), 2), tmp_path / "soft.png")
    assert examine(tmp_path, min_px=64, min_detail=0).findings == ()


def test_smoothed_noise_of_two_pixels_has_no_finest_detail() -> None:
    assert detail(textured(128, 128)[0].numpy()) < MIN_DETAIL


def test_a_sharp_subject_on_a_flat_backdrop_has_detail() -> None:
    portrait = Image.new("RGB", (400, 400), "teal")
    portrait.paste(sharp(96, 96), (160, 160))
    assert detail(levels_of(portrait)) > MIN_DETAIL


def test_noise_does_not_pass_for_detail() -> None:
    soft = levels_of(sharp(256, 256).filter(ImageFilter.GaussianBlur(2)))
    noise = numpy.random.default_rng(0).normal(0, 3, soft.shape)
    assert detail((soft + noise).clip(0, 255).round().astype(numpy.uint8)) < MIN_DETAIL


def test_noise_does_not_hide_detail() -> None:
    levels = levels_of(sharp(256, 256))
    noise = numpy.random.default_rng(0).normal(0, 5, levels.shape)
    noisy = (levels + noise).clip(0, 255).round().astype(numpy.uint8)
    assert detail(noisy) == pytest.approx(detail(levels), rel=0.2)


def test_detail_of_less_than_a_block_cannot_be_measured(tmp_path: Path) -> None:
    small = sharp(31, 60)
    assert math.isnan(detail(levels_of(small)))
    save(small, tmp_path / "small.png")
    assert problems(tmp_path, min_px=16) == []


@pytest.mark.parametrize(("mode", "name"), [("L", "a.png"), ("CMYK", "a.jpg"), ("RGBA", "a.png"), ("P", "a.png")])
def test_other_kinds_of_colour_are_no_finding(tmp_path: Path, mode: str, name: str) -> None:
    save(sharp(100, 100).convert(mode), tmp_path / name)
    assert problems(tmp_path) == []


def test_findings_come_in_the_order_of_their_paths_however_many_threads_decode(tmp_path: Path) -> None:
    for number in range(12):
        save(sharp(100, 100, seed=number % 4), tmp_path / f"{number % 3}/{number:02}.png")
        save(Image.new("RGB", (20, 20)), tmp_path / f"{number % 3}/{number:02}.bmp")
    alone, together = (examine(tmp_path, min_px=64, threads=threads) for threads in (1, 8))
    assert alone == together
    paths = [finding.path for finding in together.findings]
    assert paths == sorted(paths)
    assert together.usable == 4


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no picture"):
        examine(tmp_path, min_px=64)


def test_the_lines_name_each_finding_and_sum_them_up() -> None:
    tiny = Finding(path=Path("a.png"), problem="tiny", detail="3 x 3 px")
    broken = Finding(path=Path("b.png"), problem="broken", detail="cut short")
    assert Report(files=5, megapixels=1.25, findings=(tiny, broken, broken)).lines() == [
        "tiny        a.png: 3 x 3 px",
        "broken      b.png: cut short",
        "broken      b.png: cut short",
        "5 files, 1.2 MP: 2 broken, 1 tiny; 3 usable",
    ]


def test_the_lines_of_a_sound_folder_say_so() -> None:
    report = Report(files=5, megapixels=1.5, findings=())
    assert report.lines() == ["5 files, 1.5 MP: nothing wrong; 5 usable"]


@pytest.fixture
def paired(tmp_path: Path) -> tuple[Path, Path]:
    """Four originals with good low-res pictures."""
    for number in range(4):
        path = save(sharp(128, 160, seed=number), tmp_path / "big" / f"{number}.png")
        save_planes(shrink_bicubic(read_picture(path), 4), tmp_path / "small" / path.name)
    return tmp_path / "big", tmp_path / "small"


def pair_findings(big: Path, small: Path) -> list[str]:
    """Return the doctor's findings for pairs."""
    findings = examine(big, min_px=64, low_res=small).findings
    assert {finding.problem for finding in findings} <= {"pair"}
    return [f"{finding.path.name}: {finding.detail}" for finding in findings]


def test_good_pairs_give_no_finding(paired: tuple[Path, Path]) -> None:
    assert pair_findings(*paired) == []


def test_every_kind_of_bad_pair_is_found(paired: tuple[Path, Path]) -> None:
    big, small = paired
    moved = read_picture(big / "0.png").roll((4, 8), (1, 2))
    save_planes(shrink_bicubic(moved, 4), small / "0.png")
    save_planes(read_picture(small / "3.png"), small / "1.png")
    save_planes(read_picture(small / "2.png")[:, :, 1:], small / "2.png")
    (small / "3.png").rename(small / "4.png")
    first, second, third, fourth, fifth = pair_findings(big, small)
    assert first.startswith(f"0.png: {small / '0.png'}: the low-res picture is shifted by +2.0 px to the right and +1.")
    assert second.startswith(f"1.png: {small / '1.png'}: the ")
    assert second.endswith("; replace or delete it")
    assert third == f"2.png: {small / '2.png'}: 39 x 32 px is not 1/4 of {big / '2.png'}; it must have 40 x 32 px"
    assert fourth == "3.png: there is no low-res picture of this name"
    assert fifth == "4.png: there is no original of this name"


def test_a_low_res_picture_that_cannot_be_decoded_is_found(paired: tuple[Path, Path]) -> None:
    big, small = paired
    (small / "1.png").write_text("no picture")
    (line,) = pair_findings(big, small)
    assert line.startswith(f"1.png: {small / '1.png'}: cannot be read (")


def test_the_low_res_copies_of_a_benchmark_are_pairs_and_no_duplicates(paired: tuple[Path, Path]) -> None:
    big, small = paired
    big.rename(big.parent / "HR")
    small.rename(big.parent / "LRbicX4")
    report = examine(big.parent, min_px=64)
    assert (report.files, report.findings) == (4, ())


def test_the_command_checks_pairs(paired: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    big, small = paired
    command = ["doctor", "--data", str(big), "--low-res", str(small), "--min-px", "64"]
    assert main(command) == 0
    (small / "1.png").unlink()
    assert main(command) == 1
    assert f"pair        {big / '1.png'}: there is no low-res picture of this name" in capsys.readouterr().out


def test_names_that_are_not_utf_8_are_examined_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / os.fsdecode(b"odd \xff")
    save(sharp(40, 40), odd / "a.png")
    (odd / "a.png").rename(odd / os.fsdecode(b"\xfe.png"))
    assert main(["doctor", "--data", str(odd)]) == 1
    assert "odd \\udcff/\\udcfe.png: 40 x 40 px is less than 128 px a side" in capsys.readouterr().out
