"""Published files of any layout: the network that is read computes the same as the published one."""

import math
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict
from unittest.mock import Mock

import numpy
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from model.errors import WeightsError
from model.files.checkpoint import FORMAT, Card, reference_output, write_checkpoint
from model.files.pickled import SIZES
from model.files.reading import golden_picture, model_name, read
from model.reliable import load
from model.rrdb import PADDING_MODES, PaddingMode, RRDBConfig, RRDBNet
from model.streaming import upscale_rows
from tests.model.examples import random_net
from tests.model.published import FIRST_RELEASE, NEW, NamedGenerator, OldGenerator, prefixed, randomised

CPU = torch.device("cpu")


class Sizes(TypedDict):
    channels: int
    blocks: int
    growth: int


SMALL: Sizes = {"channels": 6, "blocks": 2, "growth": 3}
Wrap = Callable[[dict[str, Tensor]], object]

WRAPPINGS: dict[str, Wrap] = {
    "bare": lambda tensors: tensors,
    "params": lambda tensors: {"params": tensors},
    "params_ema": lambda tensors: {"params_ema": tensors},
    "module.": lambda tensors: prefixed(tensors, "module."),
    "state_dict with generator.": lambda tensors: {"state_dict": prefixed(tensors, "generator."), "epoch": 3},
    "model_state_dict": lambda tensors: {"model_state_dict": tensors, "optimizer": {"state": {0: torch.zeros(3)}}},
    "netG.module.": lambda tensors: {"model": prefixed(tensors, "netG.module.")},
    "with a discriminator": lambda tensors: {"net_g": tensors, "net_d": {"conv0.weight": torch.zeros(3)}},
    "with its average": lambda tensors: {"params": prefixed(zeroed(tensors), ""), "params_ema": tensors},
}


def zeroed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(one) for name, one in tensors.items()}


def picture(height: int, width: int, channels: int = 3) -> Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(height * 100 + width))


def saved(net: nn.Module, path: Path, wrap: Wrap = WRAPPINGS["bare"]) -> Path:
    torch.save(wrap(net.state_dict()), path)
    return path


def assert_same(made: Tensor, expected: Tensor) -> None:
    assert made.shape == expected.shape
    assert (made - expected).abs().max() <= 1e-4 * max(1, float(expected.abs().max()))


def published(dialect: str, scale: int, **sizes: int) -> nn.Module:
    if dialect == "old":
        return randomised(OldGenerator(scale=scale, **sizes))
    return randomised(NamedGenerator({"first release": FIRST_RELEASE, "new": NEW}[dialect], scale=scale, **sizes))


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("dialect", ["old", "first release", "new"])
def test_a_published_network_is_read_in_every_wrapping(dialect: str, wrapping: str, tmp_path: Path) -> None:
    net = published(dialect, 4, **SMALL)
    checkpoint = read(saved(net, tmp_path / "4x_net.pth", WRAPPINGS[wrapping]))
    assert checkpoint.net.config == RRDBConfig(scale=4, **SMALL)
    assert_same(checkpoint.net(picture(7, 5)), net(picture(7, 5)))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dialect=st.sampled_from(["old", "first release", "new"]),
    scale=st.sampled_from([1, 2, 4, 8]),
    channels=st.integers(1, 8),
    blocks=st.integers(1, 3),
    growth=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_any_sizes_come_back_from_the_weights_and_compute_the_same(
    dialect: str, scale: int, channels: int, blocks: int, growth: int, height: int, width: int, tmp_path: Path
) -> None:
    net = published(dialect, scale, channels=channels, blocks=blocks, growth=growth)
    checkpoint = read(saved(net, tmp_path / "net.pth"))
    assert checkpoint.net.config == RRDBConfig(channels=channels, blocks=blocks, growth=growth, scale=scale)
    assert_same(checkpoint.net(picture(height, width)), net(picture(height, width)))


@pytest.mark.parametrize(("scale", "unshuffle"), [(2, 2), (1, 4), (1, 2), (4, 2), (2, 4)])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (9, 6), (13, 11)])
def test_a_pixel_unshuffle_in_front_is_read_off_the_weights_and_odd_sizes_keep_theirs(
    scale: int, unshuffle: int, height: int, width: int, tmp_path: Path
) -> None:
    net = published("new", scale, unshuffle=unshuffle, **SMALL)
    checkpoint = read(saved(net, tmp_path / "x2plus.pth", WRAPPINGS["params_ema"]))
    assert checkpoint.net.config == RRDBConfig(scale=scale, unshuffle=unshuffle, **SMALL)
    made = checkpoint.net(picture(height, width))
    assert made.shape == (1, 3, scale * height, scale * width)
    assert_same(made, net(picture(height, width)))


