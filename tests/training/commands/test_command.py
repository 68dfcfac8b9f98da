"""`python -m training ...`, called in this process: recipes and the doctor."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.files.checkpoint import Card, read_checkpoint, write_checkpoint
from model.rrdb import RRDBConfig
from tests.model.examples import TINY, random_net, textured
from tests.training.commands.printed import the_error
from tests.training.photographs import save
from training.__main__ import main
from training.config import DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.damage import DAMAGES
from training.data import read_picture
from training.degrade import shrink_bicubic
from training.loss_config import LossConfig
from training.recipes import RECIPES
from training.state import load_state
from training.uploads import UploadConfig


def tiny_psnr_x4() -> TrainingConfig:
    """A short recipe.

    Command: the rest of its text is for --help.
    """
    return TrainingConfig(
        name="tiny-psnr-x4",
        recipe="tiny_psnr_x4",
        generator=TINY,
        steps=4,
        batch=2,
        crop_px=8,
        optimiser=OptimiserConfig(learning_rate=1e-3),
        validate_every=2,
        log_every=2,
    )


def tiny_real_x4() -> TrainingConfig:
    """A short recipe for uploads."""
    return replace(
        tiny_psnr_x4(),
        name="tiny-real-x4",
        recipe="tiny_real_x4",
        crop_px=4,  # with the room for a file's grid around it the pictures of these tests just suffice
        generator=replace(TINY, padding_mode="replicate"),
        degradation=UploadConfig(),
    )


def tiny_gan_x4() -> TrainingConfig:
    """A short second stage."""
    return replace(
        tiny_psnr_x4(),
        name="tiny-gan-x4",
        recipe="tiny_gan_x4",
        starts_from="tiny_psnr_x4",
        losses=LossConfig(l1=0.1, adversarial=1.0),
        discriminator=DiscriminatorConfig(kind="unet", channels=2, optimiser=OptimiserConfig(learning_rate=1e-3)),
    )


def tiny_student_x4() -> TrainingConfig:
    """A recipe with a teacher."""
    return replace(tiny_psnr_x4(), recipe="tiny_student_x4", losses=LossConfig(l1=0.5, teacher=0.5))


def tiny_perceptual_x4() -> TrainingConfig:
    """A recipe that would need VGG19."""
    return replace(tiny_psnr_x4(), recipe="tiny_perceptual_x4", losses=LossConfig(perceptual=1.0))


def tiny_vgg_x4() -> TrainingConfig:
    """A stage whose discriminator judges pictures of 128 px."""
    judge = DiscriminatorConfig(kind="vgg", channels=2, optimiser=OptimiserConfig(learning_rate=1e-3))
    return replace(
        tiny_gan_x4(), name="tiny-vgg-x4", recipe="tiny_vgg_x4", starts_from=None, crop_px=32, discriminator=judge
    )


@pytest.fixture(autouse=True)
def tiny_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    for recipe in (tiny_psnr_x4, tiny_real_x4, tiny_gan_x4, tiny_student_x4, tiny_perceptual_x4, tiny_vgg_x4):
        monkeypatch.setitem(RECIPES, recipe.__name__, recipe)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(2):
        save(textured(80, 88, seed=number), tmp_path / "pictures" / f"made_{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Pictures to measure on."""
    for number in range(2, 4):
        save(textured(80, 88, seed=number), tmp_path / "others" / f"made_{number}.png")
    return tmp_path / "others"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return written(tmp_path / "start.safetensors", TINY)


def written(path: Path, config: RRDBConfig) -> Path:
    """A weight file of a random generator."""
    card = Card(name=path.stem, recipe="by_hand", steps=0, data="noise", metrics={}, created="2025-01-01")
    write_checkpoint(path, random_net(config), card, golden_input=textured(16, 16))
    return path


def command(recipe: Callable[[], TrainingConfig], data: Path, out: Path, *more: object) -> list[str]:
    return [recipe.__name__, "--data", str(data), "--out", str(out), *map(str, more)]


