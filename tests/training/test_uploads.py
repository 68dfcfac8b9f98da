import io
import math
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.model.examples import textured
from training import uploads
from training.degrade import shrink_bicubic
from training.kernels import BlurConfig
from training.uploads import (
    GRID_PX,
    MIN_SIDE_PX,
    FileConfig,
    UploadConfig,
    add_gaussian_noise,
    degrade_crops,
    degrade_upload,
    encoded,
)

CLEAN = UploadConfig(clean_share=1)
NO_FILE = FileConfig(probability=0)


def rng(*seed: int) -> numpy.random.Generator:
    return numpy.random.default_rng(seed or 0)


def config(**values: Any) -> UploadConfig:
    """No damage except the named one."""
    nothing: dict[str, Any] = {
        "clean_share": 0.0,
        "web_share": 0.0,
        "twice_share": 0.0,
        "blur_probability": 0.0,
        "noise_probability": 0.0,
        "sharpen_probability": 0.0,
        "recolour_probability": 0.0,
        "file": NO_FILE,
    }
    return UploadConfig(**(nothing | values))


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """A picture whose detail survives blur and reduction: uint8 RGB (3, H, W) within 40 to 215."""
    coarse = textured(height // 8 + 2, width // 8 + 2, seed)[None].float()
    large = functional.interpolate(coarse, size=(height, width), mode="bicubic")[0]
    return large.mul(0.7).add(40).round().clamp(40, 215).to(torch.uint8)


def difference(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().mean())


# Pictures


@pytest.mark.parametrize(("scale", "height", "width"), [(1, 24, 16), (2, 24, 40), (3, 18, 18), (4, 11, 13)])
def test_an_upload_is_smaller_by_the_scale_and_holds_bytes(scale: int, height: int, width: int) -> None:
    high_res = textured(scale * height, scale * width)
    for seed in range(6):
        low_res = degrade_upload(high_res, scale, UploadConfig(clean_share=0), rng(seed))
        assert (low_res.shape, low_res.dtype) == ((3, height, width), torch.uint8)


def test_an_upload_is_a_function_of_its_seed_and_leaves_the_original_alone() -> None:
    high_res = textured(64, 80)
    untouched = high_res.clone()
    for seed in range(8):
        one = degrade_upload(high_res, 4, UploadConfig(), rng(seed))
        torch.rand(1)
        numpy.random.default_rng().random()
        assert torch.equal(degrade_upload(high_res, 4, UploadConfig(), rng(seed)), one)
    assert torch.equal(high_res, untouched)


def test_drawing_leaves_the_global_random_states_alone() -> None:
    before = torch.get_rng_state(), numpy.random.get_state()[1].copy()  # type: ignore[index]  # numpy's stub allows a dict
    degrade_upload(textured(64, 64), 4, UploadConfig(clean_share=0), rng())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (numpy.random.get_state()[1] == before[1]).all()  # type: ignore[index]


def test_other_seeds_damage_in_other_ways() -> None:
    high_res = textured(64, 64)
    made = {degrade_upload(high_res, 4, UploadConfig(clean_share=0), rng(seed)).numpy().tobytes() for seed in range(12)}
    assert len(made) == 12


def test_a_clean_upload_is_matlabs_bicubic_bit_for_bit() -> None:
    for seed in range(4):
        high_res = textured(64, 92, seed)
        assert torch.equal(degrade_upload(high_res, 4, CLEAN, rng(seed)), shrink_bicubic(high_res, 4))


def test_an_upload_of_the_web_share_is_matlabs_bicubic_in_a_file() -> None:
    jpeg = FileConfig(probability=0, webp_share=0, quality=(75, 75), typical_quality=75, subsampling_shares=(0, 0, 1))
    web = config(web_share=1.0, blur_probability=1.0, noise_probability=1.0, file=jpeg)
    for seed in range(4):
        high_res = textured(64, 92, seed)
        expected = encoded(shrink_bicubic(high_res, 4), "JPEG", quality=75, subsampling="4:2:0")
        assert torch.equal(degrade_upload(high_res, 4, web, rng(seed)), expected)


def test_as_many_uploads_are_clean_as_the_share_says() -> None:
    high_res = textured(11, 11)
    noisy = config(clean_share=0.2, noise_probability=1.0, soft_probability=0.0)
    clean = sum(torch.equal(degrade_upload(high_res, 1, noisy, rng(seed)), high_res) for seed in range(300))
    assert 36 < clean < 84  # 60 expected, deviation 7


def test_without_damage_there_remains_the_resize() -> None:
    high_res = smooth(96, 96)
    plain = shrink_bicubic(high_res, 4)
    for seed in range(12):
        assert difference(degrade_upload(high_res, 4, config(), rng(seed)), plain) < 3


@pytest.mark.parametrize(
    ("damage", "least"),
    [
        ({"blur_probability": 1.0, "blur": BlurConfig(sinc_probability=0, sigma_px=(3, 3))}, 1.0),
        ({"noise_probability": 1.0, "noise_levels": (5.0, 5.0)}, 2.0),
        ({"sharpen_probability": 1.0, "sharpen_amount": (1.2, 1.2)}, 1.0),
        ({"file": FileConfig(probability=1, webp_share=0, quality=(30, 30), typical_quality=30)}, 1.5),
        ({"file": FileConfig(probability=1, webp_share=1, quality=(30, 30), typical_quality=30)}, 1.0),
        ({"twice_share": 1.0, "file": FileConfig(probability=1, quality=(30, 30), typical_quality=30)}, 1.5),
    ],
    ids=["blur", "noise", "sharpen", "JPEG", "WebP", "twice"],
)
def test_every_kind_of_damage_changes_the_picture_and_leaves_what_it_shows(
    damage: dict[str, Any], least: float
) -> None:
    high_res = smooth(96, 96)
    plain = shrink_bicubic(high_res, 4)
    errors = [difference(degrade_upload(high_res, 4, config(**damage), rng(seed)), plain) for seed in range(8)]
    assert sum(errors) / 8 > least  # the resize alone: 0.4
    assert max(errors) < 25


def test_the_noise_has_the_strength_that_is_asked_for() -> None:
    high_res = torch.full((3, 256, 256), 128, dtype=torch.uint8)
    noisy = config(noise_probability=1.0, noise_levels=(6.0, 6.0), soft_probability=0.0)
    for seed in range(6):
        error = degrade_upload(high_res, 4, noisy, rng(seed)).float() - 128
        assert error.std().item() == pytest.approx(6, rel=0.05)
        assert abs(error.mean().item()) < 0.4


def test_faint_noise_is_drawn_as_often_as_strong_noise() -> None:
    high_res = torch.full((3, 96, 96), 128, dtype=torch.uint8)
    noisy = config(noise_probability=1.0, noise_levels=(2.0, 32.0), soft_probability=0.0)
    strengths = [degrade_upload(high_res, 4, noisy, rng(seed)).float().std().item() for seed in range(99)]
    assert 6 < sorted(strengths)[49] < 10.5  # between 2 and 32 each doubling is as likely as the others


@pytest.mark.parametrize(("grey_probability", "grey"), [(0.0, False), (1.0, True)])
def test_grey_noise_is_the_same_in_the_three_colours(grey_probability: float, grey: bool) -> None:
    high_res = torch.full((3, 128, 128), 128, dtype=torch.uint8)
    noisy = config(noise_probability=1.0, noise_levels=(6.0, 6.0), grey_probability=grey_probability)
    red, green, _ = degrade_upload(high_res, 4, noisy, rng())
    assert torch.equal(red, green) == grey


def test_soft_noise_is_like_its_neighbours() -> None:
    high_res = torch.full((3, 256, 256), 128, dtype=torch.uint8)

    def likeness(soft_probability: float) -> float:
        noisy = config(noise_probability=1.0, noise_levels=(9.0, 9.0), soft_probability=soft_probability)
        made = [degrade_upload(high_res, 4, noisy, rng(seed)) for seed in range(8)]  # each is blurred by its own amount
        error = torch.stack(made).float() - 128
        return float(torch.corrcoef(torch.stack([error[..., 1:].flatten(), error[..., :-1].flatten()]))[0, 1])

    assert abs(likeness(0.0)) < 0.05
    assert likeness(1.0) > 0.1


def test_noise_of_one_channel_is_added_to_all() -> None:
    noisy = add_gaussian_noise(torch.full((2, 3, 40, 40), 100.0), 5.0, rng(), channels=1)
    assert torch.equal(noisy[:, 0], noisy[:, 2])
    assert not torch.equal(noisy[0], noisy[1])
    assert (noisy - 100).std().item() == pytest.approx(5, rel=0.05)


def test_the_mean_colour_survives_on_average() -> None:
    high_res = smooth(96, 96)
    made = torch.stack([degrade_upload(high_res, 4, UploadConfig(clean_share=0), rng(seed)) for seed in range(24)])
    drift = made.float().mean(dim=(0, 2, 3)) - high_res.float().mean(dim=(1, 2))
    assert drift.abs().max() < 1.2


def shift_px(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Measure the shift of `one` down and to the right of `other`, by least squares on the slopes."""
    one, other = one.float().mean(dim=0), other.float().mean(dim=0)
    slopes = torch.stack(torch.gradient(other)).flatten(1).T
    down, right = torch.linalg.lstsq(slopes, (other - one).flatten()[:, None]).solution.flatten().tolist()
    return down, right


def test_the_shift_of_a_picture_is_measured() -> None:
    fine = smooth(256, 256)
    moved = shrink_bicubic(fine.roll((1, -2), (1, 2)), 4)[:, 4:-4, 4:-4]
    assert shift_px(moved, shrink_bicubic(fine, 4)[:, 4:-4, 4:-4]) == pytest.approx((0.25, -0.5), abs=0.03)


def test_an_upload_is_aligned_with_its_original() -> None:
    shifts = []
    for seed in range(24):
        high_res = smooth(160, 128, seed)
        low_res = degrade_upload(high_res, 4, UploadConfig(clean_share=0), rng(seed))
        shifts.append(shift_px(low_res, shrink_bicubic(high_res, 4)))
    down, right = zip(*shifts, strict=True)
    assert abs(sum(down) / 24) < 0.025
    assert abs(sum(right) / 24) < 0.025
    assert max(map(abs, down + right)) < 0.25  # the shift of single pictures is noise, or that of one drawn kernel


# Files


@pytest.mark.parametrize("options", [{"file_format": "JPEG", "quality": 60}, {"file_format": "WEBP", "quality": 60}])
def test_a_file_is_written_and_read_by_the_encoder_of_that_name(options: dict[str, Any]) -> None:
    picture = textured(37, 50)
    file_format, quality = options["file_format"], options["quality"]
    file = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(file, file_format, quality=quality)
    with Image.open(file) as image:
        expected = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)
        assert image.format == file_format
    assert torch.equal(encoded(picture, file_format, quality=quality), expected)
    assert not torch.equal(expected, picture)


@pytest.mark.parametrize("webp_share", [0.0, 1.0])
def test_a_quality_may_be_fixed(webp_share: float) -> None:
    high_res = smooth(64, 64)

    def through(quality: int) -> Tensor:
        file = FileConfig(probability=1, webp_share=webp_share, quality=(quality, quality), typical_quality=quality)
        return degrade_upload(high_res, 4, config(file=file), rng())

    plain = shrink_bicubic(high_res, 4)
    assert difference(through(95), plain) < difference(through(50), plain) < difference(through(5), plain)


def test_qualities_are_drawn_over_the_whole_range_and_most_often_near_the_typical_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[int] = []

    def note(picture: Tensor, file_format: str, *, quality: int, **options: object) -> Tensor:
        drawn.append(quality)
        return picture

    monkeypatch.setattr(uploads, "encoded", note)
    high_res = torch.zeros(3, 11, 11, dtype=torch.uint8)
    for seed in range(600):
        degrade_upload(high_res, 1, config(file=FileConfig(probability=1)), rng(seed))
    assert len(drawn) == 600
    assert 25 <= min(drawn) < 35
    assert 92 < max(drawn) <= 97
    near, far = (sum(abs(quality - centre) <= 5 for quality in drawn) for centre in (78, 40))
    assert near > 2 * far


def block_steps(lines: Tensor, phase: int) -> float:
    """Measure the steps between columns c and c + 1 with (c + 1) mod 8 == `phase`, relative to the others."""
    steps = lines.float().diff(dim=-1).abs().mean(dim=tuple(range(lines.dim() - 1)))
    here = (torch.arange(1, len(steps) + 1) % 8) == phase
    return float(steps[here].mean() / steps[~here].mean())


HARSH = config(file=FileConfig(probability=1, webp_share=0, quality=(12, 12), typical_quality=12))


def test_a_file_has_its_grid_in_the_corner_of_the_picture() -> None:
    files = torch.stack([degrade_upload(smooth(256, 256, seed), 4, HARSH, rng(seed)) for seed in range(8)])
    assert block_steps(files, 0) > 1.5
    assert max(block_steps(files, phase) for phase in range(1, 8)) < 1.1


def crops_of(count: int, crop_px: int, damage: UploadConfig) -> tuple[Tensor, Tensor]:
    side = 4 * (crop_px + GRID_PX)
    regions = [smooth(side, side, seed) for seed in range(count)]
    return degrade_crops(regions, crop_px, 4, damage, [rng(9, number) for number in range(count)])


def test_the_grid_of_a_file_has_every_phase_in_a_crop_equally_often() -> None:
    low_res, _ = crops_of(96, 32, HARSH)
    for lines in (low_res, low_res.transpose(2, 3)):
        shares = [block_steps(lines, phase) for phase in range(8)]
        assert max(shares) < 1.25  # 1.5 and more if every grid begins in the corner
        assert min(shares) > 0.8
    phases = {max(range(8), key=lambda phase: block_steps(crop, phase)) for crop in low_res}
    assert phases == set(range(8))


# Crops


def test_crops_are_cut_to_size_and_show_the_same_place() -> None:
    low_res, high_res = crops_of(6, 24, CLEAN_COLOURS)
    assert (low_res.shape, high_res.shape) == ((6, 3, 24, 24), (6, 3, 96, 96))
    assert low_res.dtype == high_res.dtype == torch.uint8
    inside = (..., slice(3, -3), slice(3, -3))
    assert torch.equal(low_res[inside], shrink_bicubic(high_res, 4)[inside])


CLEAN_COLOURS = config(clean_share=1.0)


def test_a_crop_is_a_piece_of_its_region_at_any_of_the_places_of_a_grid() -> None:
    rows, columns = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    region = torch.stack((rows, columns, 0 * rows)).byte()
    count = 160
    crop = degrade_crops([region] * count, 4, 1, CLEAN_COLOURS, [rng(number) for number in range(count)])[1]
    tops, lefts = crop[:, 0, 0, 0].tolist(), crop[:, 1, 0, 0].tolist()
    assert set(tops) == set(lefts) == set(range(GRID_PX + 1))
    for place, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        assert torch.equal(crop[place], region[:, top : top + 4, left : left + 4])


def test_a_crop_depends_on_its_own_draw_alone() -> None:
    regions = [textured(112, 112, seed) for seed in range(4)]
    whole = degrade_crops(regions, 12, 4, UploadConfig(), [rng(number) for number in range(4)])
    for number, region in enumerate(regions):
        alone = degrade_crops([region], 12, 4, UploadConfig(), [rng(number)])
        assert any(
            torch.equal(alone[0][0], low) and torch.equal(alone[1][0], high) for low, high in zip(*whole, strict=True)
        )


def test_crops_with_less_noise_come_first() -> None:
    noisy = config(noise_probability=0.6, noise_levels=(2.0, 60.0), soft_probability=0.0)
    low_res, high_res = degrade_crops([smooth(112, 112)] * 24, 12, 4, noisy, [rng(number) for number in range(24)])
    noise = low_res.float() - shrink_bicubic(high_res, 4)
    strengths = noise.std(dim=(1, 2, 3))
    noiseless = int((strengths < 1).sum())
    assert 4 < noiseless < 18
    assert (strengths[:noiseless] < 1).all()
    assert strengths[-4:].min() > strengths[noiseless : noiseless + 4].max()


def test_other_colours_are_given_to_both_crops() -> None:
    recoloured = config(clean_share=1.0, recolour_probability=1.0)
    plain, painted = crops_of(12, 16, CLEAN_COLOURS), crops_of(12, 16, recoloured)
    assert sum(torch.equal(*both) for both in zip(plain[1], painted[1], strict=True)) < 6  # of channels in one order
    inside = (..., slice(3, -3), slice(3, -3))
    assert torch.equal(painted[0][inside], shrink_bicubic(painted[1], 4)[inside])


def test_a_source_of_randomness_for_each_region_is_demanded() -> None:
    with pytest.raises(ValueError, match="shorter"):
        degrade_crops([textured(112, 112)] * 2, 12, 4, UploadConfig(), [rng()])


# Refusals


@pytest.mark.parametrize(
    ("high_res", "complaint"),
    [
        (torch.zeros(3, 64, 64), r"high_res is torch.float32 \(3, 64, 64\); it must be uint8 \(3, H, W\)"),
        (torch.zeros(1, 64, 64, dtype=torch.uint8), r"high_res is torch.uint8 \(1, 64, 64\); it must be uint8"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r"high_res is torch.uint8 \(1, 3, 64, 64\); it must be uint8"),
        (torch.zeros(3, 65, 64, dtype=torch.uint8), "64 x 65 px cannot be reduced by exactly 4; crop it first"),
        (torch.zeros(3, 64, 66, dtype=torch.uint8), "66 x 64 px cannot be reduced by exactly 4; crop it first"),
        (torch.zeros(3, 40, 64, dtype=torch.uint8), "64 x 40 px is too small; a side needs 44 px at scale 4"),
    ],
)
def test_a_picture_that_cannot_be_damaged_is_refused(high_res: Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        degrade_upload(high_res, 4, UploadConfig(), rng())


def test_the_smallest_picture_that_is_allowed_takes_every_damage() -> None:
    side = 4 * MIN_SIDE_PX
    everything = UploadConfig(
        clean_share=0,
        web_share=0,
        twice_share=1,
        blur_probability=1,
        noise_probability=1,
        soft_probability=1,
        sharpen_probability=1,
        file=FileConfig(probability=1),
    )
    for seed in range(6):
        assert degrade_upload(textured(side, side), 4, everything, rng(seed)).shape == (3, MIN_SIDE_PX, MIN_SIDE_PX)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"clean_share": 1.2}, r"clean_share is 1.2; a probability lies in \[0, 1\]"),
        ({"twice_share": -0.1}, "twice_share is -0.1; a probability lies in"),
        *(
            ({f"{name}_probability": math.nan}, f"{name}_probability is nan; a probability lies in")
            for name in ("blur", "noise", "grey", "soft", "sharpen", "recolour")
        ),
        ({"twice_factor": (0.2, 2)}, "twice_factor is 0.2 to 2; it must rise and stay within 0.25 to 4"),
        ({"noise_levels": (9, 3)}, "noise_levels is 9 to 3; it must rise and stay within 0.1 to 255"),
        ({"noise_levels": (0, 3)}, "noise_levels is 0 to 3; it must rise and stay within 0.1 to 255"),
        ({"sharpen_amount": (0, 9)}, "sharpen_amount is 0 to 9; it must rise and stay within 0 to 5"),
    ],
)
def test_an_upload_config_refuses_nonsense(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        UploadConfig(**values)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"probability": 2}, "probability is 2; a probability lies in"),
        ({"webp_share": -1}, "webp_share is -1; a probability lies in"),
        ({"quality": (0, 97)}, "quality is 0 to 97; it must rise and stay within 1 to 100"),
        ({"quality": (60, 50)}, "quality is 60 to 50; it must rise and stay within 1 to 100"),
        ({"typical_quality": 20}, "typical_quality is 20; it must be within quality, from 25 to 97"),
        ({"typical_quality": 98}, "typical_quality is 98; it must be within quality, from 25 to 97"),
        ({"subsampling_shares": (0.5, 0.5)}, r"subsampling_shares is \(0.5, 0.5\); it must be 3 shares"),
        ({"subsampling_shares": (0.5, 0.1, 0.1)}, "with a sum of 1"),
    ],
)
def test_a_file_config_refuses_nonsense(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        FileConfig(**values)


def test_a_first_file_may_be_smaller_so_that_the_picture_was_enlarged() -> None:
    picture = torch.from_numpy(numpy.random.default_rng(0).integers(256, size=(3, 256, 256), dtype=numpy.uint8))
    enlarged, same = (
        degrade_upload(picture, 4, config(twice_share=1.0, twice_factor=(factor, factor)), rng(1)).float()
        for factor in (0.4, 1.0)
    )
    assert enlarged.diff().square().mean() < 0.2 * same.diff().square().mean()
