"""Kernels and bytes that a GPU needs for a batch, counted with tensors that have shapes and no memory."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from model.convolutions import fused
from model.convolutions.fused import FusedConvolver
from model.rrdb import PaddingMode, RRDBConfig, RRDBNet
from model.streaming import upscale_batch

MAX_LAUNCHES, MAX_BYTES_PER_PX = 700, 240e3
"""Budgets of RRDB-23 with 64 channels."""

SIDE, PLANES = 128, 4

QUERIES = ("device", "is_", "size", "stride", "storage_offset", "dim", "numel", "layout")


class Traffic(TorchDispatchMode):
    """Counts the operations that run as kernels, and the bytes that they read and write, each once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.launches: Counter[str] = Counter()
        self.moved_bytes = 0

    def add(self, name: str, *tensors: Tensor | None) -> None:
        self.launches[name] += 1
        self.moved_bytes += sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        tensors = {id(leaf): leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)}
        if not (func.is_view or "empty" in name or name.startswith(QUERIES)):
            self.add(name, *tensors.values())
        return made


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traffic]:
    traffic = Traffic()

    def convolve(window: Tensor, weight: object, target: Tensor, *, skip: Tensor | None = None, **_: object) -> None:
        traffic.add("convolve", window, target, None if skip is target else skip)

    monkeypatch.setattr(fused, "convolve", convolve)
    monkeypatch.setattr(fused, "pack", lambda conv: None)  # once for each network
    with torch.inference_mode(), traffic:
        yield traffic


def rrdb23(dtype: torch.dtype, padding_mode: PaddingMode) -> RRDBNet:
    config = RRDBConfig(padding_mode=padding_mode)
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        net = RRDBNet(config)
    finally:
        torch.set_default_dtype(default)
    exact = RRDBNet(RRDBConfig(blocks=1, padding_mode=padding_mode))
    net.conv_first, net.conv_last = exact.conv_first, exact.conv_last
    return net


@pytest.mark.parametrize(
    ("dtype", "padded", "padding_mode"),
    [
        (torch.bfloat16, False, "zeros"),
        (torch.bfloat16, True, "zeros"),
        (torch.bfloat16, True, "replicate"),
        (torch.float16, True, "zeros"),
        (torch.float16, False, "replicate"),
    ],
    ids=str,
)
def test_a_batch_stays_within_its_launches_and_bytes(
    dtype: torch.dtype, padded: bool, padding_mode: PaddingMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeTensorMode(), torch.device("cuda"):
        net = rrdb23(dtype, padding_mode)
        pictures = torch.empty(PLANES, 3, SIDE, SIDE)
        sizes = torch.empty(PLANES, 2, dtype=torch.int64) if padded else None
        with counted(monkeypatch) as traffic:
            upscale_batch(net, pictures, sizes, convolve=FusedConvolver())
    assert traffic.launches["convolve"] == 5 * 69 + 4
    assert traffic.launches.total() <= MAX_LAUNCHES, traffic.launches
    assert traffic.moved_bytes / (PLANES * SIDE**2) <= MAX_BYTES_PER_PX