def test_a_recipe_trains_and_says_where_the_weights_are(
    pictures: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = ("--validation", others, "--trained-on", "noise (CC0)")
    assert main(command(tiny_psnr_x4, pictures, out, *more)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"wrote {out / 'tiny-psnr-x4.safetensors'}")
    card = read_checkpoint(out / "tiny-psnr-x4.safetensors").card
    assert card.data == "noise (CC0)"
    assert "psnr_y" in card.metrics["validation, clean"]


def test_steps_batch_and_seed_can_be_given(pictures: Path, tmp_path: Path) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run", "--steps", 3, "--batch", 1, "--seed", 5)) == 0
    written_config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: written_config[name] for name in ("steps", "batch", "seed")} == {"steps": 3, "batch": 1, "seed": 5}
    assert read_checkpoint(tmp_path / "run" / "tiny-psnr-x4.safetensors").card.steps == 3


def test_without_validation_pictures_a_tenth_of_the_others_is_kept_aside(tmp_path: Path) -> None:
    for number in range(10):
        save(textured(40, 40, number), tmp_path / "photos" / f"{number}.png")
    assert main(command(tiny_psnr_x4, tmp_path / "photos", tmp_path / "run")) == 0
    card = read_checkpoint(tmp_path / "run" / "tiny-psnr-x4.safetensors").card
    assert card.data == "9 pictures of photos"
    assert "psnr_y" in card.metrics["validation, clean"]


def test_the_pictures_are_named_by_their_folder_where_the_command_runs_in_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    assert main(command(tiny_psnr_x4, Path(), tmp_path / "run")) == 0
    card = read_checkpoint(tmp_path / "run" / "tiny-psnr-x4.safetensors").card
    assert card.data == "2 pictures of pictures"


def test_photographs_that_do_not_fit_give_the_same_weights(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "decoded")) == 0
    assert "do not fit" not in capsys.readouterr().out
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "streamed", "--memory-gb", 0, "--workers", 0)) == 0
    assert "do not fit on the device" in capsys.readouterr().out
    decoded, streamed = (
        read_checkpoint(tmp_path / name / "tiny-psnr-x4.safetensors").net.state_dict()
        for name in ("decoded", "streamed")
    )
    assert all(torch.equal(weight, streamed[name]) for name, weight in decoded.items())


def test_a_gan_recipe_goes_on_from_the_weights_that_are_given(pictures: Path, weights: Path, tmp_path: Path) -> None:
    assert main(command(tiny_gan_x4, pictures, tmp_path / "run", "--start", weights, "--steps", 1)) == 0
    start = read_checkpoint(weights).net.state_dict()
    trained = read_checkpoint(tmp_path / "run" / "tiny-gan-x4.safetensors").net.state_dict()
    moved = max((trained[name] - weight).abs().max().item() for name, weight in start.items())
    assert 0 < moved < 3e-3  # one step of Adam: the learning rate, and the rounding to float16


def test_a_recipe_goes_on_from_published_weights(pictures: Path, tmp_path: Path) -> None:
    start = random_net(TINY).state_dict()
    torch.save({"params_ema": start}, tmp_path / "published.pth")
    started = ("--start", tmp_path / "published.pth", "--steps", 1)
    assert main(command(tiny_gan_x4, pictures, tmp_path / "run", *started)) == 0
    trained = read_checkpoint(tmp_path / "run" / "tiny-gan-x4.safetensors").net.state_dict()
    assert max((trained[name] - weight).abs().max().item() for name, weight in start.items()) < 3e-3


def test_a_psnr_recipe_may_go_on_from_weights_too(pictures: Path, weights: Path, tmp_path: Path) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run", "--start", weights, "--steps", 1)) == 0
    start = read_checkpoint(weights).net.state_dict()
    trained = read_checkpoint(tmp_path / "run" / "tiny-psnr-x4.safetensors").net.state_dict()
    assert max((trained[name] - weight).abs().max().item() for name, weight in start.items()) < 3e-3


def test_a_run_may_begin_with_a_foreign_file_and_another_padding(pictures: Path, tmp_path: Path) -> None:
    start = random_net()
    torch.save(start.state_dict(), tmp_path / "published.pth")
    more = ("--start", tmp_path / "published.pth", "--steps", 1)
    assert main(command(tiny_real_x4, pictures, tmp_path / "run", *more)) == 0
    net = read_checkpoint(tmp_path / "run" / "tiny-real-x4.safetensors").net
    assert net.config == replace(TINY, padding_mode="replicate")
    moved = [(weight - start.state_dict()[name]).abs().max() for name, weight in net.state_dict().items()]
    assert 0 < max(moved) < 3e-3