def pixels(height: int, width: int, planes: int = 1) -> numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.uint8]]:
    return numpy.random.default_rng(0).integers(0, 256, (planes, height, width, 3), dtype=numpy.uint8)


NETWORKS = [
    RRDBConfig(scale=2, unshuffle=2, **SMALL),
    RRDBConfig(scale=1, unshuffle=4, **SMALL),
    RRDBConfig(scale=4, inputs=1, **SMALL),
    RRDBConfig(scale=2, inputs=1, unshuffle=2, **SMALL),
    RRDBConfig(scale=4, inputs=4, **SMALL),
    RRDBConfig(scale=2, inputs=4, unshuffle=2, **SMALL),
    RRDBConfig(scale=3, **SMALL),
]


@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_every_kind_of_network_streams_and_batches_to_what_it_makes_whole(config: RRDBConfig) -> None:
    from model.upscaler import Upscaler

    net = random_net(config)
    upscaler = Upscaler(random_net(config), CPU, torch.float32)
    pictures = [pixels(*size) for size in ((1, 1, 1), (3, 9, 2), (21, 10), (16, 8), (2, 3), (1, 7))]
    for one, batched in zip(pictures, upscaler.batch(pictures), strict=True):
        planes = torch.from_numpy(one).permute(0, 3, 1, 2)
        expected = torch.stack([reference_output(net, plane) for plane in planes]).permute(0, 2, 3, 1).numpy()
        streamed = numpy.concatenate(list(upscaler.stream(one, 3)), axis=1)
        for made in (batched, streamed):
            assert made.shape == expected.shape
            assert numpy.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("config", NETWORKS, ids=str)
def test_a_padded_batch_of_every_kind_of_network_keeps_pictures_apart(config: RRDBConfig) -> None:
    from model.streaming import upscale_batch

    net, side = random_net(config), 8
    batch = torch.zeros(2, 3, side, side)
    small = picture(4, 4)
    batch[0, :, :4, :4], batch[1] = small, picture(side, side)
    made = upscale_batch(net, batch, torch.tensor([[4, 4], [side, side]]))
    assert_same(made[:1, :, : 4 * config.scale, : 4 * config.scale], net(small))
    assert_same(made[1:], net(batch[1:]))


def test_a_grey_network_upscales_each_colour_as_a_grey_picture_of_its_own(tmp_path: Path) -> None:
    net = published("old", 2, inputs=1, outputs=1, **SMALL)
    checkpoint = read(saved(net, tmp_path / "grey.pth"))
    assert checkpoint.net.config.inputs == 1
    rgb = picture(6, 7)
    assert_same(checkpoint.net(rgb), torch.cat([net(rgb[:, colour : colour + 1]) for colour in range(3)], dim=1))


@pytest.mark.parametrize("outputs", [3, 4])
def test_a_network_of_four_inputs_sees_an_opaque_picture_and_its_colours_are_the_answer(
    outputs: int, tmp_path: Path
) -> None:
    net = published("new", 4, inputs=4, outputs=outputs, **SMALL)
    checkpoint = read(saved(net, tmp_path / "rgba.pth"))
    rgb = picture(6, 7)
    assert_same(checkpoint.net(rgb), net(torch.cat((rgb, torch.ones(1, 1, 6, 7)), dim=1))[:, :3])


