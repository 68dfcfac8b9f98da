import os
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.rrdb import RRDBConfig
from tests.model.examples import textured
from tests.training.photographs import lying, save
from training import crop_sources, sources
from training.cache import PictureCache
from training.config import OptimiserConfig, TrainingConfig
from training.crop_sources import DecodedPhotographs, StreamedPhotographs
from training.crops import Batch
from training.data import DataError, picture_files
from training.degrade import shrink_bicubic
from training.pairs import PairFiles, find_pairs
from training.sources import HeldOut, Photographs, half_of_free_bytes, hold_out, open_photographs
from training.uploads import GRID_PX, UploadConfig

CPU = torch.device("cpu")
CONFIG = TrainingConfig(
    name="tiny-psnr-x4",
    recipe="tiny_psnr_x4",
    generator=RRDBConfig(channels=4, blocks=1, growth=2, scale=4),
    steps=10,
    batch=16,
    crop_px=8,
    optimiser=OptimiserConfig(learning_rate=1e-3),
    validate_every=5,
)
PLENTY, NOTHING = 10**9, 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs of odd sizes, upright and lying."""
    save(textured(67, 93, 1), tmp_path / "a.png")
    save(textured(44, 130, 2), tmp_path / "deep" / "b.png")
    save(textured(50, 90, 3), tmp_path / "c.jpg", exif=lying(6))
    save(textured(81, 61, 4), tmp_path / "d.jpg", exif=lying(3))
    return tmp_path


def opened(
    folder: Path,
    max_bytes: int,
    lines: list[str] | None = None,
    *,
    config: TrainingConfig = CONFIG,
    leave_out: frozenset[Path] = frozenset(),
    workers: int = 0,
    cache: Path | None = None,
    low_res: Path | None = None,
) -> Photographs:
    report = (lines if lines is not None else []).append
    pictures = find_pairs(folder, config.generator.scale, low_res)
    return open_photographs(
        pictures, config, CPU, leave_out=leave_out, max_bytes=max_bytes, cache=cache, workers=workers, report=report
    )


@pytest.fixture(autouse=True)
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no room for the cache that is used if no other is named; so files are streamed."""
    monkeypatch.setattr(PictureCache, "free_bytes", lambda cache: 10**9 if cache.folder != sources.CACHE else 0)


def equal(some: Sequence[Batch], others: Sequence[Batch]) -> bool:
    """Bit for bit."""
    pictures = [[picture for batch in batches for picture in batch] for batches in (some, others)]
    return all(torch.equal(one, other) for one, other in zip(*pictures, strict=True))