def test_a_run_that_learns_from_uploads_is_measured_on_every_kind(
    pictures: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny_real_x4, pictures, tmp_path / "run", "--validation", others)) == 0
    metrics = read_checkpoint(tmp_path / "run" / "tiny-real-x4.safetensors").card.metrics
    assert set(metrics) == {f"validation, {damage}" for damage in DAMAGES}
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step 4: ")]
    assert [damage for damage in DAMAGES if f"{damage} " in line] == list(DAMAGES)


def test_too_few_pictures_to_keep_any_aside_are_trained_on_without_a_score(pictures: Path, tmp_path: Path) -> None:
    assert main(command(tiny_real_x4, pictures, tmp_path / "run")) == 0
    assert read_checkpoint(tmp_path / "run" / "tiny-real-x4.safetensors").card.metrics == {}


def test_the_reduced_pictures_of_a_benchmark_are_neither_learnt_from_nor_measured_on(
    pictures: Path, tmp_path: Path
) -> None:
    pictures.rename(tmp_path / "HR")
    (tmp_path / "Set2").mkdir()
    (tmp_path / "HR").rename(tmp_path / "Set2" / "HR")
    for path in (tmp_path / "Set2" / "HR").iterdir():
        save(shrink_bicubic(read_picture(path), 4), tmp_path / "Set2" / "LRbicX4" / path.name)
        save(textured(40, 48, 9), tmp_path / "Set2" / "LRbicX2" / path.name)
    shutil.copytree(tmp_path / "Set2", tmp_path / "Set3")
    assert main(command(tiny_psnr_x4, tmp_path / "Set2", tmp_path / "one", "--validation", tmp_path / "Set3")) == 0
    hr = [tmp_path / name / "HR" for name in ("Set2", "Set3")]
    assert main(command(tiny_psnr_x4, hr[0], tmp_path / "two", "--validation", hr[1])) == 0
    one, two = (read_checkpoint(tmp_path / name / "tiny-psnr-x4.safetensors") for name in ("one", "two"))
    assert one.card.metrics == two.card.metrics
    assert one.card.data == "2 pictures of Set2"


def test_a_picture_that_cannot_be_used_is_left_out_with_a_line(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.png").write_text("no picture")
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run")) == 0
    assert f"left out: {pictures / 'broken.png'}: cannot be read" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "run" / "tiny-psnr-x4.safetensors").card.data == "2 pictures of pictures"


def test_a_run_learns_from_pairs_and_is_measured_on_those_it_keeps_aside(tmp_path: Path) -> None:
    for number in range(10):
        save(textured(40, 40, number), tmp_path / "big" / f"{number}.png")
        save(textured(10, 10, 100 + number), tmp_path / "small" / f"{number}x4.png")
    assert main(command(tiny_psnr_x4, tmp_path / "big", tmp_path / "a", "--low-res", tmp_path / "small")) == 0
    assert main(command(tiny_psnr_x4, tmp_path / "big", tmp_path / "b")) == 0
    scores = [
        read_checkpoint(tmp_path / run / "tiny-psnr-x4.safetensors").card.metrics["validation, clean"]["psnr_y"]
        for run in ("a", "b")
    ]
    assert scores[0] != scores[1]


@pytest.mark.parametrize(
    ("recipe", "more", "complaint"),
    [
        (tiny_real_x4, ("--low-res", "x"), "tiny_real_x4 makes its low-res pictures itself; leave --low-res out"),
        (tiny_psnr_x4, ("--validation-low-res", "x"), "--validation-low-res belongs to --validation"),
    ],
)
def test_low_res_pictures_that_would_not_be_used_are_refused(
    recipe: Callable[[], TrainingConfig],
    more: tuple[str, ...],
    complaint: str,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(recipe, pictures, tmp_path / "run", *more)) == 2
    assert complaint in capsys.readouterr().err