def test_x3_looks_like_x2_and_is_read_if_the_scale_is_given(tmp_path: Path) -> None:
    net = published("old", 3, **SMALL)
    path = saved(net, tmp_path / "3x.pth")
    assert read(path).net.config.scale == 2
    assert_same(read(path, scale=3).net(picture(5, 6)), net(picture(5, 6)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_precision_are_computed_with_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    net = published("new", 2, **SMALL).to(dtype)
    assert_same(read(saved(net, tmp_path / "net.pth")).net(picture(5, 6)), net.float()(picture(5, 6)))


def test_convolutions_without_biases_are_read(tmp_path: Path) -> None:
    net = published("new", 2, **SMALL)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = None
    assert_same(read(saved(net, tmp_path / "net.pth")).net(picture(5, 6)), net(picture(5, 6)))


def test_a_foreign_safetensors_file_is_read(tmp_path: Path) -> None:
    net = published("old", 4, **SMALL)
    save_file(net.state_dict(), tmp_path / "net.safetensors", metadata={"format": "pt"})
    assert_same(read(tmp_path / "net.safetensors").net(picture(5, 6)), net(picture(5, 6)))


@pytest.mark.parametrize("ours", [True, False])
def test_a_safetensors_file_is_parsed_once(ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    if ours:
        card = Card(name="net", recipe="", steps=0, data="", metrics={}, created="2026-11-30")
        write_checkpoint(path, random_net(), card, golden_input=golden_picture())
    else:
        save_file(random_net().state_dict(), path)
    parse = Mock(side_effect=safetensors.torch.load)
    monkeypatch.setattr("model.files.tensor_files.load", parse)
    assert (read(path).format == FORMAT) is ours
    parse.assert_called_once()


def test_a_file_in_pytorchs_format_before_zip_is_read(tmp_path: Path) -> None:
    net = published("old", 4, **SMALL)
    torch.save(net.state_dict(), tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    assert_same(read(tmp_path / "net.pth").net(picture(5, 6)), net(picture(5, 6)))


def test_a_published_network_loads_tests_itself_and_upscales(tmp_path: Path) -> None:
    path = saved(published("new", 2, unshuffle=2, **SMALL), tmp_path / "2x my net (final).pth")
    upscaler, checkpoint = load(path, CPU)
    assert checkpoint.card.name == "2x-my-net-final"
    assert (upscaler.scale, len(checkpoint.sha256)) == (2, 64)
    assert upscaler.memory_bytes > 0
    assert upscaler.upscale(pixels(5, 7)).shape == (1, 10, 14, 3)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("4x-UltraSharp", "4x-UltraSharp"),
        ("x.pth", "x.pth"),
        ("4x Ü (2)", "4x-2"),
        ("...", "unnamed"),
        ("a" * 200, "a" * 100),
    ],
)
def test_a_foreign_file_serves_under_its_own_name(stem: str, name: str) -> None:
    assert model_name(Path(f"{stem}.pth")) == name


def test_the_golden_picture_is_a_picture() -> None:
    golden = golden_picture()
    assert golden.dtype is torch.uint8
    assert golden.float().std() > 40


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return (os.system, (f"touch {self.sprung}",))


def in_a_zip(path: Path, trap: Trap) -> None:
    torch.save({"params": random_net().state_dict(), "trap": trap}, path)


def in_the_old_format(path: Path, trap: Trap) -> None:
    torch.save({"params": random_net().state_dict(), "trap": trap}, path, _use_new_zipfile_serialization=False)


def as_a_bare_pickle(path: Path, trap: Trap) -> None:
    path.write_bytes(pickle.dumps(trap))


def in_a_zip_of_its_own(path: Path, trap: Trap) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(trap))
        archive.writestr("archive/version", "3")


def in_a_tar(path: Path, trap: Trap) -> None:
    inside = path.with_name("storages")
    inside.write_bytes(pickle.dumps(trap))
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.add(inside, name)


@pytest.mark.parametrize("write", [in_a_zip, in_the_old_format, as_a_bare_pickle, in_a_zip_of_its_own, in_a_tar])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors", ".param"])
def test_a_file_that_carries_code_is_refused_and_never_run(
    write: Callable[[Path, Trap], None], suffix: str, tmp_path: Path
) -> None:
    path, sprung = tmp_path / f"bomb{suffix}", tmp_path / "sprung"
    write(path, Trap(sprung))
    with pytest.raises(WeightsError, match="bomb"):
        read(path)
    assert not sprung.exists()


def test_a_whole_pickled_network_is_refused_by_the_name_of_its_class(tmp_path: Path) -> None:
    torch.save(published("new", 4, **SMALL), tmp_path / "module.pth")
    with pytest.raises(WeightsError, match=r"carries code or objects \(.*NamedGenerator.*save its state_dict"):
        read(tmp_path / "module.pth")


def without(name: str) -> Wrap:
    return lambda tensors: {key: one for key, one in tensors.items() if key != name}


def holding(name: str, one: Tensor) -> Wrap:
    return lambda tensors: tensors | {name: one}


def sharing(tensors: dict[str, Tensor]) -> object:
    """All weights from the same numbers."""
    numbers = torch.rand(max(one.numel() for one in tensors.values())).half()
    return {name: numbers[: one.numel()].view(one.shape) for name, one in tensors.items()}


REFUSALS: dict[str, tuple[Wrap, str]] = {
    "an empty dictionary": (lambda _: {}, "holds no network of ESRGAN's kind; its weights are nothing"),
    "a list": (lambda _: [1, 2], "holds no network of ESRGAN's kind"),
    "another network": (lambda _: {"conv1.weight": torch.zeros(3)}, "its weights are 'conv1.weight'"),
    "a missing weight": (without("conv_hr.weight"), r"conv_hr\.weight is missing"),
    "a missing bias": (without("conv_hr.bias"), r"conv_hr\.bias is missing"),
    "no first convolution": (without("conv_first.weight"), r"lacks conv_first\.weight"),
    "another shape": (holding("conv_body.weight", torch.zeros(6, 5, 3, 3)), r"conv_body\.weight is \(6, 5, 3, 3\)"),
    "a flat weight": (holding("conv_first.weight", torch.zeros(6)), r"conv_first\.weight of shape \(6,\)"),
    "NaN": (holding("conv_hr.bias", torch.full((6,), math.nan)), "holds NaN or infinity"),
    "infinity": (holding("conv_hr.bias", torch.full((6,), math.inf)), "holds NaN or infinity"),
    "integers": (holding("conv_hr.bias", torch.zeros(6, dtype=torch.int64)), "stored as torch.int64"),
    "a sparse weight": (holding("conv_hr.bias", torch.zeros(6).to_sparse()), "not a plain tensor"),
    "terabytes of one number": (holding("conv_hr.bias", torch.zeros(1).expand(10**12)), "larger than the whole file"),
    "a million blocks": (holding("body.999999.rdb1.conv1.weight", torch.zeros(3)), "1024 is the most"),
    "a thousand blocks by name": (holding("body.999.rdb1.conv1.weight", torch.zeros(3)), r"it has only 73 weights"),
    "weights that share numbers": (sharing, r"has \d+ bytes of weights in float32 that share 1944 bytes of the file"),
    "ESRGAN+": (holding("body.0.rdb1.conv1x1.weight", torch.zeros(3, 6, 1, 1)), r"is an ESRGAN\+ network"),
    "two colours": (holding("conv_first.weight", torch.zeros(6, 2, 3, 3)), "takes 2 channels and makes 3"),
    "two generators": (lambda tensors: {"a": tensors, "b": tensors.copy()}, "holds 2 generators, under 'a.', 'b.'"),
}


@pytest.mark.parametrize(("wrap", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_file_that_is_wrong_inside_is_refused_with_its_name_and_the_reason(
    wrap: Wrap, reason: str, tmp_path: Path
) -> None:
    path = saved(published("new", 4, **SMALL), tmp_path / "wrong.pth", wrap)
    with pytest.raises(WeightsError, match=rf"wrong\.pth:? .*{reason}"):
        read(path)


def renamed(number: int, words: str = "layers.{}.") -> Wrap:
    """All convolutions under unknown names, in the order of the network; `number` of them are wrong."""

    def wrap(tensors: dict[str, Tensor]) -> object:
        stems = list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))
        places = list(range(len(stems)))
        places[1 : 1 + number] = reversed(places[1 : 1 + number])
        return {
            words.format(place) + kind: tensors[f"{stems[place]}.{kind}"]
            for place in places
            for kind in ("weight", "bias")
        }

    return wrap


@pytest.mark.parametrize("dialect", ["old", "first release", "new"])
@pytest.mark.parametrize("wrapping", ["bare", "params_ema", "with its average"])
def test_a_generator_under_other_names_is_known_by_the_order_and_shapes_of_its_weights(
    dialect: str, wrapping: str, tmp_path: Path
) -> None:
    net = published(dialect, 4, **SMALL)
    path = saved(net, tmp_path / "net.pth", lambda tensors: WRAPPINGS[wrapping](renamed(0)(tensors)))  # type: ignore[arg-type]
    checkpoint = read(path)
    assert checkpoint.net.config == RRDBConfig(scale=4, **SMALL)
    assert checkpoint.format == "ESRGAN's convolutions under other names, .pth"
    assert_same(checkpoint.net(picture(7, 5)), net(picture(7, 5)))


def test_weights_under_other_names_in_another_order_are_not_guessed_at(tmp_path: Path) -> None:
    path = saved(published("new", 4, **SMALL), tmp_path / "net.pth", renamed(2))
    with pytest.raises(WeightsError, match=r"net\.pth holds no network of ESRGAN's kind"):
        read(path)


def test_blocks_sorted_as_texts_are_not_taken_for_their_order(tmp_path: Path) -> None:
    net = published("new", 4, channels=2, blocks=11, growth=1)
    names = {name: name.replace("body.", "trunk.").replace("rdb", "dense") for name in net.state_dict()}
    inside = {new: net.state_dict()[old] for old, new in names.items()}
    trunk = sorted(name for name in inside if name.startswith("trunk."))
    order = ["conv_first.weight", "conv_first.bias", *trunk, *(name for name in inside if name not in trunk)]
    torch.save({name: inside[name] for name in dict.fromkeys(order)}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="holds no network of ESRGAN's kind"):
        read(tmp_path / "net.pth")


def test_other_names_in_a_file_without_order_are_not_guessed_at(tmp_path: Path) -> None:
    tensors = renamed(0)(published("new", 4, **SMALL).state_dict())
    save_file(tensors, tmp_path / "net.safetensors")  # type: ignore[arg-type]  # it is a dictionary
    with pytest.raises(WeightsError, match="holds no network of ESRGAN's kind"):
        read(tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", ["net.pth.tar", "net.bin", "net.pkl", "net.safetensors", "NET.PT"])
def test_what_a_file_is_does_not_depend_on_its_suffix(name: str, tmp_path: Path) -> None:
    net = published("new", 4, **SMALL)
    assert_same(read(saved(net, tmp_path / name)).net(picture(5, 6)), net(picture(5, 6)))


def test_a_safetensors_file_under_another_suffix_is_read(tmp_path: Path) -> None:
    net = published("new", 4, **SMALL)
    save_file(net.state_dict(), tmp_path / "net.pth")
    assert_same(read(tmp_path / "net.pth").net(picture(5, 6)), net(picture(5, 6)))


def test_a_network_that_contains_itself_is_refused(tmp_path: Path) -> None:
    loop: dict[str, object] = {}
    loop["again"] = loop
    torch.save(loop, tmp_path / "loop.pth")
    with pytest.raises(WeightsError, match="holds no network"):
        read(tmp_path / "loop.pth")


@pytest.mark.parametrize("kept", [0, 0.0005, 0.005, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_refused(kept: float, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    torch.save(published("old", 4, **SMALL).state_dict(), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(WeightsError, match=r"cut\.pth"):
        read(path)


def test_a_compressed_file_that_unpacks_to_more_than_it_has_is_refused(tmp_path: Path) -> None:
    torch.save({"params": {"weight": torch.zeros(10**6)}}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with pytest.raises(WeightsError, match=r"bomb\.pth unpacks to more than its \d+ bytes"):
        read(tmp_path / "bomb.pth")


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors", "absent.param", "absent.onnx", "absent"])
def test_an_absent_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="absent"):
        read(tmp_path / name)


def test_a_stream_of_an_unshuffling_network_takes_bands_of_whole_squares() -> None:
    net = random_net(RRDBConfig(scale=2, unshuffle=2, **SMALL))
    one = picture(24, 6)
    for rows in (2, 4, 10, 24):
        assert_same(torch.cat(list(upscale_rows(net, one.split(rows, dim=2), band_rows=rows)), dim=2), net(one))


# States of our own training runs


def state_of_a_run(config: RRDBConfig, path: Path) -> RRDBNet:
    """Write a file with the layout of a run's `state.pt`; returns the moving average in it."""
    raw, average = random_net(config, seed=1), random_net(config, seed=2)
    steps = {
        "done": 3,
        "generator": {"net": raw.state_dict(), "optimisers": [{"state": {0: {"exp_avg": torch.zeros(3)}}}]},
        "average": average.state_dict(),
        "discriminator": {"net": {"first.weight": torch.zeros(3, 3)}},
    }
    sizes = {"scale": config.scale, "padding_mode": config.padding_mode}
    torch.save({"config": "{}", "steps": steps, SIZES: sizes}, path)
    return average


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
def test_the_state_of_a_run_serves_as_the_moving_average_with_its_padding(
    scale: int, padding_mode: PaddingMode, tmp_path: Path
) -> None:
    config = RRDBConfig(channels=4, blocks=1, growth=2, scale=scale, padding_mode=padding_mode)
    average = state_of_a_run(config, tmp_path / "state.pt")
    read_back = read(tmp_path / "state.pt").net
    assert read_back.config == config
    assert_same(read_back(picture(9, 12)), average(picture(9, 12)))


def test_a_state_with_a_padding_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    sizes = {"scale": 2, "padding_mode": "circular"}
    torch.save({"net": random_net().state_dict(), SIZES: sizes}, tmp_path / "state.pt")
    with pytest.raises(WeightsError, match="padding_mode is 'circular'; it must be one of"):
        read(tmp_path / "state.pt")
