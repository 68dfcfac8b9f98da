"""Errors for a weight file that cannot serve: they name the file and the reason, never its folder."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from app.library.loading import DeviceFullError, LoadError, UnreadableError
from app.networks import NetworkLoader, use_physical_cores
from model.device import CPU, FORMATS, DeviceMemoryError
from model.export.ncnn_pair import write_generator
from model.formats import native_dtypes
from model.graphs import CapturedCalls
from tests.app.conftest import write_tiny_model
from tests.model.examples import random_net
from tests.model.test_graphs import FakeGraphs


def half_a_pair(folder: Path) -> Path:
    param, weights = write_generator(random_net(), folder)
    weights.unlink()
    return param


def a_pair_with_a_pointer(folder: Path) -> Path:
    param, weights = write_generator(random_net(), folder)
    weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    return param


def cut_short(folder: Path) -> Path:
    path = write_tiny_model(folder, "tiny")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def a_broken_pickle(folder: Path) -> Path:
    torch.save(random_net().state_dict(), folder / "net.pth")
    (folder / "net.pth").write_bytes((folder / "net.pth").read_bytes()[:5000])
    return folder / "net.pth"


def nothing_known(folder: Path) -> Path:
    torch.save({"layer": torch.zeros(3)}, folder / "net.pth")
    return folder / "net.pth"


def a_name_that_is_not_utf_8(folder: Path) -> Path:
    path = folder / os.fsdecode(b"net\xff.pth")
    path.write_bytes(b"<html>")
    return path


def absent(folder: Path) -> Path:
    return folder / "net.pth"


def refusal(path: Path) -> LoadError:
    loading = NetworkLoader(piece_s=1, max_loss_db=10).file("net", path)
    with pytest.raises(LoadError) as refused:
        next(loading)
    return refused.value


KINDS = [
    half_a_pair,
    a_pair_with_a_pointer,
    cut_short,
    a_broken_pickle,
    nothing_known,
    a_name_that_is_not_utf_8,
    absent,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["models", "it's  here\n", os.fsdecode(b"mod\xe8les")], ids=ascii)
def test_a_refusal_names_the_file_and_not_its_folder(kind: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    path = kind(folder)
    text = str(refusal(path))
    assert text.startswith(path.stem[:3])
    assert tmp_path.name not in text
    assert "/" not in text.replace("docs/models.md", "")
    text.encode()  # it can be part of JSON


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_file_that_cannot_be_read_may_be_tried_again(kind: Callable[[Path], Path], tmp_path: Path) -> None:
    assert isinstance(refusal(kind(tmp_path)), UnreadableError) == (kind is absent)


def test_a_network_for_which_the_device_has_no_memory_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise DeviceMemoryError("CUDA out of memory")

    monkeypatch.setattr("app.networks.ReliableUpscaler", full)
    loading = NetworkLoader(piece_s=0.01, max_loss_db=10).file("tiny", write_tiny_model(tmp_path, "tiny"))
    with pytest.raises(DeviceFullError, match="enough memory"):
        list(loading)


def emulated() -> str:
    """Return a number format of 16 bits that this processor emulates for the tiny network, or skip."""
    native = native_dtypes(random_net(), CPU)
    for name in ("float16", "bfloat16"):
        if FORMATS[name] not in native:
            return name
    pytest.skip("this processor computes in all formats")


def test_a_number_format_that_the_device_emulates_fails_the_load_and_names_those_it_has(tmp_path: Path) -> None:
    name = emulated()
    loading = NetworkLoader(piece_s=0.01, max_loss_db=10, precision=name).file(
        "tiny", write_tiny_model(tmp_path, "tiny")
    )
    with pytest.raises(LoadError, match=rf"^ESRGAN_PRECISION: .* in {name} on this cpu, only in float32") as refused:
        list(loading)
    assert str(tmp_path) not in str(refused.value)


def test_a_network_that_fails_its_test_in_the_pinned_format_does_not_serve_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.networks.check_native", lambda net, device, dtype: None)
    monkeypatch.setattr("model.reliable.SELF_TEST_PSNR_DB", 200.0)
    path = write_tiny_model(tmp_path, "tiny")
    with pytest.raises(LoadError, match=r"in torch\.bfloat16"):
        list(NetworkLoader(piece_s=0.01, max_loss_db=10, precision="bfloat16").file("tiny", path))


def test_the_threads_of_the_networks_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.device.usable_cores", lambda cpus: 3)
    before = torch.get_num_threads()
    try:
        use_physical_cores(2)
        assert torch.get_num_threads() == 2
        use_physical_cores()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("disabled", [frozenset(), frozenset({"graphs"})])
def test_the_time_of_a_picture_in_the_warm_up_is_that_of_later_ones(
    disabled: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = FakeGraphs()
    calls = torch.clone if disabled else CapturedCalls(torch.clone, graphs)
    upscaler = Mock(fast_paths=("graphs", "pinned"), disabled=disabled, most_px=64**2)
    upscaler.batch = Mock(side_effect=lambda pictures: calls(torch.from_numpy(pictures[0]).float()))

    def clock() -> float:
        return float(100 * graphs.log.count("capture") + upscaler.batch.call_count)

    monkeypatch.setattr("app.networks.time", Mock(perf_counter=clock))
    loading = NetworkLoader(piece_s=10, max_loss_db=10)._warm_up(upscaler)
    speeds: list[Sequence[tuple[int, float]]] = []

    def warm_up() -> Iterator[None]:
        speeds.append((yield from loading))

    assert len(list(warm_up())) == upscaler.batch.call_count == (4 if disabled else 6)
    assert speeds == [[(32**2, 1), (64**2, 1)]]
