"""PyTorch's files: read as by PyTorch, at a cost proportional to their size."""

import io
import pickle
import random
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.errors import WeightsError
from model.files import unpickling
from model.files.pickled import read_pickled


def trained() -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.MultiStepLR]:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.rand(1, 3, 5, 5)).sum().backward()
    optimiser.step()
    return net, optimiser, torch.optim.lr_scheduler.MultiStepLR(optimiser, [2, 5])


def lightning() -> dict[str, Any]:
    net, optimiser, scheduler = trained()
    return {
        "pytorch-lightning_version": "2.5.0",
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "state_dict": net.state_dict(),
        "optimizer_states": [optimiser.state_dict()],
        "lr_schedulers": [scheduler.state_dict()],
        "hyper_parameters": {"scale": 4, "betas": (0.9, 0.99), "path": None},
    }


def basicsr() -> dict[str, Any]:
    net, optimiser, scheduler = trained()
    optimisers = {"optimizers": [optimiser.state_dict()], "schedulers": [scheduler.state_dict()]}
    return {"epoch": 3, "iter": 2**40, "params": net.state_dict(), "params_ema": net.state_dict(), **optimisers}


def parameters() -> dict[str, Any]:
    marked = nn.Parameter(torch.rand(3))
    marked.mark = 1  # type: ignore[attr-defined]  # as some frameworks do
    tagged = torch.rand(3)
    tagged.tag = "x"  # type: ignore[attr-defined]
    return {"plain": nn.Parameter(torch.rand(2)), "marked": marked, "tagged": tagged}


def views() -> dict[str, Any]:
    whole = torch.rand(6, 4)
    parts = {"rows": whole[2:4], "turned": whole.t(), "every_other": whole[:, ::2], "last": whole[5, 3]}
    return {"whole": whole, **parts, "repeated": torch.rand(1).expand(5), "empty": torch.zeros(0)}


def formats() -> dict[str, Any]:
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64)
    integers = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    return {str(dtype): torch.ones(3, dtype=dtype) for dtype in floats + integers}


def plain_values() -> dict[Any, Any]:
    odd = {"set": {1, 2}, "size": torch.Size([1]), "device": torch.device("cpu"), "complex": 1j, "bytes": b"x"}
    more = {"mutable": bytearray(b"x"), "dtype": torch.float16, "large": -(2**70), "half": 0.5, "none": None}
    return {**odd, **more, (1, 2): torch.rand(1), None: 1, True: torch.rand(1), 7: torch.rand(1), "w": torch.rand(1)}


def leaves(content: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for key, one in content.items():
        if isinstance(one, Tensor) and not isinstance(key, tuple):
            yield f"{prefix}{key}", one
        elif isinstance(one, Mapping):
            yield from leaves(one, f"{prefix}{key}.")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [lightning, basicsr, parameters, views, formats, plain_values])