def test_a_run_on_few_pictures_says_that_it_measures_nothing(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run")) == 0
    printed = capsys.readouterr().out
    assert "are needed to keep one aside\n" in printed
    assert "the run measures nothing; name other pictures by --validation\n" in printed


def test_a_broken_or_tiny_photograph_is_not_kept_aside_to_measure_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(10):
        save(textured(40, 40, number), tmp_path / "photos" / f"{number}.png")
    assert main(command(tiny_psnr_x4, tmp_path / "photos", tmp_path / "one")) == 0
    (kept,) = held_out_of(tmp_path / "one")
    (tmp_path / "photos" / kept).write_text("no picture")
    assert main(command(tiny_psnr_x4, tmp_path / "photos", tmp_path / "two")) == 0
    (second,) = held_out_of(tmp_path / "two")
    save(textured(31, 40), tmp_path / "photos" / second)
    assert main(command(tiny_psnr_x4, tmp_path / "photos", tmp_path / "three")) == 0
    (third,) = held_out_of(tmp_path / "three")
    assert len({kept, second, third}) == 3
    assert "the run measures nothing" not in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "three" / "tiny-psnr-x4.safetensors").card.metrics


def held_out_of(run: Path) -> list[str]:
    names: list[str] = torch.load(run / "state.pt", weights_only=True)["held_out"]["measured"]
    return names


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ((), None),
        (("--set", "patience=2"), "patience is 2, and the run measures nothing; name other pictures by --validation"),
        (
            ("--set", "patience=2", "best_by=lpips", "--alexnet-weights", "x"),
            "patience is 2 and best_by is lpips, and the run measures nothing",
        ),
        (("--validation", "photos"), "no picture of photos can be measured; name other ones, or leave --validation"),
    ],
)
def test_a_run_that_measures_nothing_says_so_or_is_refused_where_it_needs_scores(
    more: tuple[str, ...],
    complaint: str | None,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save(textured(31, 40), Path("photos") / "small.png")  # in the place of the pictures to measure on
    assert main(command(tiny_psnr_x4, pictures, Path("run"), *more)) == (2 if complaint else 0)
    printed = capsys.readouterr()
    assert "left out: photos/small.png: 40 x 31 px is less than 32 px a side" in printed.out or "photos" not in more
    if complaint:
        assert complaint in printed.err
        assert not Path("run").exists()
    else:
        assert "the run measures nothing; name other pictures by --validation\n" in printed.out


def test_photographs_kept_aside_that_turn_out_broken_are_said_to_measure_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(10):
        path = save(textured(40, 40, number), tmp_path / "photos" / f"{number}.png")
        path.write_bytes(path.read_bytes()[:-2000])  # the header is whole
    save(textured(80, 80), tmp_path / "photos" / "castle" / "whole_0.png")
    assert main(command(tiny_psnr_x4, tmp_path / "photos", tmp_path / "run")) == 0
    assert "the run measures nothing; name other pictures by --validation\n" in capsys.readouterr().out


def test_a_validation_picture_too_small_to_be_measured_is_left_out(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(textured(8, 8), tmp_path / "validation" / "tiny.png")  # nothing is left of it within the border
    save(textured(40, 40), tmp_path / "validation" / "whole.png")
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run", "--validation", tmp_path / "validation")) == 0
    assert f"left out: {tmp_path / 'validation' / 'tiny.png'}: 8 x 8 px is less than" in capsys.readouterr().out
    metrics = read_checkpoint(tmp_path / "run" / "tiny-psnr-x4.safetensors").card.metrics
    assert math.isfinite(metrics["validation, clean"]["psnr_y"])


def test_a_gan_recipe_without_weights_to_go_on_from_is_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny_gan_x4, pictures, tmp_path / "run")) == 2
    expected = "error: tiny_gan_x4 begins with a generator of tiny_psnr_x4; name its file by --start"
    assert the_error(capsys) == expected
    assert not (tmp_path / "run").exists()


