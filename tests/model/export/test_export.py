"""Exported files produce our pictures in their target programs, and are written only if they do."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.__main__ import main
from model.errors import WeightsError
from model.export import checks, exporting
from model.export.exporting import Options, export, target_path
from model.files.checkpoint import Card, Checkpoint, reference_output, write_checkpoint
from model.files.reading import read
from model.rrdb import RRDBConfig
from tests.model.examples import TINY, random_net, textured

REPEATING = replace(TINY, padding_mode="replicate")
NETWORKS = {
    "x4": TINY,
    "x4, repeated borders": REPEATING,
    "x3": replace(TINY, scale=3),
    "x1": replace(TINY, scale=1, blocks=2),
    "x2 behind an unshuffle": replace(TINY, scale=2, unshuffle=2),
    "x1 behind an unshuffle, repeated borders": replace(REPEATING, scale=1, unshuffle=4),
    "grey": replace(TINY, inputs=1),
    "RGBA": replace(TINY, inputs=4),
}

every_network = pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)


def checkpoint_of(config: RRDBConfig, folder: Path) -> Checkpoint:
    path = folder / "made.safetensors"
    if not path.exists():
        card = Card(
            name="made", recipe="none", steps=0, data="noise", metrics={}, created="2026-01-01", licence="CC0-1.0"
        )
        write_checkpoint(path, random_net(config), card, golden_input=textured(16, 24))
    return read(path)


def onnx_pictures(path: Path, pictures: Tensor) -> Tensor:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"low_res": (pictures.float() / 255).numpy()})
    return torch.from_numpy(made).mul(255).round().clamp(0, 255).to(torch.uint8)


def levels_apart(one: Tensor, other: Tensor) -> int:
    return int((one.int() - other.int()).abs().max())


# ONNX


@every_network
def test_an_onnx_model_gives_the_services_pictures_of_any_size(config: RRDBConfig, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    checkpoint = checkpoint_of(config, tmp_path)
    path = tmp_path / "made.onnx"
    assert export(checkpoint, path, Options(kind="onnx")).files == (path,)
    for height, width in ((1, 1), (2, 3), (17, 9), (20, 32)):
        pictures = torch.stack([textured(height, width, seed) for seed in range(2)])
        made = onnx_pictures(path, pictures)
        for one, picture in zip(made, pictures, strict=True):
            assert levels_apart(one, reference_output(checkpoint.net, picture)) <= 1


def test_an_onnx_model_without_a_margin_is_the_bare_network(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    checkpoint = checkpoint_of(TINY, tmp_path)
    export(checkpoint, tmp_path / "made.onnx", Options(kind="onnx", margin=False))
    picture = textured(11, 13)
    made = onnx_pictures(tmp_path / "made.onnx", picture[None])[0]
    assert levels_apart(made, checks.bare_output(checkpoint.net, picture)) <= 1
    assert levels_apart(made, reference_output(checkpoint.net, picture)) > 1


def test_an_onnx_model_says_what_it_is(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    checkpoint = checkpoint_of(TINY, tmp_path)
    export(checkpoint, tmp_path / "made.onnx", Options(kind="onnx"))
    model = onnx.load(tmp_path / "made.onnx")
    onnx.checker.check_model(model, full_check=True)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["licence"] == "CC0-1.0"
    assert said["sha256"] == checkpoint.sha256
    assert (said["name"], said["scale"]) == ("made", "4")


# ncnn


@every_network
def test_an_ncnn_pair_gives_the_pictures_of_the_network_and_reads_back_as_it(
    config: RRDBConfig, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(config, tmp_path)
    files = export(checkpoint, tmp_path / "pair.param", Options(kind="ncnn")).files
    assert files == (tmp_path / "pair.bin", tmp_path / "pair.param")
    back = read(tmp_path / "pair.param").net
    assert back.config == config
    weights = checkpoint.net.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in back.state_dict().items())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0=1 1=1 2=1 3=1 4=1", "0=1 1=1 2=1 3=1 4=2"),
        ("0=1 1=1 2=1 3=1 4=1", "0=1 1=1 2=1 3=1 4=0"),
        ("0=1 1=1 2=1 3=1 4=1", "0=2 1=0 2=1 3=1 4=1"),
        ("Reorg t0 1 1 data t0 0=4", "Reorg t0 1 1 data t0 0=4 1=1"),
    ],
)
def test_a_pair_that_pads_or_unshuffles_in_another_way_is_refused(old: str, new: str, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(NETWORKS["x1 behind an unshuffle, repeated borders"], tmp_path)
    export(checkpoint, tmp_path / "pair.param", Options(kind="ncnn"))
    text = (tmp_path / "pair.param").read_text()
    assert old in text
    (tmp_path / "pair.param").write_text(text.replace(old, new, 1))
    with pytest.raises(WeightsError, match=r"a Padding that does not repeat|a Reorg that is not a pixel-unshuffle"):
        read(tmp_path / "pair.param")


# PyTorch


@pytest.mark.parametrize("name", ["x4", "x1", "x2 behind an unshuffle"])
def test_a_pth_file_opens_in_spandrel_with_our_pictures(name: str, tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel")
    checkpoint = checkpoint_of(NETWORKS[name], tmp_path)
    exported = export(checkpoint, tmp_path / "made.pth", Options(kind="pth"))
    assert "growth 2 was widened to 32" in exported.notes[0]
    loaded = spandrel.ModelLoader(device="cpu").load_from_file(tmp_path / "made.pth")
    assert loaded.scale == checkpoint.net.config.scale
    picture = textured(12, 16)
    with torch.inference_mode():
        made = loaded(picture[None].float() / 255)[0].mul(255).round().clamp(0, 255)
    assert levels_apart(made, checks.bare_output(checkpoint.net, picture)) <= 1


def test_a_pth_file_keeps_its_growth_if_asked_to(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(TINY, tmp_path)
    with pytest.raises(WeightsError, match="spandrel cannot build the network"):
        export(checkpoint, tmp_path / "made.pth", Options(kind="pth", keep_growth=True))
    export(checkpoint, tmp_path / "made.pth", Options(kind="pth", keep_growth=True, checked=False))
    back = read(tmp_path / "made.pth").net
    assert back.config == TINY
    weights = checkpoint.net.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in back.state_dict().items())


def test_repeated_borders_do_not_fit_into_a_pth_file(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(REPEATING, tmp_path)
    with pytest.raises(WeightsError, match=r"repeats the border .* export to onnx or ncnn, or take --unchecked"):
        export(checkpoint, tmp_path / "made.pth", Options(kind="pth"))
    export(checkpoint, tmp_path / "made.pth", Options(kind="pth", checked=False))
    assert read(tmp_path / "made.pth").net.config.padding_mode == "zeros"


# Refusals, and leftover files


def inverted(_path: Path, picture: Tensor, *_: object) -> Tensor:
    return 255 - functional.interpolate(picture[None], scale_factor=4)[0]


@pytest.mark.parametrize(
    ("kind", "program"), [("onnx", "onnx_output"), ("ncnn", "ncnn_output"), ("pth", "spandrel_output")]
)
def test_a_file_that_gives_another_picture_is_not_written(
    kind: exporting.Kind, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx")
    checkpoint = checkpoint_of(TINY, tmp_path)
    monkeypatch.setattr(exporting, program, inverted)
    target = target_path(tmp_path, "other", kind)
    with pytest.raises(WeightsError, match=r"differs from ours by \d+ levels of 255, more than 1; --unchecked"):
        export(checkpoint, target, Options(kind=kind))
    assert [path.name for path in tmp_path.iterdir()] == ["made.safetensors"]
    export(checkpoint, target, Options(kind=kind, checked=False))
    assert target.exists()


@pytest.mark.parametrize(("kind", "package"), [("onnx", "onnxruntime"), ("ncnn", "ncnn"), ("pth", "spandrel")])
def test_without_the_program_that_would_check_a_file_it_is_named(
    kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx")
    checkpoint_of(TINY, tmp_path)
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    command = ["export", str(tmp_path / "made.safetensors"), "--to", kind, "-o", str(tmp_path)]
    assert main(command) == 1
    assert f"{package} is not installed" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["made.safetensors"]
    assert main([*command, "--unchecked"]) == 0


def test_a_file_that_exists_is_replaced_only_by_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint_of(TINY, tmp_path)
    command = ["export", str(tmp_path / "made.safetensors"), "--to", "ncnn", "-o", str(tmp_path / "pair.param")]
    (tmp_path / "pair.bin").write_text("mine")
    assert main(command) == 1
    assert "pair.bin exists already; --force replaces it" in capsys.readouterr().err
    assert (tmp_path / "pair.bin").read_text() == "mine"
    assert main([*command, "--force"]) == 0
    assert read(tmp_path / "pair.param").net.config == TINY


def test_a_target_of_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"made\.pt must end in \.pth"):
        target_path(tmp_path / "made.pt", "made", "pth")


def test_a_target_in_a_folder_that_is_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint_of(TINY, tmp_path)
    target = tmp_path / "absent" / "made.pth"
    assert main(["export", str(tmp_path / "made.safetensors"), "--to", "pth", "-o", str(target)]) == 1
    assert "absent" in capsys.readouterr().err
