"""Fine-tuning as users do it: any weight file, a folder of pictures, one command."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.files.checkpoint import read_checkpoint
from model.files.reading import sha256_of
from tests.model.examples import TINY, random_net, textured
from tests.training.commands.printed import the_error
from tests.training.commands.test_command import command, tiny_gan_x4, tiny_psnr_x4
from tests.training.photographs import save
from training.__main__ import main
from training.config import TrainingConfig
from training.damage import DAMAGES
from training.recipes import RECIPES, finetune_x4

QUICK = ("--steps", 2, "--batch", 2, "--set", "crop_px=8", "validate_every=1", "log_every=1")


@pytest.fixture(autouse=True)
def tiny_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    for recipe in (tiny_psnr_x4, tiny_gan_x4):
        monkeypatch.setitem(RECIPES, recipe.__name__, recipe)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures; one is held out to measure on."""
    for number in range(10):
        save(textured(132, 136, seed=number), tmp_path / "pictures" / f"{'abcdefghij'[number]}.png")
    return tmp_path / "pictures"


def published(path: Path, **sizes: int) -> Path:
    torch.save({"params_ema": random_net(replace(TINY, **sizes)).state_dict()}, path)  # type: ignore[arg-type]  # all sizes here are integers
    return path


@pytest.mark.parametrize(
    ("sizes", "crop_px"),
    [
        ({}, 8),
        ({"blocks": 2, "growth": 3}, 8),
        ({"scale": 2, "unshuffle": 2}, 16),
        ({"scale": 1, "unshuffle": 4}, 16),
        ({"scale": 8}, 8),
        ({"inputs": 1}, 8),
    ],
)
def test_every_published_network_is_trained_further_in_its_own_sizes(
    sizes: dict[str, int], crop_px: int, pictures: Path, tmp_path: Path
) -> None:
    start = published(tmp_path / "x_plus.pth", **sizes)
    more = (
        "--start",
        start,
        *QUICK,
        f"crop_px={crop_px}",
        *(["degradation=default"] if sizes.get("scale") == 1 else []),
    )
    assert main(command(finetune_x4, pictures, tmp_path / "run", *more)) == 0
    checkpoint = read_checkpoint(tmp_path / "run" / "x_plus-finetuned.safetensors")
    assert checkpoint.net.config == replace(TINY, **sizes)  # type: ignore[arg-type]
    assert checkpoint.card.steps == 2
    source = f"x_plus, sha256 {sha256_of(start)}"
    assert checkpoint.card.source == f"trained from {source}"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["start"] == source


@pytest.mark.parametrize("scale", [1, 2, 3, 8])
def test_another_scale_is_asked_for_by_one_option(scale: int, pictures: Path, tmp_path: Path) -> None:
    start = published(tmp_path / "x4.pth")
    more = ("--start", start, "--scale", scale, *QUICK, *(["degradation=default"] if scale == 1 else []))
    assert main(command(finetune_x4, pictures, tmp_path / "run", *more)) == 0
    net = read_checkpoint(tmp_path / "run" / f"x4-x{scale}-finetuned.safetensors").net
    assert net.config == replace(TINY, scale=scale)


def test_a_recipe_is_trained_for_another_scale(pictures: Path, tmp_path: Path) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "run", "--scale", 2)) == 0
    assert read_checkpoint(tmp_path / "run" / "tiny-psnr-x2.safetensors").net.config == replace(TINY, scale=2)


def test_the_crops_of_networks_behind_an_unshuffle_are_as_large_to_their_trunk(pictures: Path, tmp_path: Path) -> None:
    start = published(tmp_path / "x2plus.pth", scale=2, unshuffle=2)
    quick = [one for one in QUICK if one != "crop_px=8"]
    assert main(command(finetune_x4, pictures, tmp_path / "run", "--start", start, *quick)) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["crop_px"] == 2 * finetune_x4().crop_px


def test_damage_of_uploads_is_learnt_where_it_is_asked_for(pictures: Path, tmp_path: Path) -> None:
    start = published(tmp_path / "x4.pth")
    more = ("--start", start, *QUICK, "degradation=default")
    assert main(command(finetune_x4, pictures, tmp_path / "run", *more)) == 0
    metrics = read_checkpoint(tmp_path / "run" / "x4-finetuned.safetensors").card.metrics
    assert metrics.keys() == {f"validation, {damage}" for damage in DAMAGES}