def cut_short(path: Path) -> None:
    """Leave the header, and not enough of the rest."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_streamed_photographs_give_the_batches_of_decoded_ones(folder: Path) -> None:
    decoded, streamed = opened(folder, PLENTY), opened(folder, NOTHING)
    assert isinstance(decoded.crops, DecodedPhotographs)
    assert isinstance(streamed.crops, StreamedPhotographs)
    assert equal(list(decoded.crops.batches(0, 6)), list(streamed.crops.batches(0, 6)))


def test_photographs_streamed_by_two_workers_give_the_same_batches_in_order(folder: Path) -> None:
    decoded, streamed = opened(folder, PLENTY), opened(folder, NOTHING, workers=2)
    assert equal(list(decoded.crops.batches(2, 7)), list(streamed.crops.batches(2, 7)))


def test_both_ways_to_hold_the_photographs_have_one_number_and_fingerprint(folder: Path) -> None:
    decoded, streamed = opened(folder, PLENTY), opened(folder, NOTHING)
    assert (decoded.number, decoded.fingerprint) == (streamed.number, streamed.fingerprint)
    assert decoded.number == 4


def test_photographs_that_need_more_memory_than_there_may_be_are_streamed(tmp_path: Path) -> None:
    save(textured(67, 93), tmp_path / "a.png")
    needed = 3 * (16 * 23 + 64 * 92)  # low-res and high-res bytes of 67 x 93, cropped
    lines: list[str] = []
    assert isinstance(opened(tmp_path, needed, lines).crops, DecodedPhotographs)
    assert lines == []
    assert isinstance(opened(tmp_path, needed - 1, lines).crops, StreamedPhotographs)
    (line,) = lines
    assert line.startswith("0.0 GB of decoded pictures do not fit on the device, nor 0.0 GB into ")
    assert line.endswith(
        "whole files are decoded for every crop, which is slow; name a folder on a larger disk by --cache"
    )


def test_photographs_that_fit_the_free_memory_are_decoded(folder: Path) -> None:
    lines: list[str] = []
    photographs = open_photographs(find_pairs(folder, 4), CONFIG, CPU, report=lines.append)
    assert isinstance(photographs.crops, DecodedPhotographs)


@pytest.mark.parametrize("max_bytes", [PLENTY, NOTHING])
def test_a_corrupt_and_a_tiny_picture_are_reported_and_left_out(max_bytes: int, folder: Path) -> None:
    whole = opened(folder, max_bytes)
    (folder / "broken.png").write_text("no picture")
    save(textured(31, 99), folder / "tiny.png")
    lines: list[str] = []
    photographs = opened(folder, max_bytes, lines)
    assert lines[0].startswith(f"left out: {folder / 'broken.png'}: cannot be read (")
    assert lines[1] == f"left out: {folder / 'tiny.png'}: 99 x 31 px is less than 32 px a side"
    assert (photographs.number, photographs.fingerprint) == (4, whole.fingerprint)
    assert equal(list(photographs.crops.batches(0, 2)), list(whole.crops.batches(0, 2)))


def test_a_picture_whose_end_is_missing_is_left_out_when_it_is_decoded(folder: Path) -> None:
    cut_short(folder / "c.jpg")
    lines: list[str] = []
    photographs = opened(folder, PLENTY, lines)
    assert len(lines) == 1
    assert lines[0].startswith(f"left out: {folder / 'c.jpg'}: cannot be read (")
    assert photographs.number == 3
    assert len(list(photographs.crops.batches(0, 3))) == 3


def test_a_picture_that_breaks_during_the_run_is_reported_once_and_other_crops_are_drawn(folder: Path) -> None:
    lines: list[str] = []
    photographs = opened(folder, NOTHING, lines)
    lines.clear()
    cut_short(folder / "c.jpg")
    batches = list(photographs.crops.batches(0, 4))
    assert len(lines) == 1
    assert lines[0].startswith(f"left out: {folder / 'c.jpg'}: cannot be read (")
    assert all(low_res.shape == (16, 3, 8, 8) and high_res.shape == (16, 3, 32, 32) for low_res, high_res in batches)


def test_what_is_drawn_in_place_of_a_broken_picture_is_the_same_in_every_run(folder: Path) -> None:
    photographs, workers = opened(folder, NOTHING), opened(folder, NOTHING, workers=1)
    cut_short(folder / "c.jpg")
    whole = list(photographs.crops.batches(0, 4))
    assert equal(whole, list(photographs.crops.batches(0, 4)))
    assert equal(whole[2:], list(workers.crops.batches(2, 4)))


def test_a_picture_that_is_replaced_by_one_of_another_size_is_reported_and_left_out(folder: Path) -> None:
    lines: list[str] = []
    photographs = opened(folder, NOTHING, lines)
    lines.clear()
    save(textured(36, 40, 1), folder / "a.png")
    batches = list(photographs.crops.batches(0, 4))
    assert len(lines) == 1
    assert lines[0].startswith(f"left out: {folder / 'a.png'}: cannot be read (")
    assert all(low_res.shape == (16, 3, 8, 8) for low_res, _ in batches)


def test_a_run_gives_up_when_all_its_photographs_are_gone(folder: Path) -> None:
    photographs = opened(folder, NOTHING)
    for path in picture_files(folder):
        path.unlink()
    with pytest.raises(DataError, match=r"pictures in a row cannot be read; the last: .*No such file"):
        list(photographs.crops.batches(0, 1))


def test_a_folder_without_a_usable_picture_is_refused(tmp_path: Path) -> None:
    save(textured(20, 20), tmp_path / "tiny.png")
    for max_bytes in (PLENTY, NOTHING):
        with pytest.raises(DataError, match="no photograph of the folder can be used"):
            opened(tmp_path, max_bytes)


def test_the_fingerprint_changes_with_names_and_sizes(folder: Path) -> None:
    seen = [opened(folder, PLENTY).fingerprint]
    save(textured(64, 93, 1), folder / "a.png")  # 16 whole low-res rows, as 67 px have
    assert opened(folder, PLENTY).fingerprint == seen[0]
    save(textured(63, 93, 1), folder / "a.png")
    seen.append(opened(folder, PLENTY).fingerprint)
    (folder / "a.png").rename(folder / "e.png")
    seen.append(opened(folder, PLENTY).fingerprint)
    (folder / "c.jpg").unlink()
    seen.append(opened(folder, PLENTY).fingerprint)
    assert len(set(seen)) == 4


def folder_of(path: Path, number: int) -> Path:
    """Create a folder of black pictures."""
    for one in range(number):
        save(torch.zeros(3, 32, 32, dtype=torch.uint8), path / f"{one:03}.png")
    return path


def held_out(folder: Path, lines: list[str] | None = None) -> HeldOut:
    return hold_out(find_pairs(folder, 4), (lines if lines is not None else []).append, measurable=every)


def every(_: PairFiles) -> bool:
    """Take every picture for one that can be measured, unread."""
    return True


def touched(folder: Path, *names: str) -> Path:
    """A folder of files that are found and not read."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(("files", "expected"), [(10, 1), (29, 2), (120, 10)])
