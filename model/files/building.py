"""Build a network with spandrel, in memory and time that its weights account for.

Architectures read their sizes off a few shapes and multiply them, so a file of some kilobytes can ask for any amount of
memory. So a network is built without memory first, on PyTorch's device `meta`, and takes the weights there; it is built
for real only if it fits them. Both times the calls of PyTorch and the tensors that they make are counted: spandrel's
architectures take 13 to 25 calls for each weight, and make 3 to 8 times the bytes of all weights in float32.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from model.errors import WeightsError

if TYPE_CHECKING:
    from spandrel import ModelDescriptor

CALLS_PER_WEIGHT, BASE_CALLS = 100, 2_000
"""Maximum calls of PyTorch per weight, and the number that is always allowed on top."""

BYTES_PER_WEIGHT_BYTE, BASE_BYTES = 32, 2**26
"""Maximum bytes of tensors per byte of weights, and the number that is always allowed on top."""

NOT_ON_META = ("IPT", "RCAN")
"""Architectures that fail on `meta`, because they read values of tensors. Counting is enough for them: they have no
windows, whose tables grow with the fourth power of a size."""


class _Budget(TorchFunctionMode):
    """Counts calls of PyTorch, and the bytes of the tensors that they return.

    Raises:
        WeightsError: they exceed the limits for these weights.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._calls = BASE_CALLS + CALLS_PER_WEIGHT * len(weights)
        stored = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in weights.values()}
        self._bytes = BASE_BYTES + BYTES_PER_WEIGHT_BYTE * sum(stored.values())

    def __torch_function__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.linspace:  # architectures read its values, which `meta` does not have
            given["device"] = "cpu"
        made = func(*args, **given)
        self._calls -= 1
        self._bytes -= made.nbytes if isinstance(made, Tensor) else 0
        if min(self._calls, self._bytes) < 0:
            raise WeightsError("a few of its shapes ask for a network far larger than its weights")
        return made


def built(weights: dict[str, Tensor]) -> "ModelDescriptor | None":
    """Build the network of these weights; None if they are those of no architecture.

    Raises:
        Exception: it cannot be built, or the weights are not exactly those of the network; architectures raise all
            kinds of errors.
    """
    from spandrel import MAIN_REGISTRY

    for support in MAIN_REGISTRY.architectures("detection"):
        if support.detect(weights):
            break
    else:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they concern the authors of the architectures
        if support.architecture.id not in NOT_ON_META:
            with torch.device("meta"), _Budget(weights):
                support.architecture.load(weights)
        with _Budget(weights):
            return support.architecture.load(weights)
