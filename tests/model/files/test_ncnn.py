"""ncnn pairs: networks match their graph, or are refused."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.errors import WeightsError
from model.export.ncnn_pair import write_generator
from model.files.ncnn import read_graph, refuse_other_graph
from model.files.reading import read, sha256_of
from model.rrdb import RRDBConfig, RRDBNet
from tests.model.examples import TINY, random_net

Edit = Callable[[str], str]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    return write_generator(random_net(), tmp_path)[0]


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_pair_comes_back_as_the_network_that_was_written(scale: int, blocks: int, tmp_path: Path) -> None:
    config = replace(TINY, scale=scale, blocks=blocks)
    net = read(write_generator(random_net(config), tmp_path)[0]).net
    assert net.config == config
    written = random_net(config).state_dict()
    assert all(torch.equal(weight, written[name]) for name, weight in net.state_dict().items())


def test_an_enlargement_by_three_is_read_off_the_graph(tmp_path: Path) -> None:
    param, _ = write_generator(random_net(replace(TINY, scale=2)), tmp_path)
    param.write_text(param.read_text().replace("1=2.0 2=2.0", "1=3.0 2=3.0"))
    net = read(param).net
    assert net.config.scale == 3
    assert net(torch.rand(1, 3, 4, 5)).shape == (1, 3, 12, 15)


def grown_by_three(net: RRDBNet, picture: Tensor) -> Tensor:
    features = net.conv_first(picture)
    features = features + net.conv_body(net.body(features))
    features = functional.leaky_relu(net.upsampling[0](functional.interpolate(features, scale_factor=3)), 0.2)
    made: Tensor = net.conv_last(functional.leaky_relu(net.conv_hr(features), 0.2))
    return made


def test_a_network_of_scale_three_enlarges_by_three_before_one_convolution() -> None:
    net, picture = random_net(RRDBConfig(channels=4, blocks=1, growth=2, scale=3)), torch.rand(1, 3, 4, 5)
    assert (net(picture) - grown_by_three(net, picture)).abs().max() < 1e-5


def test_the_hash_of_a_pair_tells_changes_of_either_file(pair: Path) -> None:
    before = sha256_of(pair)
    weights = pair.with_suffix(".bin").read_bytes()
    pair.with_suffix(".bin").write_bytes(weights[:-1] + b"\x01")
    changed = sha256_of(pair)
    pair.with_suffix(".bin").write_bytes(weights)
    pair.write_text(pair.read_text() + "\n")
    assert len({before, changed, sha256_of(pair)}) == 3


def replacing(old: str, new: str, count: int = -1) -> Edit:
    return lambda text: text.replace(old, new, count)


REFUSALS: dict[str, tuple[Edit, str]] = {
    "another slope": (replacing("-23310=1,0.2", "-23310=1,0.1"), "does something else with them"),
    "another slope in one place": (replacing("-23310=1,0.2", "-23310=1,0.3", 1), "does something else with them"),
    "another residual": (replacing("-23301=2,1.0,0.2", "-23301=2,1.0,0.3", 1), "does something else with them"),
    "a product for a sum": (replacing("0=1 -23301", "0=0 -23301", 1), "an Eltwise that is not a sum"),
    "bilinear": (replacing("0=1 1=2.0", "0=2 1=2.0", 1), "an Interp that is not nearest"),
    "a foreign layer": (replacing("Concat ", "Softmax ", 1), "it has a layer 'Softmax'"),
    "another format": (replacing("7767517", "7767518"), "its first line is not 7767517"),
    "a line too few": (lambda text: text.rstrip().rpartition("\n")[0], "it announces"),
    "a stride": (replacing("1=3 4=1", "1=3 3=2 4=1", 1), "is not 3x3 with stride 1"),
    "a larger kernel": (replacing("1=3 4=1", "1=5 4=2", 1), "is not 3x3"),
    "more weights than there are": (replacing("6=144", "6=144000"), "is not a readable ncnn network"),
    "nothing": (lambda _: "", "is empty; download it again"),
    "an input that nobody made": (replacing(" t37 t38", " nothing t38"), "does not fit together"),
}


@pytest.mark.parametrize(("edit", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_graph_that_is_not_that_of_a_generator_is_refused(edit: Edit, reason: str, pair: Path) -> None:
    before = pair.read_text()
    pair.write_text(edit(before))
    assert pair.read_text() != before
    with pytest.raises(WeightsError, match=rf"generator\.param.*{reason}"):
        read(pair)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: data[:-4], "is not a readable ncnn network"),
        (lambda data: data + b"\x00" * 4, r"its weights take \d+ bytes; the \.bin has \d+"),
        (lambda data: b"\x38\x4b\x0d\x00" + data[4:], "quantised weights cannot be read"),
        (lambda data: data[:4] + b"\x00\x00\xc0\x7f" + data[8:], "holds NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_the_graph_are_refused(
    spoil: Callable[[bytes], bytes], reason: str, pair: Path
) -> None:
    weights = pair.with_suffix(".bin")
    weights.write_bytes(spoil(weights.read_bytes()))
    with pytest.raises(WeightsError, match=rf"generator\.param.*{reason}"):
        read(pair)


@pytest.mark.parametrize("missing", [".param", ".bin"])
def test_half_a_pair_is_refused_by_what_it_needs(missing: str, pair: Path) -> None:
    pair.with_suffix(missing).unlink()
    with pytest.raises(WeightsError, match=r"needs generator\.param and generator\.bin side by side"):
        read(pair)


def with_layers(text: str, layers: Sequence[str]) -> str:
    """Add layers that begin with `made0`, a copy of the picture, and whose results are not used."""
    magic, _, first, *rest = text.splitlines()
    added = ["Split copy 1 1 data made0", *layers]
    return "\n".join([magic, f"{1 + len(added) + len(rest)} 1", first, *added, *rest])


JOIN = f"Concat join 4000 1{' made0' * 4000} made1"
COSTLY = {
    "channels that double": [f"Concat join{i} 2 1 made{i} made{i} made{i + 1}" for i in range(60)],
    "channels that are kept": [JOIN, *(f"ReLU keep{i} 1 1 made{i} made{i + 1}" for i in range(1, 300))],
    "sides that grow": [f"Interp grow{i} 1 1 made{i} made{i + 1} 0=1 1=4.0 2=4.0" for i in range(8)],
    "borders that grow": [f"Padding pad{i} 1 1 made{i} made{i + 1} 0=1 1=1 2=1 3=1 4=1" for i in range(200)],
    "a sum of many": [f"Eltwise sum 60000 1{' made0' * 60000} made1 0=1"],
}


@pytest.mark.parametrize("layers", COSTLY.values(), ids=COSTLY.keys())
def test_layers_that_make_more_than_a_generator_are_refused_before_they_do(layers: Sequence[str], pair: Path) -> None:
    param = with_layers(pair.read_text(), layers).encode()
    graph = read_graph(pair, param, pair.with_suffix(".bin").read_bytes())
    with pytest.raises(WeightsError, match="layers that make more than 4223104 numbers, too many for 3600 weights"):
        refuse_other_graph(graph, random_net())


def test_layers_whose_results_are_not_used_are_allowed(pair: Path) -> None:
    pair.write_text(with_layers(pair.read_text(), [JOIN, "ReLU keep 1 1 made1 made2"]))
    assert read(pair).net.config == TINY