def test_a_tenth_of_the_pictures_is_held_out_and_at_most_ten(files: int, expected: int, tmp_path: Path) -> None:
    lines: list[str] = []
    held = held_out(touched(tmp_path, *(f"{number}.png" for number in range(files))), lines)
    assert len(held.measured) == len(held.left_out) == expected
    assert lines == []


def test_a_folder_of_fewer_than_ten_photographs_says_that_none_is_kept_aside(tmp_path: Path) -> None:
    lines: list[str] = []
    assert held_out(touched(tmp_path, *(f"{number}.png" for number in range(9))), lines) == HeldOut((), frozenset())
    assert lines == [f"{tmp_path} holds 9 different photographs, and 10 are needed to keep one aside"]


@pytest.mark.parametrize(
    ("name", "number", "expected"), [("photo_{:02}.jpg", 20, 2), ("img_{:03}.png", 100, 10), ("{0}_{0}.png", 9, 0)]
)
def test_numbered_photographs_are_measured_with_a_word_about_tiles(
    name: str, number: int, expected: int, tmp_path: Path
) -> None:
    lines: list[str] = []
    held = held_out(touched(tmp_path, *(name.format(one + 1) for one in range(number))), lines)
    assert len(held.measured) == len(held.left_out) == expected
    (line,) = lines
    if expected:
        assert (
            f"the {number} pictures could be tiles of fewer than 10 photographs. Each counts as a photograph; " in line
        )


def test_a_run_that_continues_holds_out_what_it_held_out_before(tmp_path: Path) -> None:
    folder = touched(tmp_path, *(f"DSC{number:05}.jpg" for number in range(60)))
    first = held_out(folder)
    touched(folder, *(f"NEW{number:05}.jpg" for number in range(60)))
    first.measured[0].high_res.unlink()
    second = hold_out(find_pairs(folder, 4), print, first.names(folder), measurable=every)
    assert second == HeldOut(first.measured[1:], first.left_out - {first.measured[0].high_res})
    assert held_out(folder) != second


