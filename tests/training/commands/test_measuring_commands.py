"""`python -m training evaluate`, called in this process."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.errors import WeightsError
from model.files.checkpoint import Card, read_checkpoint, write_checkpoint
from model.reliable import load
from model.rrdb import RRDBNet
from tests.model.examples import TINY, random_net, textured
from tests.training.commands.printed import the_error
from tests.training.photographs import save
from training.__main__ import main
from training.damage import damaged
from training.data import read_picture
from training.degrade import enlarge_bicubic, shrink_bicubic
from training.lpips import LPIPS
from training.metrics import psnr_y

CPU = torch.device("cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(2):
        save(textured(64, 72, seed=number), tmp_path / "pictures" / f"made_{number}.png")
    return tmp_path / "pictures"


def written(path: Path, net: RRDBNet) -> Path:
    card = Card(name=path.stem, recipe="by_hand", steps=0, data="noise", metrics={}, created="2025-01-01")
    write_checkpoint(path, net, card, golden_input=textured(16, 16))
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return written(tmp_path / "one.safetensors", random_net())


@pytest.fixture
def trained_on(tmp_path: Path) -> Path:
    """Write the weights of a generator that was trained from the other: they differ a little."""
    net = random_net()
    for weight in net.parameters():
        weight.mul_(1.02)
    return written(tmp_path / "two.safetensors", net)


MEASURES = ("psnr_y", "ssim_y", "colour_shift")


def evaluate(pictures: Path, *weights: Path, more: tuple[object, ...] = ()) -> list[str]:
    """Run the command without LPIPS, with its tables next to the pictures."""
    out = pictures.parent / "tables" / "scores"
    files = [str(path) for path in weights]
    return [
        "evaluate",
        "--weights",
        *files,
        "--data",
        str(pictures),
        "--out",
        str(out),
        "--measure",
        *MEASURES,
        *map(str, more),
    ]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_evaluate_prints_the_means_of_each_file_and_bicubic(
    weights: Path, trained_on: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluate(pictures, weights, trained_on)) == 0
    table, last = capsys.readouterr().out.strip().split("\n\n")
    out = pictures.parent / "tables"
    assert last == f"wrote {out / 'scores.md'} and {out / 'scores.json'}"
    summary = [cells(row) for row in table.splitlines()]
    assert summary[0] == ["set", "generator", "PSNR-Y", "SSIM-Y", "colour shift"]
    assert [row[:2] for row in summary[2:]] == [["pictures", name] for name in ("bicubic", "one", "two")]
    assert float(summary[2][2]) > float(summary[3][2])  # a random network is worse than bicubic


def test_evaluate_writes_every_picture_of_each_file_and_bicubic(
    weights: Path, trained_on: Path, pictures: Path
) -> None:
    assert main(evaluate(pictures, weights, trained_on)) == 0
    _, *tables = (pictures.parent / "tables" / "scores.md").read_text().split("###")
    assert [table.split("\n")[0] for table in tables] == [f" pictures, {name}" for name in ("bicubic", "one", "two")]
    assert all("| made_0 " in table and "| made_1 " in table for table in tables)


def test_evaluate_writes_the_tables_and_the_numbers_behind_them(weights: Path, pictures: Path) -> None:
    assert main(evaluate(pictures, weights)) == 0
    rows = [cells(line) for line in (pictures.parent / "tables" / "scores.md").read_text().splitlines()]
    numbers = json.loads((pictures.parent / "tables" / "scores.json").read_text())
    assert [one["generator"] for one in numbers] == ["bicubic", "one"]
    for one in numbers:
        assert list(one["pictures"]) == ["made_0", "made_1"]
        mean = one["mean"]
        expected = [f"{mean['psnr_y']:.2f}", f"{mean['ssim_y']:.4f}", f"{mean['colour_shift']:.2f}"]
        assert ["pictures", one["generator"], *expected] in rows
        scores = [picture["psnr_y"] for picture in one["pictures"].values()]
        assert mean["psnr_y"] == pytest.approx(sum(scores) / 2)


def test_evaluate_measures_every_folder_that_is_named(weights: Path, pictures: Path, tmp_path: Path) -> None:
    save(textured(48, 48), tmp_path / "others" / "a.png")
    assert main(evaluate(pictures, weights, more=("--data", pictures, tmp_path / "others"))) == 0
    numbers = json.loads((tmp_path / "tables" / "scores.json").read_text())
    assert [one["set"] for one in numbers] == ["pictures", "pictures", "others", "others"]


def test_evaluate_changes_the_weight_file_only_if_asked_to_record(weights: Path, pictures: Path) -> None:
    before = weights.read_bytes()
    assert main(evaluate(pictures, weights)) == 0
    assert weights.read_bytes() == before


def test_evaluate_records_the_means_in_each_weight_file(weights: Path, trained_on: Path, pictures: Path) -> None:
    assert main(evaluate(pictures, weights, trained_on, more=("--record",))) == 0
    numbers = json.loads((pictures.parent / "tables" / "scores.json").read_text())
    for path, measured in zip((weights, trained_on), numbers[1:], strict=True):
        expected = {name: round(value, 4) for name, value in measured["mean"].items() if value is not None}
        assert read_checkpoint(path).card.metrics == {"pictures": expected}
        assert expected.keys() == {"psnr_y", "ssim_y", "colour_shift"}
        load(path, CPU)


def test_published_weights_are_measured_as_they_are(pictures: Path, tmp_path: Path) -> None:
    torch.save(random_net().state_dict(), tmp_path / "published.pth")
    assert main(evaluate(pictures, tmp_path / "published.pth")) == 0
    numbers = json.loads((tmp_path / "tables" / "scores.json").read_text())
    assert [one["generator"] for one in numbers] == ["bicubic", "published"]


def test_published_weights_of_x3_are_measured_at_their_scale(pictures: Path, tmp_path: Path) -> None:
    net = random_net(replace(TINY, scale=3))
    torch.save(net.state_dict(), tmp_path / "published.pth")
    files = (tmp_path / "published.pth", written(tmp_path / "ours.safetensors", net))
    assert main(evaluate(pictures, *files, more=("--scale", 3))) == 0
    bicubic, published, ours = json.loads((tmp_path / "tables" / "scores.json").read_text())
    assert published["pictures"] == ours["pictures"] != bicubic["pictures"]


def test_weights_of_another_scale_than_the_one_that_is_named_are_refused(
    weights: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluate(pictures, weights, more=("--scale", 3))) == 2
    assert f"{weights} enlarges by 4, and --scale is 3" in the_error(capsys)


def test_published_weights_to_record_in_are_refused_before_anything_is_measured(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(random_net().state_dict(), tmp_path / "published.pth")
    assert main(evaluate(pictures, tmp_path / "published.pth", more=("--record",))) == 2
    assert "--record writes into our own files only; convert" in the_error(capsys)
    assert not (tmp_path / "tables").exists()


def test_results_are_saved_whatever_the_names_of_pictures_and_folders_are(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / os.fsdecode(b"odd \xff")
    save(textured(64, 64), odd / "picture.png")
    (odd / "picture.png").rename(odd / os.fsdecode(b"\xfe.png"))
    assert main(evaluate(odd, weights)) == 0
    assert "| odd \\udcff | one " in capsys.readouterr().out
    assert "| odd \\udcff | one " in (tmp_path / "tables" / "scores.md").read_text(encoding="utf-8")
    (numbers, _) = json.loads((tmp_path / "tables" / "scores.json").read_text())
    assert list(numbers["pictures"]) == ["\udcfe"]


def test_weight_files_of_two_scales_are_refused(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written(tmp_path / "x2.safetensors", random_net(replace(TINY, scale=2)))
    assert main(evaluate(pictures, weights, other)) == 2
    assert "the weight files have the scales [2, 4]; measure those of one scale at a time" in the_error(capsys)


def test_weight_files_of_one_name_are_refused(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "again").mkdir()
    other = written(tmp_path / "again" / "one.safetensors", random_net(seed=1))
    assert main(evaluate(pictures, weights, other)) == 2
    assert "one" in the_error(capsys)


def test_absent_weights_are_one_line_and_status_2(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluate(pictures, tmp_path / "absent.safetensors")) == 2
    assert "absent.safetensors cannot be read (No such file or directory)" in the_error(capsys)


def test_an_absent_folder_is_one_line_and_status_2(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluate(tmp_path / "absent", weights)) == 2
    assert "absent is not a folder" in the_error(capsys)


def test_folders_are_looked_for_before_anything_is_downloaded(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.commands.evaluate.load_lpips", lambda *_: pytest.fail("downloaded"))
    folders = [str(pictures), str(tmp_path / "absent")]
    assert main(["evaluate", "--weights", str(weights), "--data", *folders, "--out", str(tmp_path / "t")]) == 2
    assert "absent is not a folder" in the_error(capsys)


def test_evaluate_says_that_it_replaces_its_last_tables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "replaces those of the last time" in " ".join(capsys.readouterr().out.split())


def test_absent_weights_of_alexnet_are_one_line_and_status_2(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--weights", str(weights), "--data", str(pictures), "--out", str(tmp_path / "tables")]
    assert main(["evaluate", *arguments, "--alexnet-weights", str(tmp_path / "alexnet.pth")]) == 2
    assert "alexnet.pth cannot be read (No such file or directory)" in the_error(capsys)


def test_a_low_res_picture_that_is_missing_is_one_line_and_status_2(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(textured(16, 18), tmp_path / "small" / "made_1.png")
    assert main(evaluate(pictures, weights, more=("--low-res", tmp_path / "small"))) == 2
    assert "made_0.png: there is no low-res picture of this name" in the_error(capsys)


def test_low_res_pictures_that_are_given_are_measured(weights: Path, pictures: Path, tmp_path: Path) -> None:
    for number in range(2):
        high_res = read_picture(pictures / f"made_{number}.png")
        save(255 - shrink_bicubic(high_res, 4), tmp_path / "small" / f"made_{number}.png")
    assert main(evaluate(pictures, weights, more=("--low-res", tmp_path / "small"))) == 0
    bicubic = sets_of(tmp_path)[0]["pictures"]["made_1"]
    high_res = read_picture(pictures / "made_1.png")
    low_res = read_picture(tmp_path / "small" / "made_1.png")
    assert bicubic["psnr_y"] == psnr_y(enlarge_bicubic(low_res, 4), high_res, border=4)


def test_the_low_res_copies_of_a_benchmark_are_not_measured_as_originals(
    weights: Path, pictures: Path, tmp_path: Path
) -> None:
    for path in sorted(pictures.iterdir()):
        save(shrink_bicubic(read_picture(path), 4), pictures / "LRbicX4" / path.name)
        save(shrink_bicubic(read_picture(path), 2), pictures / "LRbicX2" / path.name)
    assert main(evaluate(pictures, weights)) == 0
    assert list(sets_of(tmp_path)[0]["pictures"]) == ["made_0", "made_1"]


def test_lpips_is_left_out_with_a_line_if_alexnet_is_missing_and_it_was_not_requested(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object) -> LPIPS:
        raise WeightsError("AlexNet could not be downloaded")

    monkeypatch.setattr("training.commands.evaluate.load_lpips", offline)
    command = ["evaluate", "--weights", str(weights), "--data", str(pictures), "--out", str(tmp_path / "tables" / "t")]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert "LPIPS is left out: AlexNet could not be downloaded" in captured.err
    assert "| PSNR-Y | SSIM-Y | colour shift |" in captured.out
    assert main([*command, "--measure", "lpips"]) == 2
    assert "AlexNet could not be downloaded" in the_error(capsys)


def test_a_picture_too_small_to_be_measured_is_one_line_and_status_2(
    weights: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(textured(12, 16), pictures / "tiny.png")
    assert main(evaluate(pictures, weights)) == 2
    assert "tiny.png" in the_error(capsys)


def sets_of(tmp_path: Path) -> list[dict[str, Any]]:
    """Every number that the command wrote."""
    numbers: list[dict[str, Any]] = json.loads((tmp_path / "tables" / "scores.json").read_text())
    return numbers


def test_evaluate_makes_the_kinds_of_uploads_that_are_named(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluate(pictures, weights, more=("--damage", "web50", "phone"))) == 0
    numbers = sets_of(tmp_path)
    assert [(one["set"], one["generator"]) for one in numbers] == [
        (f"pictures {damage}", generator) for damage in ("web50", "phone") for generator in ("bicubic", "one")
    ]
    assert "| pictures phone | one " in capsys.readouterr().out
    high_res = read_picture(pictures / "made_0.png")
    low_res = damaged(high_res, 4, "phone", name="made_0")
    expected = psnr_y(enlarge_bicubic(low_res, 4), high_res, border=4)
    assert numbers[2]["pictures"]["made_0"]["psnr_y"] == expected


def test_the_clean_kind_is_what_a_folder_of_pictures_gives_anyway(
    weights: Path, pictures: Path, tmp_path: Path
) -> None:
    assert main(evaluate(pictures, weights)) == 0
    plain = sets_of(tmp_path)
    assert main(evaluate(pictures, weights, more=("--damage", "clean"))) == 0
    assert [one["mean"] for one in sets_of(tmp_path)] == [one["mean"] for one in plain]


def test_upscaled_pictures_are_saved_by_set_damage_and_generator(weights: Path, pictures: Path, tmp_path: Path) -> None:
    save(textured(64, 72, seed=9), pictures / "deep" / "made_0.png")  # a name that another one has
    assert main(evaluate(pictures, weights, more=("--damage", "clean", "web50", "--save", tmp_path / "saved"))) == 0
    names = ("deep/made_0.png", "made_0.png", "made_1.png")
    assert {path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*.png")} == {
        f"pictures {kind}/{generator}/{name}"
        for kind in ("clean", "web50")
        for generator in ("bicubic", "one")
        for name in names
    }
    original = read_picture(pictures / "made_1.png")
    for kind in ("clean", "web50"):
        saved = read_picture(tmp_path / "saved" / f"pictures {kind}" / "bicubic" / "made_1.png")
        assert torch.equal(saved, enlarge_bicubic(damaged(original, 4, kind, name="made_1"), 4))


def test_uploads_are_made_from_the_originals_of_a_benchmark_alone(
    weights: Path, pictures: Path, tmp_path: Path
) -> None:
    for path in sorted(pictures.iterdir()):
        save(shrink_bicubic(read_picture(path), 4), tmp_path / "Set2" / "LRbicX4" / path.name)
        path.rename(tmp_path / "Set2" / path.name)
    (tmp_path / "Set2" / "HR").mkdir()
    for path in sorted((tmp_path / "Set2").glob("*.png")):
        path.rename(tmp_path / "Set2" / "HR" / path.name)
    assert main(evaluate(tmp_path / "Set2", weights, more=("--damage", "clean", "web75"))) == 0
    assert [list(one["pictures"]) for one in sets_of(tmp_path)] == [["made_0", "made_1"]] * 4


def test_the_means_of_uploads_are_recorded_under_their_kind(weights: Path, pictures: Path) -> None:
    assert main(evaluate(pictures, weights, more=("--damage", "web75", "--record"))) == 0
    assert read_checkpoint(weights).card.metrics.keys() == {"pictures web75"}


def test_evaluate_reports_flat_colours_without_any_picture(
    weights: Path, trained_on: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tables" / "scores"
    files = [str(weights), str(trained_on)]
    assert main(["evaluate", "--weights", *files, "--flat", "2", "--out", str(out)]) == 0
    rows = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("| 8 ")]
    assert [row[1] for row in rows] == ["one", "two"]
    numbers = sets_of(tmp_path)
    assert [(one["set"], one["generator"]) for one in numbers] == [("8 flat colours", "one"), ("8 flat colours", "two")]
    assert [float(row[2]) for row in rows] == [one["inside"] for one in numbers]
    assert ["8", "one"] in [cells(line)[:2] for line in out.with_suffix(".md").read_text().splitlines()]


def test_flat_colours_are_recorded_and_reported_next_to_the_pictures(weights: Path, pictures: Path) -> None:
    assert main(evaluate(pictures, weights, more=("--flat", 2, "--record"))) == 0
    metrics = read_checkpoint(weights).card.metrics
    assert metrics.keys() == {"pictures", "8 flat colours"}
    assert metrics["8 flat colours"].keys() == {"inside", "inside_mean", "border", "border_mean"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "there is nothing to measure on; name folders by --data, or take --flat"),
        (["--flat", "2", "--damage", "phone"], "--damage is made from originals; name their folders by --data"),
        (["--flat", "2", "--save", "a"], "--save writes upscaled pictures; name their folders by --data"),
        (["--data", "a", "--low-res", "b", "--damage", "phone"], "--damage makes its low-res pictures itself"),
        (["--data", "a", "b", "--low-res", "c"], "--data names 2 folders and --low-res 1; give each folder its own"),
    ],
)
def test_a_measurement_on_nothing_is_one_line_and_status_2(
    arguments: list[str], complaint: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--weights", str(weights), *arguments]) == 2
    assert complaint in the_error(capsys)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--flat", "1"], "'1' is no number of values a channel; take 2 to 256"),
        (["--flat", "257"], "'257' is no number of values a channel; take 2 to 256"),
        (["--flat", "some"], "'some' is no number of values a channel; take 2 to 256"),
        (["--measure", "beauty"], "invalid choice: 'beauty' (choose from"),
        (["--damage", "fax"], "invalid choice: 'fax' (choose from"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_limits(
    arguments: list[str], complaint: str, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["evaluate", "--weights", str(weights), *arguments])
    assert exit_status.value.code == 2
    assert complaint in capsys.readouterr().err


def test_sets_of_one_name_are_told_apart(weights: Path, pictures: Path, tmp_path: Path) -> None:
    for name in ("A", "B"):
        save(textured(64, 72, seed=ord(name)), tmp_path / name / "HR" / "made.png")
    sets = [tmp_path / name / "HR" for name in ("A", "B")]
    arguments = ["evaluate", "--weights", str(weights), "--data", *map(str, sets), "--measure", "psnr_y", "--record"]
    assert main([*arguments, "--out", str(tmp_path / "scores")]) == 0
    assert read_checkpoint(weights).card.metrics.keys() == {"A/HR", "B/HR"}


def test_a_set_has_the_name_of_its_folder_where_the_command_runs_in_it(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(textured(64, 72), tmp_path / "photos" / "made.png")
    monkeypatch.chdir(tmp_path / "photos")
    arguments = ["evaluate", "--weights", str(weights), "--data", ".", "--measure", "psnr_y", "--record"]
    assert main([*arguments, "--out", str(tmp_path / "scores")]) == 0
    assert read_checkpoint(weights).card.metrics.keys() == {"photos"}
