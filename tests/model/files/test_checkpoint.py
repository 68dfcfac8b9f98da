import hashlib
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.errors import WeightsError
from model.files.checkpoint import (
    Card,
    read_checkpoint,
    record_metrics,
    reference_output,
    write_checkpoint,
)
from tests.model.examples import TINY, random_net, textured

CARD = Card(
    name="tiny-x4",
    recipe="by_hand",
    steps=12,
    data="seeded noise (CC0)",
    metrics={"Set5": {"psnr_y": 30.5, "ssim_y": 0.9}},
    created="2025-01-31",
)
GOLDEN = textured(10, 12)

Metadata = dict[str, str]
Tensors = dict[str, Tensor]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A weight file that is right in every way."""
    path = tmp_path / "tiny.safetensors"
    write_checkpoint(path, random_net(), CARD, golden_input=GOLDEN)
    return path


def contents(path: Path) -> tuple[Metadata, Tensors]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict


def test_weights_come_back_bit_for_bit(path: Path) -> None:
    written, read = random_net().state_dict(), read_checkpoint(path).net.state_dict()
    assert list(read) == list(written)
    assert all(torch.equal(read[name], weight) for name, weight in written.items())


def test_the_network_that_comes_back_is_ready_to_serve(path: Path) -> None:
    net = read_checkpoint(path).net
    assert net.config == TINY
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())


def test_the_card_comes_back(path: Path) -> None:
    assert read_checkpoint(path).card == CARD


def test_the_metadata_says_what_the_contract_wants(path: Path) -> None:
    metadata, _ = contents(path)
    assert json.loads(metadata.pop("metrics")) == CARD.metrics
    assert metadata == {
        "format": "esrgan-serve/1",
        "architecture": "rrdb",
        "scale": "4",
        "channels": "4",
        "blocks": "1",
        "growth": "2",
        "inputs": "3",
        "unshuffle": "1",
        "padding_mode": "zeros",
        "name": "tiny-x4",
        "recipe": "by_hand",
        "steps": "12",
        "data": "seeded noise (CC0)",
        "licence": "",
        "source": "",
        "created": "2025-01-31",
    }


def test_the_padding_comes_back(tmp_path: Path) -> None:
    net = random_net(replace(TINY, padding_mode="replicate"))
    write_checkpoint(tmp_path / "real.safetensors", net, CARD, golden_input=GOLDEN)
    checkpoint = read_checkpoint(tmp_path / "real.safetensors")
    assert contents(tmp_path / "real.safetensors")[0]["padding_mode"] == "replicate"
    assert checkpoint.net.config == net.config
    assert torch.equal(checkpoint.golden_output, reference_output(net, GOLDEN))
    assert not torch.equal(checkpoint.golden_output, reference_output(random_net(), GOLDEN))


def test_a_file_that_says_nothing_of_its_padding_is_read_as_padding_by_zeros(path: Path) -> None:
    metadata, tensors = contents(path)
    del metadata["padding_mode"]
    save_file(tensors, path, metadata=metadata)
    assert read_checkpoint(path).net.config == TINY


def test_recording_measurements_in_a_file_from_before_margins_leaves_it_usable(path: Path) -> None:
    metadata, tensors = contents(path)
    del metadata["padding_mode"]
    tensors["golden.output"] = tensors["golden.output"].roll(3, dims=2)  # as it was without the margin
    save_file(tensors, path, metadata=metadata)
    record_metrics(path, {"Set14": {"psnr_y": 28.0}})
    assert torch.equal(read_checkpoint(path).golden_output, reference_output(random_net(), GOLDEN))


def test_recording_measurements_keeps_the_padding(tmp_path: Path) -> None:
    path = tmp_path / "real.safetensors"
    net = random_net(replace(TINY, padding_mode="replicate"))
    write_checkpoint(path, net, CARD, golden_input=GOLDEN)
    record_metrics(path, {"Set14": {"psnr_y": 28.0}})
    assert read_checkpoint(path).net.config == net.config


def test_the_golden_output_is_what_the_network_makes_of_the_golden_input(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    margin = TINY.margin_px
    seen = numpy.pad(GOLDEN.numpy(), [(0, 0), (margin, margin), (margin, margin)], mode="symmetric")
    upscaled = random_net()(torch.from_numpy(seen)[None].float() / 255)[
        0, :, 4 * margin : -4 * margin, 4 * margin : -4 * margin
    ]
    assert torch.equal(checkpoint.golden_input, GOLDEN)
    assert torch.equal(checkpoint.golden_output, upscaled.mul(255).round().clamp(0, 255).byte())


def test_the_checksum_is_that_of_the_file(path: Path) -> None:
    assert read_checkpoint(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_float16_storage_halves_the_weights_and_comes_back_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    write_checkpoint(path, random_net(), CARD, golden_input=GOLDEN, dtype=torch.float16)
    _, tensors = contents(path)
    read = read_checkpoint(path).net.state_dict()
    for name, weight in random_net().state_dict().items():
        assert tensors[name].dtype is torch.float16
        assert torch.equal(read[name], weight.half().float())


def test_the_golden_output_is_that_of_the_rounded_weights(tmp_path: Path) -> None:
    path = tmp_path / "rounded.safetensors"
    write_checkpoint(path, random_net(), CARD, golden_input=GOLDEN, dtype=torch.bfloat16)
    checkpoint = read_checkpoint(path)
    assert torch.equal(checkpoint.golden_output, reference_output(checkpoint.net, GOLDEN))
    assert not torch.equal(checkpoint.golden_output, reference_output(random_net(), GOLDEN))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_weights_that_are_not_finite_in_the_stored_format_are_not_written(bad: float, tmp_path: Path) -> None:
    net = random_net()
    net.conv_hr.weight[0, 0, 0, 0] = bad
    with pytest.raises(WeightsError, match=r"conv_hr\.weight holds NaN or infinity in torch\.float16"):
        write_checkpoint(tmp_path / "bad.safetensors", net, CARD, golden_input=GOLDEN, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_a_golden_picture_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has a golden input of 200 x 100 px"):
        write_checkpoint(tmp_path / "large.safetensors", random_net(), CARD, golden_input=textured(200, 100))
    assert list(tmp_path.iterdir()) == []


def test_writing_leaves_nothing_but_the_weight_file(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]


Edit = Callable[[Metadata, Tensors], object]


def without(name: str) -> Edit:
    return lambda metadata, tensors: metadata.pop(name)


def saying(name: str, value: str) -> Edit:
    return lambda metadata, tensors: metadata.update({name: value})


def holding(name: str, value: Tensor) -> Edit:
    return lambda metadata, tensors: tensors.update({name: value})


def lacking(name: str) -> Edit:
    return lambda metadata, tensors: tensors.pop(name)


BIAS = torch.zeros(4)
FIELDS = ("scale", "channels", "blocks", "growth", "name", "recipe", "steps", "data", "metrics", "created")
REFUSALS: dict[str, tuple[Edit, str]] = {
    "another format": (saying("format", "esrgan-serve/2"), "has format 'esrgan-serve/2'"),
    "no format": (without("format"), "has format None"),
    "another architecture": (saying("architecture", "swinir"), "architecture 'swinir'"),
    **{f"no {name}": (without(name), f"does not say its '{name}'") for name in FIELDS},
    "scale that is none": (saying("scale", "5"), "makes no sense (scale is 5; it must be one of"),
    "padding that is none": (
        saying("padding_mode", "reflect"),
        "makes no sense (padding_mode is 'reflect'; it must be one of ('zeros', 'replicate'))",
    ),
    "no channel": (saying("channels", "0"), "makes no sense (channels is 0"),
    "growth in words": (saying("growth", "many"), "makes no sense (invalid literal"),
    "half a step": (saying("steps", "1.5"), "makes no sense (invalid literal"),
    "huge size": (
        saying("channels", "99999999999"),
        "makes no sense (channels is 99999999999; it must be at most 1024)",
    ),
    "broken metrics": (saying("metrics", "{"), "makes no sense (Expecting"),
    "channels that lie": (saying("channels", "5"), "does not hold a network of RRDBConfig(channels=5"),
    "blocks that lie": (saying("blocks", "2"), "body.1.rdb1.conv1.bias is missing, expected (2,)"),
    "a thousand blocks that lie": (saying("blocks", "1000"), "it has only 42 weights"),
    "scale that lies": (saying("scale", "2"), "conv_up2.bias is (4,), expected no such weight (2 of"),
    "missing weight": (lacking("conv_hr.bias"), "conv_hr.bias is missing, expected (4,) (1 of"),
    "foreign weight": (holding("conv_extra.bias", BIAS), "conv_extra.bias is (4,), expected no such weight"),
    "other shape": (holding("conv_hr.bias", BIAS[:3]), "conv_hr.bias is (3,), expected (4,)"),
    "NaN": (holding("conv_hr.bias", BIAS * float("nan")), "conv_hr.bias holds NaN or infinity"),
    "infinity": (holding("conv_hr.bias", BIAS + float("inf")), "conv_hr.bias holds NaN or infinity"),
    "name with a line break": (saying("name", "a\nb"), "the name 'a\\nb' is not one of letters"),
    "empty name": (saying("name", ""), "the name '' is not one of letters"),
    "metrics without sets": (saying("metrics", "[1]"), "makes no sense (metrics are not a set"),
    "metrics without measures": (saying("metrics", '{"Set5": 3}'), "makes no sense (metrics are not a set"),
    "metrics that are a pit": (saying("metrics", "[" * 100_000), "makes no sense (maximum recursion depth"),
    "complex weight": (holding("conv_hr.bias", BIAS.to(torch.complex64)), "conv_hr.bias is stored as torch.complex64"),
    "weight of bytes": (holding("conv_hr.bias", BIAS.byte()), "conv_hr.bias is stored as torch.uint8"),
    "beyond float32": (holding("conv_hr.bias", BIAS.double() + 1e300), "conv_hr.bias is stored as torch.float64"),
    "empty golden": (holding("golden.input", GOLDEN[:, :0].clone()), "carries no golden input and output"),
    "no golden input": (lacking("golden.input"), "carries no golden input and output"),
    "no golden output": (lacking("golden.output"), "carries no golden input and output"),
    "golden of floats": (holding("golden.input", GOLDEN.float()), "carries no golden input and output"),
    "flat golden": (holding("golden.input", GOLDEN[:, 0].clone()), "carries no golden input and output"),
    "many goldens": (holding("golden.output", GOLDEN[..., None].clone()), "carries no golden input and output"),
    "large golden": (
        holding("golden.input", torch.zeros(3, 128, 129, dtype=torch.uint8)),
        "has a golden input of 128 x 129 px; take one of at most 16384",
    ),
    "grey golden": (holding("golden.output", GOLDEN[:1].clone()), "carries no golden input and output"),
}


@pytest.mark.parametrize(("edit", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_file_that_is_wrong_inside_is_refused_with_its_name_and_the_reason(
    edit: Edit, reason: str, path: Path
) -> None:
    metadata, tensors = contents(path)
    edit(metadata, tensors)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(WeightsError, match=rf"{re.escape(str(path))}.*{re.escape(reason)}"):
        read_checkpoint(path)


def test_a_safetensors_file_without_metadata_is_refused(path: Path) -> None:
    save_file(contents(path)[1], path)
    with pytest.raises(WeightsError, match=rf"{re.escape(str(path))} has format None"):
        read_checkpoint(path)


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_a_truncated_file_is_refused(kept: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=rf"{re.escape(str(path))} is not a readable \.safetensors file"):
        read_checkpoint(path)


@pytest.mark.parametrize("shape", [[0, 2**63], [0, 2**62, 2**62]])
def test_an_empty_weight_of_an_impossible_shape_is_refused(shape: list[int], tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "odd.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match=r"odd\.safetensors is not a readable \.safetensors file"):
        read_checkpoint(tmp_path / "odd.safetensors")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors cannot be read \(No such file"):
        read_checkpoint(tmp_path / "absent.safetensors")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return (Path.touch, (self.sprung,))


def pickled(path: Path, trap: Trap) -> None:
    path.write_bytes(pickle.dumps(trap))


def saved_by_torch(path: Path, trap: Trap) -> None:
    torch.save({"params": random_net().state_dict(), "trap": trap}, path)


@pytest.mark.parametrize("write", [pickled, saved_by_torch])
def test_a_pickle_under_another_name_is_refused_and_never_run(
    write: Callable[[Path, Trap], None], tmp_path: Path
) -> None:
    path, sprung = tmp_path / "pickle.safetensors", tmp_path / "sprung"
    write(path, Trap(sprung))
    with pytest.raises(WeightsError, match=rf"{re.escape(str(path))} is not a readable \.safetensors file"):
        read_checkpoint(path)
    assert not sprung.exists()


def test_measurements_are_added_and_replace_those_of_the_same_set(path: Path) -> None:
    record_metrics(path, {"Set14": {"psnr_y": 27.0}, "Set5": {"psnr_y": 31.0}})
    card = read_checkpoint(path).card
    assert card.metrics == {"Set14": {"psnr_y": 27.0}, "Set5": {"psnr_y": 31.0}}
    assert (card.name, card.steps, card.data) == (CARD.name, CARD.steps, CARD.data)


def test_recording_measurements_keeps_every_tensor_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    write_checkpoint(path, random_net(), CARD, golden_input=GOLDEN, dtype=torch.float16)
    _, before = contents(path)
    record_metrics(path, {"BSD100": {"psnr_y": 26.0}})
    _, after = contents(path)
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert after[name].dtype is tensor.dtype
        assert torch.equal(after[name], tensor)


def test_measurements_are_not_recorded_in_a_file_that_is_wrong(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])
    before = path.read_bytes()
    with pytest.raises(WeightsError):
        record_metrics(path, {})
    assert path.read_bytes() == before


def test_a_weight_file_can_be_read_by_the_user_that_serves_it(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    write_checkpoint(path, random_net(), CARD, golden_input=textured(4, 4))
    assert path.stat().st_mode & 0o777 == 0o644
