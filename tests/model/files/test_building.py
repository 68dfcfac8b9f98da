"""Networks of other architectures: weights of a file that are built, and the limits of building."""

import warnings
from collections.abc import Callable

import pytest
import torch
from spandrel import ImageModelDescriptor
from spandrel.architectures.RCAN import RCAN
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

from model.errors import WeightsError
from model.files import building, foreign
from model.files.building import built
from model.files.foreign import foreign_network
from tests.model.files.test_foreign import Compact

FAR_LARGER = "far larger than its weights"


def compact() -> nn.Module:
    return Compact(4, 1, 2)


def residual() -> nn.Module:
    made: nn.Module = RCAN(n_resgroups=1, n_resblocks=1, n_feats=8, reduction=2)
    return made


def windowed() -> nn.Module:
    sizes = {"img_size": 8, "window_size": 4, "embed_dim": 8, "depths": [1], "num_heads": [2], "upscale": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch.meshgrid
        made: nn.Module = SwinIR(upsampler="pixelshuffledirect", **sizes)
    return made


@pytest.fixture
def made_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the tensors that are made while a network is built, without those on `meta`."""
    made: list[int] = []
    counted = building._Budget.__torch_function__

    def watched(self: building._Budget, *call: object, **given: object) -> object:
        result = counted(self, *call, **given)  # type: ignore[arg-type]  # passed on
        if isinstance(result, Tensor) and result.device.type != "meta":
            made.append(result.nbytes)
        return result

    monkeypatch.setattr(building._Budget, "__torch_function__", watched)
    return made


@pytest.mark.parametrize("channels", [700, 7000, 10**6])
def test_a_small_file_that_asks_for_a_large_network_costs_nothing(channels: int, made_bytes: list[int]) -> None:
    weights = {
        "body.0.weight": torch.zeros(channels, 3, 3, 3),
        "body.0.bias": torch.zeros(channels),
        "body.1.weight": torch.zeros(channels),
        "body.40.bias": torch.zeros(48),
    }
    with pytest.raises((WeightsError, RuntimeError)):  # a million squared has no tensor, not even without memory
        built(weights)
    assert not made_bytes


def test_a_number_in_a_name_asks_for_no_more_layers_than_the_file_holds() -> None:
    weights = {"body.0.weight": torch.zeros(4, 3, 3, 3), "body.1.weight": torch.zeros(4)}
    with pytest.raises(WeightsError, match=FAR_LARGER):
        built(weights | {"body.100000000.bias": torch.zeros(48)})


def test_tables_of_windows_are_bounded_even_where_the_file_holds_nothing(made_bytes: list[int]) -> None:
    weights = windowed().state_dict()
    for name in weights:
        if "relative_position_index" in name:
            weights[name] = torch.zeros(40_000, 0)
    with pytest.raises(WeightsError, match=FAR_LARGER):
        built(weights)
    assert sum(made_bytes) < 10_000  # the drop rates, which are read while it is built


def test_weights_that_share_one_storage_count_once() -> None:
    shared = torch.zeros(2**24)
    weights = {f"body.{layer}.weight": shared.expand(8, -1) for layer in range(0, 200, 2)}
    with building._Budget(weights), pytest.raises(WeightsError, match=FAR_LARGER):
        torch.empty(40 * shared.nbytes, dtype=torch.uint8)


@pytest.mark.parametrize("network", [compact, residual, windowed])
def test_networks_are_built_within_their_budget(network: Callable[[], nn.Module]) -> None:
    weights = network().state_dict()
    found = built(weights)
    assert found is not None
    made = found.model.state_dict()
    assert all(torch.equal(made[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    "prefix",
    ["", "state_dict.model.", "ema.", "net_g_ema.", "params._orig_mod.", "state_dict.net_g_ema.module.", "odd."],
)
def test_a_network_is_found_under_any_prefix(prefix: str) -> None:
    weights = {f"{prefix}{name}": weight for name, weight in compact().state_dict().items()}
    assert foreign_network(weights | {"optimizer.step": torch.zeros(1)} if prefix else weights).scale == 2


def test_of_several_sets_of_weights_the_moving_average_is_built() -> None:
    plain, average = compact().state_dict(), compact().state_dict()
    sets = {"params": plain, "params_ema": average}
    both = {f"{key}.{name}": weight for key, weights in sets.items() for name, weight in weights.items()}
    made = foreign_network(both).inner.state_dict()
    assert all(torch.equal(made[name], weight) for name, weight in average.items())


def test_a_network_for_faces_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = built(compact().state_dict())
    assert isinstance(found, ImageModelDescriptor)
    found._purpose = "FaceSR"  # GFPGAN's own weights take 330 MB
    monkeypatch.setattr(foreign, "built", lambda weights: found)
    with pytest.raises(WeightsError, match="does more than upscale a picture"):
        foreign_network({"any": torch.zeros(1)})


def test_a_scale_that_fills_the_memory_is_refused() -> None:
    with pytest.raises(WeightsError, match="of scale 17; scales of 1 to 16 can serve"):
        foreign_network(Compact(1, 1, 17).state_dict())
