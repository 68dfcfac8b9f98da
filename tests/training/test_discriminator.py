from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.config import DiscriminatorConfig, OptimiserConfig
from training.discriminator import UNetDiscriminator, VGGDiscriminator, new_discriminator

VGG = DiscriminatorConfig(kind="vgg", channels=2, optimiser=OptimiserConfig(learning_rate=1e-4))
UNET = DiscriminatorConfig(kind="unet", channels=4, optimiser=OptimiserConfig(learning_rate=1e-4))


def pictures(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [conv for conv in net.modules() if isinstance(conv, nn.Conv2d)]


def shapes(net: nn.Module) -> list[tuple[int, int, int, int, bool]]:
    """Channels in, channels out, kernel, stride and whether there is a bias, of each convolution in order."""
    return [
        (conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0], conv.bias is not None)
        for conv in convolutions(net)
    ]


def largest_singular_value(conv: nn.Conv2d) -> float:
    return float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), ord=2))


def without_power_iteration(config: DiscriminatorConfig) -> nn.Module:
    return new_discriminator(config, seed=0).eval().requires_grad_(False)


def test_the_vgg_discriminator_gives_one_verdict_on_a_picture() -> None:
    assert new_discriminator(VGG, seed=0)(pictures(3, 128, 128)).shape == (3, 1)


def test_the_unet_discriminator_gives_one_verdict_on_each_pixel() -> None:
    assert new_discriminator(UNET, seed=0)(pictures(2, 16, 24)).shape == (2, 1, 16, 24)


def test_the_vgg_discriminator_has_the_convolutions_of_the_published_one() -> None:
    first, *rest = shapes(VGGDiscriminator())
    assert first == (3, 64, 3, 1, True)
    assert rest == [
        (64, 64, 4, 2, False),
        *((64, 128, 3, 1, False), (128, 128, 4, 2, False)),
        *((128, 256, 3, 1, False), (256, 256, 4, 2, False)),
        *((256, 512, 3, 1, False), (512, 512, 4, 2, False)),
        *((512, 512, 3, 1, False), (512, 512, 4, 2, False)),
    ]


def test_the_vgg_discriminator_is_as_large_as_the_published_one() -> None:
    widths = (64, 128, 256, 512, 512)
    convolutions = 3 * 3 * 3 * 64 + 64 + 4 * 4 * 64 * 64
    convolutions += sum(3 * 3 * before * width + 4 * 4 * width * width for before, width in pairwise(widths))
    normalisations = 2 * (64 + 2 * (128 + 256 + 512 + 512))  # a factor and a bias for each channel
    linear = 512 * 4 * 4 * 100 + 100 + 100 + 1
    assert convolutions + normalisations + linear == 14_499_401
    assert sum(weight.numel() for weight in VGGDiscriminator().parameters()) == 14_499_401


def test_the_vgg_discriminator_computes_what_the_published_one_does() -> None:
    net = without_power_iteration(VGG)
    first, *rest = convolutions(net)
    norms = [norm for norm in net.modules() if isinstance(norm, nn.BatchNorm2d)]
    hidden, verdict = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    for number, norm in enumerate(norms):  # at first every factor is 1 and every bias 0
        nn.init.constant_(norm.weight, 1 + 0.1 * number)
        nn.init.constant_(norm.bias, -0.1 * number)
    batch = pictures(2, 128, 128)
    features = functional.leaky_relu(first(batch), 0.2)
    for conv, norm in zip(rest, norms, strict=True):
        normalised = functional.batch_norm(conv(features), None, None, norm.weight, norm.bias, training=True)
        features = functional.leaky_relu(normalised, 0.2)
    expected = verdict(functional.leaky_relu(hidden(features.flatten(1)), 0.2))
    torch.testing.assert_close(net(batch), expected)


def test_the_unet_discriminator_has_the_convolutions_of_the_published_one() -> None:
    assert shapes(UNetDiscriminator()) == [
        (3, 64, 3, 1, True),
        *((64, 128, 4, 2, False), (128, 256, 4, 2, False), (256, 512, 4, 2, False)),
        *((512, 256, 3, 1, False), (256, 128, 3, 1, False), (128, 64, 3, 1, False)),
        *((64, 64, 3, 1, False), (64, 64, 3, 1, False)),
        (64, 1, 3, 1, True),
    ]


def test_the_unet_discriminator_is_as_large_as_the_published_one() -> None:
    assert sum(weight.numel() for weight in UNetDiscriminator().parameters()) == 4_376_897


def test_the_unet_discriminator_computes_what_the_published_one_does() -> None:
    net = without_power_iteration(UNET)
    first, down1, down2, down3, up1, up2, up3, judge1, judge2, verdict = convolutions(net)

    def active(conv: nn.Conv2d, features: Tensor) -> Tensor:
        return functional.leaky_relu(conv(features), 0.2)

    def doubled(features: Tensor) -> Tensor:
        return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)

    batch = pictures(2, 16, 24)
    x0 = active(first, batch)
    x1 = active(down1, x0)
    x2 = active(down2, x1)
    x3 = active(down3, x2)
    x4 = active(up1, doubled(x3)) + x2
    x5 = active(up2, doubled(x4)) + x1
    x6 = active(up3, doubled(x5)) + x0
    torch.testing.assert_close(net(batch), verdict(active(judge2, active(judge1, x6))))


def test_every_convolution_of_the_unet_but_the_first_and_last_has_spectral_norm_one() -> None:
    net = new_discriminator(UNET, seed=0)
    for weight in net.parameters():
        weight.data *= 10
    for seed in range(20):  # each forward pass in training improves the estimate
        net(pictures(1, 8, 8, seed))
    first, *hidden, last = convolutions(net)
    assert [largest_singular_value(conv) for conv in hidden] == pytest.approx([1.0] * 8, rel=0.02)
    assert largest_singular_value(first) > 2
    assert largest_singular_value(last) > 2


def test_the_vgg_discriminators_verdict_on_a_picture_depends_on_its_batch() -> None:
    net = without_power_iteration(VGG)
    one, another, third = pictures(3, 128, 128)
    assert not torch.allclose(net(torch.stack([one, another]))[0], net(torch.stack([one, 0.2 * third]))[0], rtol=1e-3)


def test_the_unet_discriminators_verdict_on_a_picture_does_not_depend_on_its_batch() -> None:
    net = without_power_iteration(UNET)
    one, another = pictures(2, 16, 16)
    torch.testing.assert_close(net(torch.stack([one, another]))[:1], net(one[None]))


def test_the_vgg_discriminator_remembers_no_earlier_batch() -> None:
    net = new_discriminator(VGG, seed=0)
    batch = pictures(2, 128, 128)
    before = net(batch)
    net(0.1 * pictures(2, 128, 128, seed=1))
    assert torch.equal(net(batch), before)
    assert torch.equal(net.eval()(batch), before)
    assert not list(net.buffers())


@pytest.mark.parametrize("config", [VGG, UNET])
def test_equal_seeds_give_equal_discriminators_and_others_do_not(config: DiscriminatorConfig) -> None:
    torch.manual_seed(5)
    one, same, other = (new_discriminator(config, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(weight, other[name]) for name, weight in one.items() if weight.dim() == 4)


@pytest.mark.parametrize("config", [VGG, UNET])
def test_making_a_discriminator_leaves_the_random_numbers_of_others_alone(config: DiscriminatorConfig) -> None:
    before = torch.get_rng_state()
    new_discriminator(config, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
