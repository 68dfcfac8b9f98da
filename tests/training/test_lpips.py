from pathlib import Path
from urllib.error import URLError

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import AlexNet, AlexNet_Weights

from model.errors import WeightsError
from tests.model.examples import textured
from tests.training.random_features import random_features
from training.degrade import enlarge_bicubic
from training.evaluate import pairs_to_measure
from training.lpips import LINEAR, LPIPS, load_lpips


@pytest.fixture(scope="module")
def alexnet() -> nn.Sequential:
    """The features of torchvision's own AlexNet, with random weights."""
    with torch.device("meta"):  # its classifier alone would take 235 MB
        features = AlexNet().features
    return random_features(features, std=0.2)


@pytest.fixture(scope="module")
def alexnet_file(alexnet: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.safetensors"
    save_file({f"features.{name}": weight for name, weight in alexnet.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def lpips(alexnet_file: Path) -> LPIPS:
    return load_lpips(alexnet_file)


@pytest.fixture(scope="module")
def real_lpips(shared_folder: Path) -> LPIPS:
    path = shared_folder / "weights" / "alexnet_features.safetensors"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return load_lpips(path)


def by_the_paper(alexnet: nn.Sequential, picture: Tensor, reference: Tensor) -> float:
    """Equation 1, one layer after the other in float64 numpy."""
    mean, deviation = numpy.array([-0.030, -0.088, -0.188]), numpy.array([0.458, 0.448, 0.450])
    stacks = [
        ((image.numpy().transpose(1, 2, 0) / 255 * 2 - 1 - mean) / deviation).transpose(2, 0, 1).astype(numpy.float32)
        for image in (picture, reference)
    ]
    values = torch.from_numpy(numpy.stack(stacks))
    linear = iter(sorted(load_file(LINEAR).items()))
    total = 0.0
    for layer in alexnet:
        values = layer(values)
        if isinstance(layer, nn.ReLU):
            features = values.double().numpy()
            a, b = features / numpy.sqrt((features**2).sum(axis=1, keepdims=True))
            total += float(numpy.tensordot(next(linear)[1].numpy(), (a - b) ** 2, axes=1).mean())
    assert next(linear, None) is None
    return total


def test_the_distance_is_that_of_the_paper_over_torchvisions_alexnet(lpips: LPIPS, alexnet: nn.Sequential) -> None:
    picture, reference = textured(64, 75, seed=1), textured(64, 75, seed=2)
    expected = by_the_paper(alexnet, picture, reference)
    assert expected > 0.01
    assert lpips.distance(picture, reference) == pytest.approx(expected, rel=1e-4)


def test_the_distance_of_a_picture_to_itself_is_zero(lpips: LPIPS) -> None:
    assert lpips.distance(textured(40, 40), textured(40, 40)) == 0


def test_the_distance_is_the_same_in_both_directions(lpips: LPIPS) -> None:
    picture, reference = textured(40, 40, seed=1), textured(40, 40, seed=2)
    assert lpips.distance(picture, reference) == pytest.approx(lpips.distance(reference, picture))


def test_the_border_counts(lpips: LPIPS) -> None:
    reference = textured(64, 64)
    picture = reference.clone()
    picture[:, 0] = 255
    assert lpips.distance(picture, reference) > 0


def test_nothing_of_it_is_trained(lpips: LPIPS) -> None:
    assert not lpips.training
    assert {weight.dtype for weight in lpips.state_dict().values()} == {torch.float32}
    assert not any(weight.requires_grad for weight in lpips.parameters())


def test_the_linear_layers_are_the_published_ones() -> None:
    linear = load_file(LINEAR)
    assert [len(linear[f"linear.{layer}"]) for layer in range(5)] == [64, 192, 384, 256, 256]
    assert all((weights >= 0).all() for weights in linear.values())
    sums = [float(linear[f"linear.{layer}"].double().sum()) for layer in range(5)]
    assert sums == pytest.approx([2.3495, 16.1430, 39.2684, 27.1972, 20.3172], abs=1e-3)


def test_pictures_of_different_sizes_are_not_compared(lpips: LPIPS) -> None:
    with pytest.raises(ValueError, match=r"cannot compare \(3, 40, 40\) with \(3, 40, 41\)"):
        lpips.distance(textured(40, 40), textured(40, 41))


def test_the_smallest_picture_has_31_px_a_side(lpips: LPIPS) -> None:
    assert lpips.distance(textured(31, 31, seed=1), textured(31, 31, seed=2)) > 0
    with pytest.raises(ValueError, match="at least 31 x 31 px, and the picture has 40 x 30"):
        lpips.distance(textured(30, 40), textured(30, 40))


def test_a_pth_file_with_its_classifier_does_as_well(lpips: LPIPS, alexnet_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "alexnet.pth"
    torch.save(load_file(alexnet_file) | {"classifier.1.weight": torch.zeros(2, 3)}, path)
    picture, reference = textured(40, 40, seed=1), textured(40, 40, seed=2)
    assert load_lpips(path).distance(picture, reference) == lpips.distance(picture, reference)


@pytest.mark.parametrize("name", ["alexnet.pth", "alexnet.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", None], ids=["empty", "text", "missing"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} (is a text|ends early|is empty|cannot be read)"):
        load_lpips(path)


@pytest.mark.parametrize("weights", [{"features.0.weight": torch.zeros(1)}, {7: torch.zeros(1)}, {}, [1, 2]])
def test_weights_of_another_network_are_refused(tmp_path: Path, weights: object) -> None:
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other.pth does not hold the features of torchvision's AlexNet"):
        load_lpips(tmp_path / "other.pth")


def test_without_a_network_the_error_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(AlexNet_Weights, "get_state_dict", offline)
    with pytest.raises(WeightsError, match=r"no network.*--alexnet-weights FILE"):
        load_lpips(None)


@pytest.mark.parametrize(("height", "width", "distance"), [(64, 64, 0.183290), (71, 90, 0.260861)])
def test_the_distance_is_that_of_the_authors_package(
    real_lpips: LPIPS, height: int, width: int, distance: float
) -> None:
    # Result of the package lpips 0.1.4 for these two pictures, with the same AlexNet.
    pictures = textured(height, width, seed=1), textured(height, width, seed=2)
    assert real_lpips.distance(*pictures) == pytest.approx(distance, abs=1e-4)


def test_the_distance_of_bicubic_on_set5_is_that_of_the_authors_package(real_lpips: LPIPS, shared_folder: Path) -> None:
    pairs = list(pairs_to_measure(shared_folder / "bench" / "Set5", 4))
    distances = [real_lpips.distance(enlarge_bicubic(pair.low_res, 4), pair.high_res) for pair in pairs]
    assert sum(distances) / 5 == pytest.approx(0.340, abs=0.002)