def test_a_run_whose_held_out_pictures_are_all_gone_holds_out_others(tmp_path: Path) -> None:
    folder = touched(tmp_path, *(f"DSC{number:05}.jpg" for number in range(60)))
    first = held_out(folder)
    for path in first.left_out:
        path.unlink()
    assert len(hold_out(find_pairs(folder, 4), print, first.names(folder), measurable=every).measured) == 5


def test_a_photograph_that_cannot_be_measured_is_not_held_out(tmp_path: Path) -> None:
    pictures = find_pairs(touched(tmp_path, *(f"{number}.png" for number in range(20))), 4)
    first = held_out(tmp_path)
    broken = first.measured[0]
    held = hold_out(pictures, print, measurable=lambda files: files != broken)
    assert len(held.measured) == len(held.left_out) == 2
    assert held.measured[0] == first.measured[1]  # the others move up
    assert broken.high_res not in held.left_out


def test_a_tile_that_cannot_be_measured_is_not_learnt_from_either(tmp_path: Path) -> None:
    names = [f"castle{photo}_{number}.png" for photo in range(10) for number in range(3)]
    pictures = find_pairs(touched(tmp_path, *names), 4)
    broken = held_out(tmp_path).measured[0]
    held = hold_out(pictures, print, measurable=lambda files: files != broken)
    assert len(held.measured) == 2
    assert broken.high_res in held.left_out


def test_which_pictures_are_held_out_depends_on_their_names_alone(tmp_path: Path) -> None:
    one, other = folder_of(tmp_path / "one", 30), tmp_path / "other"
    touched(other, *(f"{number:03}.png" for number in reversed(range(30))))
    names = [{path.name for path in held_out(folder).left_out} for folder in (one, other)]
    assert names[0] == names[1]
    assert names[0] != {"000.png", "001.png", "002.png"}


@pytest.mark.parametrize("tile", ["castle{}_{}.png", "0{}_s{:03}.png", "{} a-{}.jpg", "{}_0_{}.webp"])
def test_tiles_of_one_photograph_are_never_on_both_sides(tile: str, tmp_path: Path) -> None:
    held = held_out(touched(tmp_path, *(tile.format(photo, number) for photo in range(20) for number in range(4))))
    assert len(held.measured) == len(held.left_out) == 8  # two photographs of four tiles
    learnt = {path.name for path in tmp_path.iterdir()} - {path.name for path in held.left_out}
    for photo in range(20):
        assert len(learnt & {tile.format(photo, number) for number in range(4)}) in (0, 4)


def test_of_photographs_of_many_tiles_some_of_each_are_measured_and_none_is_learnt_from(tmp_path: Path) -> None:
    held = held_out(touched(tmp_path, *(f"{photo:04}_s{number:03}.png" for photo in range(200) for number in range(6))))
    assert len(held.left_out) == 60
    assert len({files.name.split("_")[0] for files in held.measured}) == len(held.measured) == 10


def test_counters_of_cameras_are_no_tiles(tmp_path: Path) -> None:
    assert len(held_out(touched(tmp_path, *(f"IMG_{number:04}.jpg" for number in range(50)))).left_out) == 5


@pytest.mark.parametrize("max_bytes", [PLENTY, NOTHING])
def test_what_is_held_out_is_never_learnt_from(max_bytes: int, tmp_path: Path) -> None:
    left_out = held_out(folder_of(tmp_path, 20)).left_out
    for path in left_out:
        save(torch.full((3, 32, 32), 255, dtype=torch.uint8), path)
    photographs = opened(tmp_path, max_bytes, leave_out=left_out)
    assert (photographs.number, len(left_out)) == (18, 2)
    assert max(int(high_res.max()) for _, high_res in photographs.crops.batches(0, 10)) == 0
    whole = opened(tmp_path, max_bytes)
    assert max(int(high_res.max()) for _, high_res in whole.crops.batches(0, 10)) == 255