def test_weights_of_another_size_to_go_on_from_are_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written(tmp_path / "other.safetensors", replace(TINY, blocks=2))
    assert main(command(tiny_gan_x4, pictures, tmp_path / "run", "--start", other)) == 2
    error = the_error(capsys)
    assert "blocks=2" in error
    assert "tiny_gan_x4 needs" in error
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_refused_before_any_work(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run")) == 0
    capsys.readouterr()
    assert main(command(tiny_psnr_x4, tmp_path / "absent", tmp_path / "run")) == 2
    assert "that run is finished" in the_error(capsys)


def test_a_folder_of_another_run_is_refused_and_left_alone(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(command(tiny_psnr_x4, pictures, out)) == 0
    (out / "tiny-psnr-x4.safetensors").unlink()
    before = (out / "config.json").read_bytes()
    assert main(command(tiny_psnr_x4, pictures, out, "--seed", 1)) == 2
    assert "holds a run with other settings" in the_error(capsys)
    assert (out / "config.json").read_bytes() == before
    assert load_state(out / "state.pt", tiny_psnr_x4()) is not None


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--steps", "0"], "steps is 0; it must be at least 1"),
        (["--batch", "-1"], "batch is -1; it must be at least 1"),
        (["--seed", "-1"], "seed is -1; it must be from 0 to"),
        (["--validation", "absent"], "absent is not a folder; name one with photographs"),
        (["--start", "absent.safetensors"], "absent.safetensors cannot be read (No such file or directory)"),
        (["--data", "absent"], "absent is not a folder; name one with photographs"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    more: list[str], expected: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run", *more)) == 2
    assert expected in the_error(capsys)


def test_vgg_weights_that_are_missing_are_one_line_and_status_2(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = tmp_path / "vgg.safetensors"
    assert main(command(tiny_perceptual_x4, pictures, tmp_path / "run", "--vgg-weights", absent)) == 2
    assert "vgg.safetensors" in the_error(capsys)


def test_a_run_learns_from_a_teacher_and_names_it(pictures: Path, weights: Path, tmp_path: Path) -> None:
    assert main(command(tiny_student_x4, pictures, tmp_path / "run", "--teacher", weights)) == 0
    card = read_checkpoint(tmp_path / "run" / "tiny-psnr-x4.safetensors").card
    assert "; taught by start@" in card.data
    assert '"teacher": ' in (tmp_path / "run" / "history.jsonl").read_text()


def test_a_teacher_that_nothing_is_learnt_from_is_one_line_and_status_2(
    pictures: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run", "--teacher", weights)) == 2
    assert "losses.teacher, the weight of its loss, is 0.0" in the_error(capsys)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_usable_photographs_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    assert main(command(tiny_psnr_x4, tmp_path, tmp_path / "run")) == 2
    assert "no photograph of the folder can be used" in the_error(capsys)


def test_an_unknown_recipe_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["esrgan_x9", "--data", "x", "--out", "y"])
    assert exit_status.value.code == 2
    assert "compact_psnr_x4" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("tiny")])
def test_the_help_of_a_recipe_is_its_own_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main([name, "--help"])
    assert exit_status.value.code == 0
    assert f"Command: python -m training {name} " in capsys.readouterr().out


def test_the_doctor_finds_nothing_in_sound_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mosaic = textured(20, 20).repeat_interleave(8, 1).repeat_interleave(8, 2)  # nothing has sharper edges
    save(mosaic, tmp_path / "a.png")
    assert main(["doctor", "--data", str(tmp_path)]) == 0
    assert "1 files, 0.0 MP: nothing wrong; 1 usable" in capsys.readouterr().out


def test_the_doctors_findings_are_status_1(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--data", str(pictures), "--least-px", "90"]) == 1
    out = capsys.readouterr().out
    assert f"tiny        {pictures / 'made_0.png'}: 88 x 80 px is less than 90 px a side" in out
    assert "2 files" in out.splitlines()[-1]


def test_the_doctor_of_an_absent_folder_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--data", str(tmp_path / "absent")]) == 2
    assert "absent is not a folder" in the_error(capsys)


def test_pictures_to_measure_on_are_not_trained_on(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aside = pictures / "valid"
    save(textured(80, 88, seed=7), aside / "aside.png")
    (tmp_path / "link").symlink_to(aside)
    more = ("--validation", tmp_path / "link")
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run", *more)) == 0
    said = "1 pictures of --data belong to --validation; they are measured and not trained on"
    assert said in capsys.readouterr().out
    assert read_checkpoint(next((tmp_path / "run").glob("*.safetensors"))).card.data == "2 pictures of pictures"


def test_a_run_that_would_be_measured_on_all_that_it_learns_from_is_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run", "--validation", pictures)) == 2
    assert "all 2 pictures of --data belong to --validation" in the_error(capsys)


def test_the_scale_is_checked_together_with_all_other_settings(pictures: Path, tmp_path: Path) -> None:
    for path in pictures.iterdir():
        save(textured(132, 140), path)
    more = ("--scale", 2, "--set", "crop_px=64")
    assert main(command(tiny_vgg_x4, pictures, tmp_path / "run", *more)) == 0
    assert (tmp_path / "run" / "tiny-vgg-x2.safetensors").exists()