def test_tensors_are_those_that_pytorch_reads(content: Any, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(content(), path, _use_new_zipfile_serialization=zipped)
    expected = dict(leaves(torch.load(path, weights_only=True)))
    read = read_pickled(path).tensors
    assert list(read) == list(expected)
    for name, one in expected.items():
        assert read[name].dtype is one.dtype
        assert torch.equal(read[name], one)


# Pickles that are written by hand


class Viewing:
    """Pickles as a tensor of a part of a storage, as PyTorch wrote it before 1.6."""

    def __init__(self, begin: int, count: int, offset: int) -> None:
        self.storage = ("storage", torch.FloatStorage, "whole", "cpu", 20, (f"part {begin}", begin, count))
        self.offset = offset

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (Persistent(self.storage), self.offset, (3,), (1,), False, {})


class Persistent:
    """A persistent id of a storage in a pickle."""

    def __init__(self, words: tuple[Any, ...]) -> None:
        self.words = words


class Pickler(pickle.Pickler):
    """Pickles a `Persistent` as its id."""

    def persistent_id(self, obj: object) -> tuple[Any, ...] | None:
        return obj.words if isinstance(obj, Persistent) else None


def test_parts_of_a_storage_are_those_that_pytorch_reads(tmp_path: Path) -> None:
    path, file = tmp_path / "old.pth", io.BytesIO()
    parts = {"part": Viewing(6, 5, 1), "whole": Viewing(0, 20, 2)}
    for one in (torch.serialization.MAGIC_NUMBER, 1001, {"little_endian": True}, parts, ["whole"]):
        Pickler(file, protocol=2).dump(one)
    path.write_bytes(file.getvalue() + struct.pack("<q", 20) + torch.arange(20.0).numpy().tobytes())
    expected, read = torch.load(path, weights_only=True), read_pickled(path).tensors
    assert expected["part"].tolist() == [7, 8, 9]
    assert {name: one.tolist() for name, one in read.items()} == {name: one.tolist() for name, one in expected.items()}


def text(words: str) -> bytes:
    return b"X" + struct.pack("<I", len(words)) + words.encode()


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def call(function: str, *arguments: bytes) -> bytes:
    module, _, name = function.rpartition(".")
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def tensor(count: int, size: tuple[int, ...], stride: tuple[int, ...], kind: str = "FloatStorage") -> bytes:
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cpu") + number(count) + b"tQ"
    return call("torch._utils._rebuild_tensor_v2", storage, number(0), numbers(*size), numbers(*stride), b"\x89", b"N")


def dictionary(*items: bytes) -> bytes:
    return b"}(" + b"".join(items) + b"u"


def doubling(depth: int) -> bytes:
    """Pickle a tuple of two references to a tuple of two references ..."""
    return b")q\x00" + b"".join(bytes((*b"h", step, *b"\x86q", step + 1)) for step in range(depth))


def written(path: Path, content: bytes, storage: bytes = b"\0" * 16, how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/data/0", storage)
    return path


ENCODED = b"](" + text("a" * 10**5) + b"q\x01" + call("_codecs.encode", b"h\x01", text("utf-32")) * 400 + b"e"
ENDLESS = tensor(4, (10**6,), (0,))

BOMBS = {
    "bytes": dictionary(text("a"), call("builtins.bytearray", number(4 * 10**8))),
    "encoded text": dictionary(text("a"), ENCODED),
    "numbers that repeat": dictionary(text("a"), call("builtins.set", ENDLESS)),
    "doubling tuples": dictionary(doubling(26), b"N"),
    "deep tuples": dictionary(b")" + b"\x85" * 200_000, b"N"),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_calls_are_not_made_and_keys_not_hashed_or_printed(bomb: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / "bomb.pth", bomb)
    tracemalloc.start()
    try:
        assert read_pickled(path).tensors == {}
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


def test_an_ordered_dictionary_of_python_2_is_read(tmp_path: Path) -> None:
    pairs = b"](](" + text("a") + tensor(4, (2, 2), (1, 2)) + b"ee"
    storage = struct.pack("<4f", 1, 2, 3, 4)
    read = read_pickled(written(tmp_path / "net.pth", call("collections.OrderedDict", pairs), storage))
    assert torch.equal(read.tensors["a"], torch.tensor([[1.0, 3.0], [2.0, 4.0]]))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_too_many_steps_is_refused(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "MAX_STEPS", 50)
    torch.save({"a": torch.rand(1), "b": torch.rand(1)}, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"net\.pth .*it takes more than 50 steps; save its state_dict\(\) alone"):
        read_pickled(tmp_path / "net.pth")


def test_pairs_count_as_steps_so_that_they_are_not_copied_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpickling, "MAX_STEPS", 10_000)
    pairs = b"](" + b"](K\x00K\x00e" * 500 + b"eq\x00"
    copies = call("collections.OrderedDict", b"h\x00") * 20
    with pytest.raises(WeightsError, match="more than 10000 steps"):
        read_pickled(written(tmp_path / "bomb.pth", b"](" + pairs + copies + b"e"))


SHARED = tensor(4, (4,), (1,)) + b"q\x01" + b"".join(b"K%ch\x01" % key for key in range(1, 9))
DEVICE = call(
    "torch._utils._rebuild_device_tensor_from_cpu_tensor", ENDLESS, b"ctorch\nfloat64\n", text("cpu"), b"\x89"
)
KEYED = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + doubling(60) + text("cpu") + b"K\x04tQ"

REFUSALS = {
    "a long name of many tensors": (
        dictionary(text("a" * 5000), dictionary(b"K\x00", SHARED)),
        "has names that are longer than the whole file",
    ),
    "a copy of numbers that repeat": (dictionary(text("a"), DEVICE), "holds a, which is not a plain tensor"),
    "a tensor beyond its storage": (dictionary(text("a"), tensor(4, (5,), (1,))), "out of bounds for storage"),
    "a storage beyond its bytes": (dictionary(text("a"), tensor(8, (8,), (1,))), "out of bounds for storage"),
    "an impossible size": (dictionary(text("a"), tensor(4, (0, 2**63), (1, 1))), "is not a readable PyTorch file"),
    "a size without end": (dictionary(text("a"), tensor(4, (2**40, 2**40), (0, 0))), "integer multiplication overflow"),
    "another kind of key": (dictionary(text("a"), KEYED), "names a storage in a way that PyTorch does not"),
    "an absent storage": (dictionary(text("a"), tensor(4, (4,), (1,)).replace(text("0"), text("1"))), "archive/data/1"),
    "a call of a text": (text("a") + b")R", "calls something that is not a function"),
    "a text that is filled": (text("a") + b"K\x00a", "fills a str like a list"),
    "half an item": (b"}(K\x00u", "is not a readable PyTorch file"),
    "an empty stack": (b"K\x00a", "is not a readable PyTorch file"),
    "a newer pickle": (b"\x94", "has MEMOIZE; save it by torch.save"),
}


@pytest.mark.parametrize(("content", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_pickle_that_makes_no_sense_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"net\.pth .*{reason}"):
        read_pickled(written(tmp_path / "net.pth", content))


def test_values_of_a_run_that_are_not_plain_are_left_out(tmp_path: Path) -> None:
    sizes = dictionary(text("scale"), b"K\x03", text("padding_mode"), doubling(60))
    assert read_pickled(written(tmp_path / "state.pt", dictionary(text("esrgan-serve"), sizes))).sizes == {"scale": 3}


# Other files


def test_a_zip_file_behind_pickles_is_not_looked_at(tmp_path: Path) -> None:
    zipped, old = io.BytesIO(), io.BytesIO()
    torch.save({"zipped": torch.rand(1)}, zipped)
    torch.save({"old": torch.rand(1)}, old, _use_new_zipfile_serialization=False)
    (tmp_path / "both.pth").write_bytes(old.getvalue() + zipped.getvalue())
    assert list(read_pickled(tmp_path / "both.pth").tensors) == ["old"]


def test_a_file_that_is_compressed_in_vain_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.pth", dictionary(), random.Random(0).randbytes(10_000), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"net\.pth is compressed inside, as weight files are not"):
        read_pickled(path)


def test_a_file_in_another_byte_order_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.pth", dictionary(text("a"), tensor(4, (4,), (1,))))
    assert list(read_pickled(path).tensors) == ["a"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(WeightsError, match=r"net\.pth has its bytes in big-endian order"):
        read_pickled(path)


def test_a_damaged_storage_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.pth", dictionary(text("a"), tensor(4, (4,), (1,))), b"sixteen numbers.")
    path.write_bytes(path.read_bytes().replace(b"sixteen", b"seventy"))
    with pytest.raises(WeightsError, match=r"net\.pth is not a readable PyTorch file \(BadZipFile: Bad CRC-32"):
        read_pickled(path)


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    with pytest.raises(WeightsError, match=r"net\.pkl is a pickle, but not a PyTorch file; save it by torch\.save"):
        read_pickled(tmp_path / "net.pkl")


def test_the_oldest_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "storages").touch()
    with tarfile.open(tmp_path / "net.pth", "w") as archive:
        archive.add(tmp_path / "storages", "storages")
    with pytest.raises(WeightsError, match=r"net\.pth is in PyTorch's oldest format \(tar\)"):
        read_pickled(tmp_path / "net.pth")
