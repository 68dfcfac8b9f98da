"""`python -m model`, as users call it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from app.settings import SHIPPED_MODELS
from model.__main__ import SHIPPED, main
from model.files.checkpoint import Card, read_checkpoint, write_checkpoint
from model.files.reading import read, sha256_of
from model.flat_colours import FLAT, upscaled_colours
from model.rrdb import RRDBConfig
from tests.model.examples import TINY, random_net, textured
from tests.model.published import NEW, NamedGenerator, OldGenerator, randomised

SMALL = {"channels": 6, "blocks": 2, "growth": 3}
CARD = Card(
    name="ours", recipe="by_hand", steps=3, data="noise", metrics={"Set5": {"psnr_y": 30.0}}, created="2026-01-01"
)


@pytest.fixture
def x2plus(tmp_path: Path) -> Path:
    path = tmp_path / "my_x2plus.pth"
    torch.save({"params_ema": randomised(NamedGenerator(NEW, scale=2, unshuffle=2, **SMALL)).state_dict()}, path)
    return path


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    path = tmp_path / "ours.safetensors"
    write_checkpoint(path, random_net(), CARD, golden_input=textured(10, 12))
    return path


def test_info_says_what_a_foreign_file_is(x2plus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(x2plus)]) == 0
    shown = capsys.readouterr().out
    for line in ("my_x2plus", "Real-ESRGAN (body, conv_body), .pth", "scale           2", "unshuffle       2"):
        assert line in shown


def test_info_as_json_holds_sizes_cost_and_hash(ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(ours), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    config = RRDBConfig(channels=4, blocks=1, growth=2, scale=4)
    assert said["format"] == "esrgan-serve/1"
    assert (said["scale"], said["channels"], said["blocks"], said["growth"]) == (4, 4, 1, 2)
    assert said["padding_mode"] == "zeros"
    assert said["parameters"] == sum(weight.numel() for weight in random_net().parameters())
    assert said["mmac_per_lr_px"] == pytest.approx(config.macs_per_low_res_px / 1e6, abs=1e-4)
    assert said["sha256"] == read_checkpoint(ours).sha256
    assert said["metrics"] == CARD.metrics


def test_a_converted_file_makes_bit_for_bit_what_it_made_before(x2plus: Path, tmp_path: Path) -> None:
    out = tmp_path / "converted.safetensors"
    assert main(["convert", str(x2plus), str(out), "--licence", "CC0-1.0"]) == 0
    picture = torch.rand(1, 3, 7, 9)
    before, after = read(x2plus), read_checkpoint(out)
    assert torch.equal(before.net(picture), after.net(picture))
    assert torch.equal(after.golden_output, before.golden_output)


def test_a_converted_file_says_where_it_comes_from(x2plus: Path, tmp_path: Path) -> None:
    given = ["--name", "mine", "--licence", "CC0-1.0", "--data", "my photographs"]
    assert main(["convert", str(x2plus), str(tmp_path), *given]) == 0
    with safe_open(tmp_path / "mine.safetensors", framework="pt") as file:
        said = file.metadata()
    assert (said["format"], said["scale"], said["unshuffle"]) == ("esrgan-serve/1", "2", "2")
    assert (said["name"], said["licence"], said["data"]) == ("mine", "CC0-1.0", "my photographs")
    assert said["source"] == f"my_x2plus.pth, sha256 {read(x2plus).sha256}"
    assert said["recipe"] == "converted from Real-ESRGAN (body, conv_body), .pth"


def test_converting_a_file_of_ours_keeps_its_card_and_golden_picture(ours: Path, tmp_path: Path) -> None:
    assert main(["convert", str(ours), str(tmp_path / "half.safetensors"), "--dtype", "float16"]) == 0
    half = read_checkpoint(tmp_path / "half.safetensors")
    assert half.card == CARD
    assert torch.equal(half.golden_input, textured(10, 12))


def test_x3_is_converted_if_the_scale_is_given(tmp_path: Path) -> None:
    torch.save(randomised(OldGenerator(scale=3, **SMALL)).state_dict(), tmp_path / "3x.pth")
    assert main(["convert", str(tmp_path / "3x.pth"), str(tmp_path), "--scale", "3"]) == 0
    assert read_checkpoint(tmp_path / "3x.safetensors").net.config.scale == 3


def test_x3_stays_x3_when_it_is_resized_or_mixed_with_its_scale(tmp_path: Path) -> None:
    torch.save(randomised(OldGenerator(scale=3, **SMALL)).state_dict(), tmp_path / "3x.pth")
    source, wide, mixed = (str(tmp_path / name) for name in ("3x.pth", "wide.safetensors", "mixed.safetensors"))
    assert main(["resize", source, wide, "--channels", "8", "--scale", "3"]) == 0
    assert main(["interpolate", source, source, "--alpha", "0.5", "-o", mixed, "--scale", "3"]) == 0
    assert [read_checkpoint(Path(path)).net.config.scale for path in (wide, mixed)] == [3, 3]


@pytest.mark.parametrize("trained", [True, False])
def test_a_network_known_by_its_shapes_alone_is_converted_only_if_it_enlarges_pictures(
    trained: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = read_checkpoint(SHIPPED / "compact-psnr-x4.safetensors").net
    if not trained:
        net.conv_hr.weight.copy_(torch.randn_like(net.conv_hr.weight) * 0.05)
    renamed = {name.replace("conv_", "layer_").replace("rdb", "dense"): one for name, one in net.state_dict().items()}
    torch.save(renamed, tmp_path / "odd.pth")
    assert main(["convert", str(tmp_path / "odd.pth"), str(tmp_path)]) == (0 if trained else 1)
    assert (tmp_path / "odd.safetensors").exists() == trained
    assert trained or "dB on the test picture" in capsys.readouterr().err


def test_convert_replaces_nothing_unasked(x2plus: Path, ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ours.read_bytes()
    assert main(["convert", str(x2plus), str(ours)]) == 1
    assert "exists already; --force replaces it" in capsys.readouterr().err
    assert ours.read_bytes() == before
    assert main(["convert", str(x2plus), str(ours), "--force"]) == 0
    assert read_checkpoint(ours).card.name == "ours"


def test_convert_writes_safetensors_only(x2plus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(x2plus), str(tmp_path / "out.pth")]) == 1
    assert "must end in .safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["convert"], ["export", "--to", "pth", "--unchecked", "-o"]])
def test_a_missing_folder_of_a_new_file_is_named(
    command: list[str], ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *options = command
    suffix = ".pth" if options else ".safetensors"
    assert main([name, str(ours), *options, str(tmp_path / "absent" / f"new{suffix}")]) == 1
    assert f"error: {tmp_path / 'absent'} is not a folder; make it first\n" in capsys.readouterr().err


def test_a_folder_is_not_read_as_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path)]) == 1
    assert f"error: {tmp_path} is a folder; name one of its files\n" in capsys.readouterr().err


def test_check_finds_a_sound_network_sound(
    x2plus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("model.inspection.SPEED_S", 0.01)
    monkeypatch.setattr("model.inspection.use_physical_cores", lambda: 1)
    assert main(["check", str(x2plus), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stream_levels"] <= 1
    assert found["lr_px_per_s"] > 0


def test_check_refuses_a_network_that_does_not_make_its_golden_picture(
    ours: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.inspection.use_physical_cores", lambda: 1)
    monkeypatch.setattr("model.files.checkpoint.reference_output", lambda net, picture: torch.zeros(3, 40, 48).byte())
    write_checkpoint(ours, random_net(), CARD, golden_input=textured(10, 12))
    assert main(["check", str(ours)]) == 1
    assert capsys.readouterr().err.startswith("error: self-test of ours on ")


def test_check_tells_in_one_line_that_a_network_makes_nothing_finite(
    ours: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.inspection.use_physical_cores", lambda: 1)
    net = random_net()
    net.conv_last.weight.fill_(3e38)
    write_checkpoint(ours, net, CARD, golden_input=textured(10, 12))
    assert main(["check", str(ours)]) == 1
    assert capsys.readouterr().err.startswith("error: the network made ")


def test_interpolate_writes_a_network_between_two(ours: Path, tmp_path: Path) -> None:
    net = random_net()
    net.conv_last.weight *= 1.1
    other, out = tmp_path / "other.safetensors", tmp_path / "between.safetensors"
    write_checkpoint(other, net, CARD, golden_input=textured(10, 12))
    assert main(["interpolate", str(ours), str(other), "--alpha", "0.5", "-o", str(out)]) == 0
    between = read_checkpoint(out)
    assert between.card.name == "between"
    assert torch.allclose(between.net.conv_last.weight, random_net().conv_last.weight * 1.05)


def test_transfer_adds_what_training_changed_in_another_network(ours: Path, tmp_path: Path) -> None:
    net = random_net()
    net.conv_hr.weight *= 1.1
    after, out = tmp_path / "after.safetensors", tmp_path / "made.safetensors"
    write_checkpoint(after, net, CARD, golden_input=textured(10, 12))
    given = ["--before", str(ours), "--after", str(after), "--alpha", "0.5"]
    assert main(["transfer", str(ours), str(out), *given]) == 0
    made = read_checkpoint(out)
    assert made.card.name == "made"
    assert torch.allclose(made.net.conv_hr.weight, random_net().conv_hr.weight * 1.05)
    assert main(["transfer", str(ours), str(out), *given]) == 1  # exists


def test_convert_corrects_flat_colours_on_request(tmp_path: Path) -> None:
    start, out = SHIPPED_MODELS / "compact-real-psnr-x4.safetensors", tmp_path / "exact.safetensors"
    assert main(["convert", str(start), str(out), "--flat-colours"]) == 0
    before, after = ((upscaled_colours(read_checkpoint(path).net) - FLAT).square().mean() for path in (start, out))
    assert after <= before


def test_a_correction_of_colours_is_in_the_recipe_and_leaves_no_metrics_of_other_weights(
    ours: Path, tmp_path: Path
) -> None:
    assert main(["convert", str(ours), str(tmp_path / "exact.safetensors"), "--flat-colours"]) == 0
    card = read_checkpoint(tmp_path / "exact.safetensors").card
    assert card == replace(CARD, recipe="by_hand, flat colours corrected", metrics={})


def test_interpolate_takes_published_files_and_says_how_it_mixed_them(tmp_path: Path) -> None:
    for name, factor in (("one", 1.0), ("two", 1.02)):
        net = random_net()
        for weight in net.parameters():
            weight.mul_(factor)
        torch.save({"params": net.state_dict()}, tmp_path / f"{name}.pth")
    one, two, out = (str(tmp_path / name) for name in ("one.pth", "two.pth", "between.safetensors"))
    assert main(["interpolate", one, two, "--alpha", "0.5", "-o", out]) == 0
    between = read_checkpoint(Path(out))
    assert torch.allclose(between.net.conv_hr.weight, 1.01 * random_net().conv_hr.weight, atol=1e-6)
    versions = " ".join(f"{name}@{sha256_of(tmp_path / f'{name}.pth')[:12]}" for name in ("one", "two"))
    assert between.card.recipe == f"interpolate {versions} --alpha 0.5"
    assert between.card.metrics == {}


@pytest.mark.parametrize(
    ("alpha", "out", "complaint"),
    [
        ("1.5", "between.safetensors", "alpha is 1.5; it must be in [0, 1]"),
        ("0.5", "two words.safetensors", "'two words' cannot be the name of a model"),
        ("0.5", "between.pth", "must end in .safetensors"),
        ("0.5", "absent/between.safetensors", "absent is not a folder; make it first"),
        ("0.5", "ours.safetensors", "exists already; --force replaces it"),
    ],
)
def test_what_interpolate_cannot_do_is_one_line_and_nothing_is_written(
    alpha: str, out: str, complaint: str, ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    target = ours if out == ours.name else tmp_path / out
    assert main(["interpolate", str(ours), str(ours), "--alpha", alpha, "-o", str(target)]) == 1
    assert complaint in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_interpolate_refuses_two_sizes(ours: Path, x2plus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["interpolate", str(ours), str(x2plus), "--alpha", "0.5", "-o", "out.safetensors"]) == 1
    assert "the sizes must be equal" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "check"])
def test_what_cannot_be_read_is_one_line_and_status_1(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.pth").write_bytes(b"not a\nnetwork")
    assert main([command, str(tmp_path / "bad.pth")]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1


def test_fetch_without_a_name_lists_the_catalogue(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch"]) == 0
    assert "realesrgan-x4plus         BSD-3-Clause" in capsys.readouterr().out


def test_fetching_an_unknown_name_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "nothing"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no 'nothing'")


def test_resize_writes_a_wider_network_of_fewer_blocks(ours: Path, tmp_path: Path) -> None:
    before = replace(TINY, blocks=3)
    write_checkpoint(ours, random_net(before), CARD, golden_input=textured(10, 12))
    out = tmp_path / "wide.safetensors"
    arguments = ["resize", str(ours), str(out), "--channels", "10", "--growth", "6", "--without", "0", "2"]
    assert main(arguments) == 0
    wide = read_checkpoint(out)
    assert wide.net.config == replace(before, channels=10, growth=6, blocks=1)
    assert wide.card.name == "wide"
    assert wide.card.recipe == "ours resized to 10/1/6 without 0 2"
    assert main(arguments) == 1  # it exists


def test_resize_refuses_a_narrower_network_in_one_line(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resize", str(ours), str(tmp_path / "out.safetensors"), "--channels", "2"]) == 1
    assert "it can only become wider" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_convert_refuses_to_correct_the_colours_of_a_grey_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, out = tmp_path / "grey.safetensors", tmp_path / "out.safetensors"
    grey = random_net(RRDBConfig(channels=4, blocks=1, growth=2, scale=2, inputs=1))
    write_checkpoint(start, grey, CARD, golden_input=textured(10, 12))
    assert main(["convert", str(start), str(out), "--flat-colours"]) == 1
    assert "is for grey pictures; --flat-colours needs a network for RGB" in capsys.readouterr().err
    assert not out.exists()