def test_a_run_goes_on_when_its_command_is_given_again_with_more_steps(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = published(tmp_path / "x4.pth")
    assert main(command(finetune_x4, pictures, tmp_path / "run", "--start", start, *QUICK)) == 0
    (tmp_path / "run" / "x4-finetuned.safetensors").rename(tmp_path / "before.safetensors")
    capsys.readouterr()
    more = ("--start", start, *QUICK, "steps=3", "validate_every=3")
    assert main(command(finetune_x4, pictures, tmp_path / "run", *more)) == 0
    assert "continuing after step 2 of 3" in capsys.readouterr().out


def test_a_run_that_goes_on_with_more_pictures_measures_on_the_same(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = published(tmp_path / "x4.pth")
    more = ("--start", start, *QUICK)
    assert main(command(finetune_x4, pictures, tmp_path / "run", *more)) == 0
    (tmp_path / "run" / "x4-finetuned.safetensors").rename(tmp_path / "before.safetensors")
    for number in range(30):
        save(textured(132, 136, seed=100 + number), pictures / f"new{number}.png")
    capsys.readouterr()
    assert main(command(finetune_x4, pictures, tmp_path / "run", *more, "steps=3")) == 0
    said = capsys.readouterr().out
    assert "the photographs are not those that the run began with" in said
    assert "the pictures to measure on" not in said
    assert "39 pictures of" in read_checkpoint(tmp_path / "run" / "x4-finetuned.safetensors").card.data


def test_another_start_does_not_go_on_with_a_run(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(finetune_x4, pictures, tmp_path / "run", "--start", published(tmp_path / "a.pth"), *QUICK)) == 0
    (tmp_path / "run" / "a-finetuned.safetensors").unlink()
    published(tmp_path / "a.pth", blocks=2)
    assert main(command(finetune_x4, pictures, tmp_path / "run", "--start", tmp_path / "a.pth", *QUICK)) == 2
    assert "holds a run with other settings: start is a, sha256" in the_error(capsys)


def test_the_config_of_another_run_is_taken_and_changed(pictures: Path, tmp_path: Path) -> None:
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "one", "--set", "batch=1", "ema_decay=0.5")) == 0
    more = ("--config", tmp_path / "one" / "config.json", "--set", "seed=3")
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "two", *more)) == 0
    one, two = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two"))
    assert two == one | {"seed": 3}
    assert (one["batch"], one["ema_decay"]) == (1, 0.5)


def test_a_discriminator_is_trained_further(pictures: Path, tmp_path: Path) -> None:
    start = published(tmp_path / "start.pth")
    one = command(tiny_gan_x4, pictures, tmp_path / "one", "--start", start)
    assert main(one) == 0
    judge = ("--start-discriminator", tmp_path / "one" / "state.pt")
    still = ("--set", "discriminator.optimiser.learning_rate=1e-12", "steps=1")
    assert main(command(tiny_gan_x4, pictures, tmp_path / "two", "--start", start, *judge, *still)) == 0
    first, second = (
        torch.load(tmp_path / name / "state.pt", weights_only=True)["steps"]["discriminator"]["net"]
        for name in ("one", "two")
    )
    torch.testing.assert_close(
        {name: one for name, one in second.items() if not name.endswith(("_u", "_v"))},
        {name: one for name, one in first.items() if not name.endswith(("_u", "_v"))},
    )
    recorded = json.loads((tmp_path / "two" / "config.json").read_text())["start_discriminator"]
    assert recorded == f"state.pt, sha256 {sha256_of(tmp_path / 'one' / 'state.pt')}"


def test_a_discriminator_that_is_added_begins_with_weights(pictures: Path, tmp_path: Path) -> None:
    start = published(tmp_path / "start.pth")
    assert main(command(tiny_gan_x4, pictures, tmp_path / "one", "--start", start)) == 0
    judge = ("--start-discriminator", tmp_path / "one" / "state.pt")
    added = ("discriminator=default", "discriminator.kind=unet", "discriminator.channels=2", "losses.adversarial=1")
    more = (*judge, "--set", *added, "discriminator.optimiser.learning_rate=1e-3")
    assert main(command(tiny_psnr_x4, pictures, tmp_path / "two", *more)) == 0
    recorded = json.loads((tmp_path / "two" / "config.json").read_text())["start_discriminator"]
    assert recorded == f"state.pt, sha256 {sha256_of(tmp_path / 'one' / 'state.pt')}"


