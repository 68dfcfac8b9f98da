from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg19

from model.errors import WeightsError
from tests.training.random_features import random_features
from training import perceptual
from training.loss_config import VGG_LAYERS
from training.perceptual import VGGFeatures, load_vgg, perceptual_loss

CPU = torch.device("cpu")
TORCHVISION_MEAN, TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN_OF_255 = (123.68, 116.779, 103.939)


@pytest.fixture(scope="module")
def features() -> nn.Sequential:
    """torchvision's own VGG19 up to conv5_4 without its activation, with random weights."""
    with torch.device("meta"):
        layers = vgg19(weights=None).features[:35]
    return random_features(layers, std=0.1)


@pytest.fixture(scope="module")
def weights(features: nn.Sequential) -> dict[str, Tensor]:
    """Return the weights of `features` under torchvision's names, and one of the classifier, as files have it."""
    return {f"features.{name}": weight for name, weight in features.state_dict().items()} | {
        "classifier.6.bias": torch.zeros(1000)
    }


@pytest.fixture(scope="module")
def weight_file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def vgg(weight_file: Path) -> VGGFeatures:
    return load_vgg(weight_file, CPU)


def picture(seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(seed))


def normalised(rgb: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (rgb - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def places_of_convolutions(features: nn.Sequential) -> dict[str, int]:
    """Their indices by the names of VGG19's authors: convI_J is the J-th convolution of block I."""
    places: dict[str, int] = {}
    block, number = 1, 0
    for index, layer in enumerate(features):
        if isinstance(layer, nn.MaxPool2d):
            block, number = block + 1, 0
        elif isinstance(layer, nn.Conv2d):
            number += 1
            places[f"conv{block}_{number}"] = index
    return places


def one_layer(net: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    return lambda pictures: [net(pictures)]


def two_layers(pictures: Tensor) -> list[Tensor]:
    return [2 * pictures, -4 * pictures[:, :1]]


def test_the_features_are_conv5_4_of_torchvisions_vgg19(vgg: VGGFeatures, features: nn.Sequential) -> None:
    expected = features(normalised(picture(), TORCHVISION_MEAN, TORCHVISION_STD))
    assert expected.shape == (1, 512, 2, 3)
    torch.testing.assert_close(vgg(picture()), [expected], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [VGG_LAYERS, ("conv2_2", "conv4_4"), ("conv1_2",)])
def test_the_features_of_several_layers_are_torchvisions_before_their_activation(
    layers: tuple[str, ...], weight_file: Path, features: nn.Sequential
) -> None:
    places = places_of_convolutions(features)
    rows = normalised(picture(), TORCHVISION_MEAN, TORCHVISION_STD)
    expected = [features[: places[name] + 1](rows) for name in layers]
    assert all((one < 0).any() for one in expected)
    torch.testing.assert_close(load_vgg(weight_file, CPU, layers)(picture()), expected, rtol=1e-4, atol=1e-4)


def test_the_layers_to_choose_from_are_the_last_ones_of_each_block(features: nn.Sequential) -> None:
    last = {name.split("_")[0]: name for name in places_of_convolutions(features)}
    assert tuple(last.values()) == VGG_LAYERS


def test_weights_of_deeper_layers_are_not_needed(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "shallow.safetensors"
    save_file({name: weights[name] for name in weights if name.startswith(("features.0.", "features.2."))}, path)
    assert len(load_vgg(path, CPU, ("conv1_2",)).features) == 3


def test_the_features_are_those_before_the_activation(vgg: VGGFeatures) -> None:
    assert 0.2 < (vgg(picture())[0] < 0).float().mean() < 0.8


def test_a_picture_of_16_px_is_the_smallest(vgg: VGGFeatures) -> None:
    assert vgg(picture()[..., :16, :16])[0].shape == (1, 512, 1, 1)


def test_nothing_of_the_network_is_trained(vgg: VGGFeatures) -> None:
    assert not any(weight.requires_grad for weight in vgg.parameters())
    assert not any(layer.training for layer in vgg.features.modules())


def test_original_weights_get_the_normalisation_of_caffe(
    weights: dict[str, Tensor], features: nn.Sequential, tmp_path: Path
) -> None:
    path = tmp_path / "original.safetensors"
    save_file(weights, path, metadata={"source": "converted from the authors' Caffe model"})
    expected = features(normalised(255 * picture(), CAFFE_MEAN_OF_255, (255.0, 255.0, 255.0)))
    torch.testing.assert_close(load_vgg(path, CPU)(picture()), [expected], rtol=1e-4, atol=1e-4)


def test_a_pth_file_of_half_precision_is_computed_in_float32(vgg: VGGFeatures, tmp_path: Path) -> None:
    path = tmp_path / "vgg19.pth"
    torch.save({name: weight.half() for name, weight in vgg.state_dict().items()}, path)
    loaded = load_vgg(path, CPU)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(picture()), vgg(picture()), rtol=0.05, atol=0.05)


def test_without_a_file_torchvisions_weights_are_taken(
    vgg: VGGFeatures, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def downloaded(member: VGG19_Weights, **_: Any) -> dict[str, Tensor]:
        assert member is VGG19_Weights.IMAGENET1K_V1
        return weights

    monkeypatch.setattr(VGG19_Weights, "get_state_dict", downloaded)
    torch.testing.assert_close(load_vgg(None, CPU)(picture()), vgg(picture()), rtol=0, atol=0)


@pytest.mark.parametrize("failure", [URLError("no network"), RuntimeError("invalid hash value")])
def test_a_failed_download_names_the_option(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(VGG19_Weights, "get_state_dict", offline)
    with pytest.raises(WeightsError, match=r"(no network|invalid hash).*--vgg-weights"):
        load_vgg(None, CPU)


@pytest.mark.parametrize("name", ["vgg19.pth", "vgg19.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", None], ids=["empty", "text", "missing"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} (is a text|ends early|is empty|cannot be read)"):
        load_vgg(path, CPU)


@pytest.mark.parametrize(
    "content",
    [
        {"features.0.weight": torch.zeros(1)},
        {"features.first.weight": torch.zeros(1)},
        {"features.0.weight": "text"},
        {7: torch.zeros(1)},
        {},
        [1, 2],
    ],
)
def test_a_file_with_something_else_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other.pth does not hold VGG19"):
        load_vgg(tmp_path / "other.pth", CPU)


def test_the_loss_is_the_mean_absolute_difference_of_the_features_times_the_scale() -> None:
    net = nn.Conv2d(3, 1, 1)
    nn.init.constant_(net.weight, 2.0)
    upscaled, high_res = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    upscaled[0, 1, 0, 0], high_res[0, 2, 0, 1] = 0.5, 0.1  # features differ by 1.0 in one pixel, by -0.2 in the other
    assert perceptual_loss(one_layer(net), upscaled, high_res).item() == pytest.approx(0.6)
    assert perceptual_loss(one_layer(net), upscaled, high_res, feature_scale=0.05).item() == pytest.approx(0.03)


def one_red_value_apart() -> tuple[Tensor, Tensor]:
    """Two pictures whose `two_layers` differ by 0.6 / 6 = 0.1 and by 1.2 / 2 = 0.6; the second's have sizes 1 and 2."""
    upscaled, high_res = torch.full((1, 3, 1, 2), 0.5), torch.full((1, 3, 1, 2), 0.5)
    upscaled[0, 0, 0, 1] = 0.2
    return upscaled, high_res


def test_the_losses_of_several_layers_are_added_up() -> None:
    assert perceptual_loss(two_layers, *one_red_value_apart()).item() == pytest.approx(0.1 + 0.6)
    assert perceptual_loss(two_layers, *one_red_value_apart(), feature_scale=0.05).item() == pytest.approx(
        0.05 * (0.1 + 0.6)
    )


def test_a_layer_counts_by_its_weight() -> None:
    loss = perceptual_loss(two_layers, *one_red_value_apart(), weights=(0.5, 2.0), feature_scale="relative")
    assert loss.item() == pytest.approx(0.5 * 0.1 / 1 + 2.0 * 0.6 / 2)


def test_with_relative_scales_each_layer_counts_relative_to_its_size_in_the_high_res_picture() -> None:
    assert perceptual_loss(two_layers, *one_red_value_apart(), feature_scale="relative").item() == pytest.approx(
        0.1 / 1 + 0.6 / 2
    )


def test_the_size_of_a_layer_is_its_mean_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "mean_over_processes", lambda size: (size + 3) / 2)  # the other process: 3 and 3
    assert perceptual_loss(two_layers, *one_red_value_apart(), feature_scale="relative").item() == pytest.approx(
        0.1 / 2 + 0.6 / 2.5
    )


@pytest.mark.parametrize("feature_scale", [1.0, "relative"])
def test_the_gradient_flows_into_the_upscaled_picture_alone(
    vgg: VGGFeatures, feature_scale: float | Literal["relative"]
) -> None:
    upscaled, high_res = picture(1).requires_grad_(), picture(2).requires_grad_()
    perceptual_loss(vgg, upscaled, high_res, feature_scale=feature_scale).backward()
    assert upscaled.grad is not None
    assert upscaled.grad.abs().sum() > 0
    assert high_res.grad is None
    assert all(weight.grad is None for weight in vgg.parameters())


def test_features_of_bfloat16_are_compared_in_float32() -> None:
    net = nn.Conv2d(3, 4, 1).bfloat16().requires_grad_(False)
    upscaled, high_res = picture(1).bfloat16(), picture(2).bfloat16()
    loss = perceptual_loss(one_layer(net), upscaled, high_res)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, (net(upscaled).float() - net(high_res).float()).abs().mean())
