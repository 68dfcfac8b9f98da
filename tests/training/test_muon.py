import io

import pytest
import torch
from torch import Tensor, nn

from training.muon import Muon, orthogonalised

SHAPES = [(6, 10), (10, 6), (8, 8), (5, 2, 3, 3), (30, 2, 3, 3)]
"""Wide, tall, square; then convolutions, wide (5 x 18) and tall (30 x 18)."""


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weight_with(gradient: Tensor) -> nn.Parameter:
    weight = nn.Parameter(torch.zeros_like(gradient))
    weight.grad = gradient.clone()
    return weight


def one_update(gradient: Tensor, learning_rate: float = 0.01) -> Tensor:
    """Return a weight of zeros after one step."""
    weight = weight_with(gradient)
    Muon([weight], learning_rate=learning_rate).step()
    return weight.detach()


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalised(noise(3, 6, 10)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_orthogonalised_matrices_keep_their_singular_vectors() -> None:
    matrices = noise(3, 6, 10).double()
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    seen_from_them = left.mT @ orthogonalised(matrices) @ right.mT
    values = seen_from_them.diagonal(dim1=1, dim2=2)
    assert (values > 0.6).all()
    torch.testing.assert_close(seen_from_them, torch.diag_embed(values))


def test_the_size_of_the_gradient_does_not_matter() -> None:
    gradient = noise(6, 10)
    torch.testing.assert_close(one_update(1000 * gradient), one_update(gradient), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_as_large_as_one_of_adams(shape: tuple[int, ...]) -> None:
    update = one_update(noise(*shape), learning_rate=0.01)
    assert 0.6 < update.square().mean().sqrt().item() / (0.2 * 0.01) < 1.3


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_goes_downhill(shape: tuple[int, ...]) -> None:
    gradient = noise(*shape)
    assert (one_update(gradient) * gradient).sum() < 0


def test_two_steps_follow_nesterovs_momentum() -> None:
    first, second, start = noise(3, 5, seed=1), noise(3, 5, seed=2), noise(3, 5, seed=3)
    weight = nn.Parameter(start.clone())
    muon = Muon([weight], learning_rate=0.1, momentum=0.9)
    for gradient in (first, second):
        weight.grad = gradient.clone()
        muon.step()
    average = 0.1 * first
    expected = start - 0.1 * 0.2 * 5**0.5 * orthogonalised((0.1 * first + 0.9 * average)[None])[0]
    average = 0.9 * average + 0.1 * second
    expected -= 0.1 * 0.2 * 5**0.5 * orthogonalised((0.1 * second + 0.9 * average)[None])[0]
    torch.testing.assert_close(weight.detach(), expected)


def test_a_tall_matrix_moves_as_its_transpose_does() -> None:
    gradient = noise(10, 6)
    torch.testing.assert_close(one_update(gradient), one_update(gradient.T.contiguous()).T)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_moves_as_the_matrix_of_its_outputs(memory_format: torch.memory_format) -> None:
    gradient = noise(5, 2, 3, 3)
    update = one_update(gradient.contiguous(memory_format=memory_format))
    torch.testing.assert_close(update, one_update(gradient.reshape(5, 18)).reshape(5, 2, 3, 3))


def test_weights_of_one_shape_move_independently() -> None:
    gradients = noise(4, 6, seed=1), 50 * noise(4, 6, seed=2)
    together = [weight_with(gradient) for gradient in gradients]
    Muon(together, learning_rate=0.01).step()
    for weight, gradient in zip(together, gradients, strict=True):
        torch.testing.assert_close(weight.detach(), one_update(gradient))


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    def take(muon: Muon, weights: list[nn.Parameter], seeds: range) -> None:
        for seed in seeds:
            for weight in weights:
                weight.grad = noise(*weight.shape, seed=seed)
            muon.step()

    whole = [nn.Parameter(noise(4, 6)), nn.Parameter(noise(5, 2, 3, 3))]
    muon = Muon(whole, learning_rate=0.01)
    take(muon, whole, range(2))
    file = io.BytesIO()
    torch.save(muon.state_dict(), file)
    file.seek(0)
    resumed = [nn.Parameter(weight.detach().clone()) for weight in whole]
    fresh = Muon(resumed, learning_rate=0.5)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    take(muon, whole, range(2, 4))
    take(fresh, resumed, range(2, 4))
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="Muon takes no closure"):
        Muon([weight_with(noise(2, 3))], learning_rate=0.01).step(lambda: 0.0)
