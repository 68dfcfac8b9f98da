"""`python -m training ...`, called in this process."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from model.checkpoint import Card, read_checkpoint, write_checkpoint
from tests.model.examples import TINY, random_net, textured
from training.__main__ import main
from training.config import TrainingConfig
from training.recipes import RECIPES, compact_psnr_x4


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        picture = textured(64, 72, seed=number).permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(picture).save(folder / f"made_{number}.png")
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    card = Card(name="tiny", recipe="by_hand", steps=0, data="noise", metrics={}, created="2025-01-01")
    write_checkpoint(path, random_net(), card, golden_input=textured(16, 16))
    return path


@pytest.fixture
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe that takes a moment, under the name `tiny_psnr_x4`."""

    def recipe() -> TrainingConfig:
        """A recipe for tests."""
        small = {"name": "tiny-psnr-x4", "generator": TINY, "steps": 3, "batch": 2, "crop_px": 8, "warmup_steps": 1}
        return replace(compact_psnr_x4(), **small)  # type: ignore[arg-type]  # a mix of types on purpose

    monkeypatch.setitem(RECIPES, "tiny_psnr_x4", recipe)
    return "tiny_psnr_x4"


def test_evaluate_prints_each_picture_and_the_mean(
    weights: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--weights", str(weights), "--data", str(pictures)]) == 0
    head, rule, *rows = capsys.readouterr().out.strip().splitlines()
    assert head == "| picture | PSNR-Y | bicubic | SSIM-Y | bicubic |"
    assert rule == "|---|---|---|---|---|"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [name for name, *_ in cells] == ["made_0", "made_1", "pictures"]
    first, second, average = ([float(value) for value in values] for _, *values in cells)
    for one, other, both in zip(first, second, average, strict=True):
        assert both == pytest.approx((one + other) / 2, abs=0.011)


def test_evaluate_leaves_the_weight_file_alone_unless_told_to_record(weights: Path, pictures: Path) -> None:
    before = weights.read_bytes()
    assert main(["evaluate", "--weights", str(weights), "--data", str(pictures)]) == 0
    assert weights.read_bytes() == before


def test_evaluate_records_the_means_in_the_weight_file(
    weights: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--weights", str(weights), "--data", str(pictures), "--record"]) == 0
    recorded = read_checkpoint(weights).card.metrics["pictures"]
    printed = [cell.strip() for cell in capsys.readouterr().out.strip().splitlines()[-1].strip("|").split("|")]
    assert f"{recorded['psnr_y']:.2f}" == printed[1]
    assert f"{recorded['ssim_y']:.4f}" == printed[3]


def test_a_recipe_trains_and_says_where_the_weights_are(
    tiny_recipe: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = [tiny_recipe, "--data", str(pictures), "--out", str(out), "--validation", str(pictures)]
    assert main([*arguments, "--trained-on", "noise (CC0)"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {out / 'tiny-psnr-x4.safetensors'}"
    card = read_checkpoint(out / "tiny-psnr-x4.safetensors").card
    assert card.data == "noise (CC0)"
    assert "psnr_y" in card.metrics["validation"]


def test_a_picture_that_cannot_be_used_is_left_out_with_a_line(
    tiny_recipe: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.png").write_text("no picture")
    assert main([tiny_recipe, "--data", str(pictures), "--out", str(tmp_path / "run")]) == 0
    assert f"left out: {pictures / 'broken.png'}: cannot be read" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "run" / "tiny-psnr-x4.safetensors").card.data == "2 pictures of pictures"


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that says what is wrong; progress bars may stand above it."""
    captured = capsys.readouterr().err
    assert "Traceback" not in captured
    lines = captured.splitlines()
    assert [line.startswith("error: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("error: ")
    return lines[-1]


def test_absent_weights_are_one_line_and_status_2(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--weights", str(tmp_path / "absent.safetensors"), "--data", str(pictures)]) == 2
    assert "absent.safetensors is not a readable .safetensors file" in the_error(capsys)


def test_an_absent_folder_is_one_line_and_status_2(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--weights", str(weights), "--data", str(tmp_path / "absent")]) == 2
    assert "absent is not a folder" in the_error(capsys)


def test_a_low_res_picture_that_is_missing_is_one_line_and_status_2(
    weights: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "LRbicX4").mkdir()
    (pictures / "HR").mkdir()
    (pictures / "made_0.png").rename(pictures / "HR" / "made_0.png")
    assert main(["evaluate", "--weights", str(weights), "--data", str(pictures)]) == 2
    assert "made_0.png" in the_error(capsys)


def test_a_finished_run_is_one_line_and_status_2(
    tiny_recipe: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [tiny_recipe, "--data", str(pictures), "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(arguments) == 2
    assert "that run is finished" in the_error(capsys)


def test_a_folder_without_usable_photographs_is_one_line_and_status_2(
    tiny_recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    assert main([tiny_recipe, "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "no photograph of the folder can be used" in the_error(capsys)


def test_an_unknown_recipe_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["esrgan_x9", "--data", "x", "--out", "y"])
    assert exit_status.value.code == 2
    assert "compact_psnr_x4" in capsys.readouterr().err