def test_weights_for_a_discriminator_that_is_left_out_are_refused(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = published(tmp_path / "start.pth")
    more = ("--start", start, "--start-discriminator", start, "--set", "discriminator=none", "losses.adversarial=0")
    assert main(command(tiny_gan_x4, pictures, tmp_path / "run", *more)) == 2
    assert f"this run has no discriminator that could begin with {start}; leave " in the_error(capsys)


def test_lpips_is_said_to_be_left_out_once_where_it_is_missed(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = published(tmp_path / "start.pth")
    assert main(command(tiny_gan_x4, pictures, tmp_path / "run", "--start", start)) == 0
    assert capsys.readouterr().out.count("LPIPS is left out of the measurements; --alexnet-weights FILE adds it") == 1


@pytest.mark.parametrize(
    ("recipe", "more", "complaint"),
    [
        (finetune_x4, [], "finetune_x4 begins with any generator; name its file by --start"),
        (finetune_x4, ["--start", "{tmp}/text.pth"], "text.pth is a text that begins with"),
        (finetune_x4, ["--start", "{tmp}/x4.pth", "--set", "batch=two"], "batch is 'two'; it must be a whole number"),
        (finetune_x4, ["--start", "{tmp}/x4.pth", "--set", "generator.blocks=5"], "finetune_x4 needs RRDBConfig"),
        (finetune_x4, ["--start", "{tmp}/x4.pth", "--set", "best_by=lpips"], "which needs AlexNet; name its weights"),
        (tiny_gan_x4, ["--start", "{tmp}/x4.pth", "--set", "patience=3"], "add --set best_by=lpips and --alexnet"),
        (tiny_psnr_x4, ["--workers", "-1"], "--workers is -1; it must not be negative"),
        *(
            (tiny_psnr_x4, [f"--memory-gb={one}"], f"--memory-gb is {float(one)}; it must be finite and not negative")
            for one in ("nan", "inf", "-1")
        ),
        (
            tiny_gan_x4,
            ["--start", "{tmp}/x4.pth", "--set", "discriminator.channels=1000000"],
            "can't allocate memory",
        ),
        (tiny_psnr_x4, ["--scale", "1"], "tiny-psnr-x1 has scale 1, and without damage"),
        (tiny_psnr_x4, ["--config", "{tmp}/absent.json"], "No such file"),
        (tiny_psnr_x4, ["--config", "{tmp}/gan.json"], "is of the recipe tiny_gan_x4; name that instead"),
        (tiny_psnr_x4, ["--start-discriminator", "{tmp}/x4.pth"], "this run has no discriminator"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_begun(
    recipe: Callable[[], TrainingConfig],
    more: list[str],
    complaint: str,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    published(tmp_path / "x4.pth")
    (tmp_path / "text.pth").write_text("no weights at all")
    tiny_gan_x4().write(tmp_path / "gan.json")
    given = [one.replace("{tmp}", str(tmp_path)) for one in more]
    assert main(command(recipe, pictures, tmp_path / "run", *given)) == 2
    assert complaint in the_error(capsys)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_processes_cannot_share_is_refused_before_the_pictures_are_read(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.commands.train.processes", lambda: 8)
    (tmp_path / "none").mkdir()
    assert main(command(tiny_psnr_x4, tmp_path / "none", tmp_path / "run")) == 2
    assert "a batch of 2 cannot be shared by 8 processes; start 2 or a divisor" in the_error(capsys)


def test_a_network_that_does_not_enlarge_learns_from_pairs(pictures: Path, tmp_path: Path) -> None:
    start = published(tmp_path / "x1.pth", scale=1, unshuffle=4)
    for path in pictures.iterdir():
        save(textured(132, 136, seed=77), tmp_path / "damaged" / path.name)
    more = ("--low-res", tmp_path / "damaged", "--start", start, *QUICK, "crop_px=16")
    assert main(command(finetune_x4, pictures, tmp_path / "run", *more)) == 0


def test_the_config_of_another_run_keeps_its_crops_and_its_padding(pictures: Path, tmp_path: Path) -> None:
    start = published(tmp_path / "x2plus.pth", scale=2, unshuffle=2)
    first = ("--start", start, *QUICK, "crop_px=16", "generator.padding_mode=replicate")
    assert main(command(finetune_x4, pictures, tmp_path / "first", *first)) == 0
    again = ("--start", start, "--config", tmp_path / "first" / "config.json")
    assert main(command(finetune_x4, pictures, tmp_path / "second", *again)) == 0
    configs = [json.loads((tmp_path / run / "config.json").read_text()) for run in ("first", "second")]
    assert configs[0] == configs[1]


def test_a_scale_that_the_start_cannot_have_is_one_line(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = published(tmp_path / "x2plus.pth", scale=2, unshuffle=2)
    assert main(command(finetune_x4, pictures, tmp_path / "run", "--start", start, "--scale", 3, *QUICK)) == 2
    assert "scale is 3 with unshuffle 2" in the_error(capsys)