def test_names_that_are_not_utf_8_are_held_out_and_learnt_from(tmp_path: Path) -> None:
    for number in range(12):
        save(textured(40, 40, number), tmp_path / "picture.png")
        (tmp_path / "picture.png").rename(tmp_path / os.fsdecode(b"%d \xff.png" % number))
    held = held_out(tmp_path)
    assert len(held.left_out) == 1
    for cache in (None, tmp_path / "cache"):
        assert opened(tmp_path, PLENTY, leave_out=held.left_out, cache=cache).number == 11


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_photographs_give_the_batches_of_decoded_ones(workers: int, folder: Path) -> None:
    lines: list[str] = []
    cached = opened(folder, NOTHING, lines, cache=folder / "cache", workers=workers)
    assert isinstance(cached.crops, StreamedPhotographs)
    assert lines == []
    assert equal(list(opened(folder, PLENTY).crops.batches(0, 6)), list(cached.crops.batches(0, 6)))


def test_photographs_that_do_not_fit_into_memory_are_cached_if_the_disk_has_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(sources, "CACHE", folder / "cache")
    monkeypatch.setattr(PictureCache, "free_bytes", lambda cache: 10**9)
    cached = opened(folder, NOTHING, lines)
    assert lines == [
        f"0.0 GB of decoded pictures do not fit on the device; they are kept in {folder / 'cache'}",
    ]
    whole = list(opened(folder, PLENTY).crops.batches(0, 2))
    for path in picture_files(folder):
        path.write_bytes(b"")  # nothing is decoded during the run
    assert equal(list(cached.crops.batches(0, 2)), whole)


@pytest.mark.parametrize("max_bytes", [PLENTY, NOTHING])
def test_a_broken_picture_is_left_out_of_the_cache_too(max_bytes: int, folder: Path) -> None:
    cut_short(folder / "c.jpg")
    lines: list[str] = []
    photographs = opened(folder, max_bytes, lines, cache=folder / "cache")
    assert len(list(photographs.crops.batches(0, 3))) == 3
    assert len(lines) == 1
    assert lines[0].startswith(f"left out: {folder / 'c.jpg'}: cannot be read (")


@pytest.fixture
def paired(tmp_path: Path) -> tuple[Path, Path]:
    """Originals, and low-res pictures of another kind than bicubic."""
    for number, (height, width) in enumerate([(64, 92), (48, 80)]):
        picture = textured(height, width, number)
        save(picture, tmp_path / "big" / f"{number}.png")
        save(255 - shrink_bicubic(picture, 4), tmp_path / "small" / f"{number}.png")
    return tmp_path / "big", tmp_path / "small"


@pytest.mark.parametrize("max_bytes", [PLENTY, NOTHING])
@pytest.mark.parametrize("cached", [True, False])
def test_a_run_learns_from_the_low_res_pictures_that_are_given(
    max_bytes: int, cached: bool, paired: tuple[Path, Path]
) -> None:
    big, small = paired
    cache = big.parent / "cache" if cached else None
    batches = opened(big, max_bytes, cache=cache, low_res=small).crops.batches(0, 3)
    plain = opened(big, PLENTY).crops.batches(0, 3)
    for (low_res, high_res), (reduced, same) in zip(batches, plain, strict=True):
        assert torch.equal(high_res, same)
        assert torch.equal(low_res, 255 - reduced)


@pytest.mark.parametrize("max_bytes", [PLENTY, NOTHING])
def test_pairs_that_do_not_fit_together_are_left_out_with_the_reason(max_bytes: int, paired: tuple[Path, Path]) -> None:
    big, small = paired
    save(textured(12, 21), small / "1.png")
    save(textured(64, 64), big / "alone.png")
    lines: list[str] = []
    assert opened(big, max_bytes, lines, low_res=small).number == 1
    assert lines[:2] == [
        f"left out: {big / 'alone.png'}: there is no low-res picture of this name",
        f"left out: {small / '1.png'}: 21 x 12 px is not 1/4 of {big / '1.png'}; it must have 20 x 12 px",
    ]


