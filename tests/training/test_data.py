from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.model.examples import textured
from training.data import CropSampler, DataError, Pair, picture_files, read_pairs, read_picture
from training.degrade import crop_to_multiple, shrink_bicubic


def save(picture: Tensor, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(path)
    return path


def map_pair(height: int, width: int, scale: int = 4, mark: int = 0) -> Pair:
    """A pair whose pixels say where they are: row, column, and a mark of the picture."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    low_res = torch.stack((rows, columns, torch.full_like(rows, mark))).byte()
    return Pair("map", low_res, low_res.repeat_interleave(scale, 1).repeat_interleave(scale, 2))


def sampler_of(*pairs: Pair, crop_px: int = 8, batch: int = 8, seed: int = 0) -> CropSampler:
    return CropSampler(list(pairs), scale=4, crop_px=crop_px, batch=batch, seed=seed)


def test_pictures_are_found_in_depth_in_a_fixed_order(tmp_path: Path) -> None:
    files = [save(textured(8, 8), tmp_path / name) for name in ("b.png", "a/z.jpg", "a/c.WEBP")]
    (tmp_path / "notes.txt").write_text("not a picture")
    assert picture_files(tmp_path) == sorted(files)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent is not a folder; name one with photographs"):
        picture_files(tmp_path / "absent")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(DataError, match=r"holds no picture; looked for \.bmp, \.jpeg"):
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
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(tmp_path / "side.png", exif=exif)
    assert torch.equal(read_picture(tmp_path / "side.png"), picture.rot90(-1, (1, 2)))


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


def test_a_sampler_without_a_photograph_is_refused() -> None:
    with pytest.raises(DataError, match="no photograph of the folder can be used"):
        sampler_of()


def test_a_batch_has_the_shapes_that_were_asked_for() -> None:
    low_res, high_res = sampler_of(map_pair(20, 30), crop_px=6, batch=3).batch_of_step(0)
    assert (low_res.shape, high_res.shape) == ((3, 3, 6, 6), (3, 3, 24, 24))
    assert low_res.dtype == high_res.dtype == torch.uint8


def test_both_crops_show_the_same_place_the_same_way_round() -> None:
    sampler = sampler_of(map_pair(20, 30, mark=1), map_pair(13, 9, mark=2))
    for step in range(20):
        low_res, high_res = sampler.batch_of_step(step)
        assert torch.equal(low_res.repeat_interleave(4, 2).repeat_interleave(4, 3), high_res)


def test_the_low_res_crop_is_what_shrinking_gives_there(tmp_path: Path) -> None:
    save(textured(160, 200), tmp_path / "photo.png")
    (pair,) = read_pairs(tmp_path, 4)
    assert isinstance(pair, Pair)
    inside = (..., slice(2, -2), slice(2, -2))  # the kernel reaches two low-res pixels
    for step in range(5):
        low_res, high_res = sampler_of(pair, crop_px=12).batch_of_step(step)
        difference = shrink_bicubic(high_res, 4)[inside].int() - low_res[inside].int()
        assert difference.abs().max() <= 1  # a transposed picture rounds its columns first
        shifted = shrink_bicubic(high_res.roll(4, -1), 4)[inside].int() - low_res[inside].int()
        assert shifted.abs().max() > 10


def test_the_crops_of_a_step_depend_on_the_seed_and_the_step_alone() -> None:
    pair = map_pair(40, 50)
    in_order = sampler_of(pair, seed=3)
    batches = [in_order.batch_of_step(step) for step in range(4)]
    torch.manual_seed(99)
    for step in (3, 1, 1, 0, 2):
        low_res, high_res = sampler_of(pair, seed=3).batch_of_step(step)
        assert torch.equal(low_res, batches[step][0])
        assert torch.equal(high_res, batches[step][1])


def test_other_steps_and_other_seeds_give_other_crops() -> None:
    pair = map_pair(40, 50)
    batches = [sampler_of(pair, seed=seed).batch_of_step(step)[0] for seed in (0, 1) for step in (0, 1)]
    assert not any(torch.equal(a, b) for number, a in enumerate(batches) for b in batches[:number])


def test_sampling_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    sampler_of(map_pair(20, 30)).batch_of_step(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_all_eight_symmetries_occur() -> None:
    sampler = sampler_of(map_pair(20, 20), batch=32)
    seen = set()
    for step in range(4):
        for crop in sampler.batch_of_step(step)[0].int():
            down, right = crop[:2, 1, 0] - crop[:2, 0, 0], crop[:2, 0, 1] - crop[:2, 0, 0]
            seen.add((tuple(down.tolist()), tuple(right.tolist())))
    units = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    assert seen == {(down, right) for down in units for right in units if down[0] * right[0] + down[1] * right[1] == 0}


def test_every_place_of_a_picture_is_reached() -> None:
    sampler = sampler_of(map_pair(10, 11), batch=64)
    corners = {
        tuple(crop[:2].amin(dim=(1, 2)).tolist()) for step in range(4) for crop in sampler.batch_of_step(step)[0]
    }
    assert corners == {(top, left) for top in range(3) for left in range(4)}


def test_a_photograph_is_drawn_as_often_as_it_has_places_for_a_crop() -> None:
    sampler = sampler_of(map_pair(8, 8, mark=1), map_pair(8, 106, mark=2), batch=100)  # 1 place, 99 places
    marks = torch.cat([sampler.batch_of_step(step)[0][:, 2, 0, 0] for step in range(20)])
    assert 5 <= (marks == 1).sum() <= 40  # 20 of 2000 expected