def test_the_low_res_copies_of_a_benchmark_are_not_learnt_from(tmp_path: Path) -> None:
    picture = textured(160, 160)
    save(picture, tmp_path / "HR" / "a.png")
    save(shrink_bicubic(picture, 4), tmp_path / "LRbicX4" / "a.png")
    save(shrink_bicubic(picture, 2), tmp_path / "LRbicX2" / "a.png")
    assert opened(tmp_path, PLENTY).number == 1


ALL_DAMAGED = UploadConfig(clean_share=0, web_share=0, recolour_probability=0)
UPLOADS = replace(CONFIG, crop_px=6, batch=4, degradation=ALL_DAMAGED)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Photographs in which the region of an upload fits: 28 low-res px and more."""
    for number, (height, width) in enumerate([(121, 130), (120, 114)]):
        save(textured(height, width, number), tmp_path / f"{number}.png")
    return tmp_path


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten().float(), other.flatten().float()]))[0, 1])


def test_uploads_show_what_their_high_res_crops_show_and_are_damaged(large: Path) -> None:
    for low_res, high_res in opened(large, PLENTY, config=UPLOADS).crops.batches(0, 5):
        assert (low_res.dtype, low_res.shape, high_res.shape) == (torch.uint8, (4, 3, 6, 6), (4, 3, 24, 24))
        plain = shrink_bicubic(high_res, 4)
        assert not any(torch.equal(*both) for both in zip(low_res, plain, strict=True))
        assert likeness(low_res, plain) > 0.5


def test_the_high_res_crops_of_uploads_are_pieces_of_the_photographs_bit_for_bit(tmp_path: Path) -> None:
    rows, columns = torch.meshgrid(torch.arange(120), torch.arange(128), indexing="ij")
    save(torch.stack((rows, columns, 0 * rows)).byte(), tmp_path / "map.png")
    for _, high_res in opened(tmp_path, PLENTY, config=UPLOADS).crops.batches(0, 3):
        for high in high_res.int():
            y, x = high[:2] if high[0, 0, 0] == high[0, 0, -1] else high[:2].transpose(1, 2)
            assert (y[:, :1] == y).all()
            assert set(y[:, 0].diff().abs().tolist()) == set(x[0].diff().abs().tolist()) == {1}
            assert min(y[0, 0], y[-1, 0]) % 4 == min(x[0, 0], x[0, -1]) % 4 == 0


@pytest.mark.parametrize("max_bytes", [PLENTY, NOTHING])
def test_the_uploads_of_a_step_are_the_same_whenever_it_is_taken(max_bytes: int, large: Path) -> None:
    whole = list(opened(large, PLENTY, config=UPLOADS).crops.batches(0, 3))
    assert equal(whole[1:], list(opened(large, max_bytes, config=UPLOADS).crops.batches(1, 3)))


def test_uploads_without_damage_are_matlabs_bicubic_inside_the_crop(large: Path) -> None:
    config = replace(UPLOADS, crop_px=12, degradation=UploadConfig(clean_share=1, recolour_probability=0))
    for low_res, high_res in opened(large, PLENTY, config=config).crops.batches(0, 3):
        inside = (..., slice(3, -3), slice(3, -3))  # the reduction reaches over the border of a crop
        difference = shrink_bicubic(high_res, 4)[inside].int() - low_res[inside].int()
        assert difference.abs().max() == 0


def test_every_step_damages_its_crops_in_its_own_way(tmp_path: Path) -> None:
    side = (UPLOADS.crop_px + GRID_PX) * 4
    save(textured(8, 8)[:, :1, :1].expand(3, side, side), tmp_path / "flat.png")  # every crop is the same
    noisy = replace(UPLOADS, degradation=replace(ALL_DAMAGED, noise_probability=1, noise_levels=(5, 9)))
    damaged = [low_res for low_res, _ in opened(tmp_path, PLENTY, config=noisy).crops.batches(0, 3)]
    crops = [crop.numpy().tobytes() for batch in damaged for crop in batch]
    assert len(set(crops)) == len(crops)


def test_a_picture_without_room_for_the_region_of_an_upload_is_left_out(large: Path) -> None:
    min_px = (UPLOADS.crop_px + GRID_PX) * 4
    save(textured(min_px - 1, 200), large / "low.png")
    lines: list[str] = []
    assert opened(large, PLENTY, lines, config=UPLOADS).number == 2
    assert lines == [f"left out: {large / 'low.png'}: 200 x {min_px - 1} px is less than {min_px} px a side"]


def test_a_photograph_that_breaks_is_reported_although_a_thread_damages_the_crops(large: Path) -> None:
    photographs = opened(large, NOTHING, config=UPLOADS)
    for path in picture_files(large):
        path.unlink()
    with pytest.raises(DataError, match="pictures in a row cannot be read"):
        list(photographs.crops.batches(0, 2))


def test_a_run_that_ends_early_leaves_no_thread_behind(large: Path) -> None:
    batches = opened(large, PLENTY, config=UPLOADS).crops.batches(0, 1000)
    next(batches)
    assert isinstance(batches, Generator)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("degradation")]


@pytest.mark.parametrize("max_bytes", [PLENTY, NOTHING])
def test_two_processes_see_the_uploads_that_one_sees(
    max_bytes: int, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(UPLOADS, degradation=UploadConfig())
    whole = list(opened(large, PLENTY, config=config).crops.batches(0, 3))
    monkeypatch.setattr(sources, "processes", lambda: 2)
    shares = []
    for process in (0, 1):
        monkeypatch.setattr(sources, "this_process", lambda number=process: number)
        shares.append(list(opened(large, max_bytes, config=config).crops.batches(0, 3)))
    for batch, first, second in zip(whole, *shares, strict=True):
        assert len(first[0]) == len(second[0])
        assert crops_of(batch) == sorted(crops_of(first) + crops_of(second))  # each process has an order of its own


def crops_of(batch: Batch) -> list[bytes]:
    """The pairs of crops of a batch, in an order that does not depend on theirs."""
    return sorted(
        low.contiguous().numpy().tobytes() + high.contiguous().numpy().tobytes()
        for low, high in zip(*batch, strict=True)
    )


@pytest.mark.parametrize("process", [0, 1])
def test_two_processes_draw_the_same_crops_in_the_place_of_a_broken_picture_as_one(
    process: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = opened(folder, NOTHING)
    monkeypatch.setattr(sources, "processes", lambda: 2)
    monkeypatch.setattr(sources, "this_process", lambda: process)
    shared = opened(folder, NOTHING)
    cut_short(folder / "c.jpg")
    share = [(low[process::2], high[process::2]) for low, high in photographs.crops.batches(0, 3)]
    assert equal(list(shared.crops.batches(0, 3)), share)


def test_regions_of_uploads_are_cut_without_any_reduction(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(picture: torch.Tensor, scale: int) -> torch.Tensor:
        raise AssertionError("a low-res picture was made and thrown away")

    for module in (sources, crop_sources):
        monkeypatch.setattr(module, "shrink_bicubic", refused)
    for max_bytes in (PLENTY, NOTHING):
        assert len(list(opened(large, max_bytes, config=UPLOADS).crops.batches(0, 2))) == 2


@pytest.mark.parametrize(("processes", "half"), [(None, 20_480), ("2", 10_240)])
def test_the_processes_of_a_machine_share_half_of_its_free_memory(
    processes: str | None, half: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "available_bytes", lambda: 40_960)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert half_of_free_bytes(torch.device("cpu")) == half


def test_a_picture_that_cannot_be_decoded_is_left_out_of_the_crops_of_every_way(folder: Path, tmp_path: Path) -> None:
    cut_short(folder / "c.jpg")
    lines: list[str] = []
    decoded = opened(folder, PLENTY)
    cached = opened(folder, NOTHING, lines, cache=tmp_path.parent / "cache")
    assert (decoded.number, cached.number) == (3, 3)
    assert decoded.fingerprint == cached.fingerprint
    assert [line for line in lines if line.startswith(f"left out: {folder / 'c.jpg'}: cannot be read")]
