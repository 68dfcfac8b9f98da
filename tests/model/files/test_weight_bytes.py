"""Files that are not weight files: each is recognised, under every suffix, before any parser runs."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from model.errors import UnreadableError, WeightsError
from model.export.ncnn_pair import write_generator
from model.files.checkpoint import Card, write_checkpoint
from model.files.reading import SUFFIXES, read, read_any, sha256_of
from tests.model.examples import random_net, textured
from tests.model.files.test_foreign import Compact

CARD = Card(name="net", recipe="by_hand", steps=0, data="noise", metrics={}, created="2026-01-01")

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 66929193\n"

IMPOSTORS: dict[str, tuple[bytes, str]] = {
    "a pointer": (POINTER, "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
    "a web page": (b"\n\n<!DOCTYPE html>\n<html><head>", "is a web page, not weights"),
    "a web page with a mark": (b"\xef\xbb\xbf<HTML lang=en>", "is a web page, not weights"),
    "a web page in UTF-16": ("<html>".encode("utf-16"), "is a web page, not weights"),
    "an error of a bucket": (b"<Error><Code>AccessDenied</Code>", "is XML or a web page"),
    "JSON": (b'{"error": "Invalid username or password."}', "is JSON text"),
    "a list": (b"[1, 2, 3]", "is JSON text"),
    "a sentence": ("Zugriff verweigert: größe".encode() * 40, "is a text that begins with 'Zugriff"),
    "nothing": (b"", "is empty; download it again"),
    "gzip": (gzip.compress(b"weights"), "is compressed by gzip; unpack it"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "is a picture, not weights"),
    "Keras": (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("content", "reason"), IMPOSTORS.values(), ids=IMPOSTORS.keys())
def test_a_file_that_is_no_weight_file_is_named_for_what_it_is(
    content: bytes, reason: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    if suffix == ".param":
        path.with_suffix(".bin").write_bytes(b"\0" * 8)
        if reason.startswith("is a text"):
            reason = "is not a readable ncnn network"
    with pytest.raises(WeightsError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path} {reason}")


def test_other_bytes_are_not_called_code(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"\x08\x07\x12\x07pytorch")
    with pytest.raises(WeightsError, match=r"net\.pth is not a PyTorch file: it begins with 08 07 12"):
        read(tmp_path / "net.pth")


def test_a_pointer_in_place_of_the_bin_of_a_pair_is_named(tmp_path: Path) -> None:
    param, weights = write_generator(random_net(), tmp_path)
    weights.write_bytes(POINTER)
    with pytest.raises(WeightsError, match=rf"{weights.name} is a Git LFS pointer"):
        read(param)


def test_a_pipe_in_place_of_the_bin_of_a_pair_is_not_waited_for(tmp_path: Path) -> None:
    param, weights = write_generator(random_net(), tmp_path)
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(WeightsError, match=rf"{weights.name} is a pipe or a device"):
        read(param)


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".param"])
def test_a_link_to_a_device_is_not_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.symlink_to(os.devnull)
    with pytest.raises(WeightsError, match="is a pipe or a device"):
        read_any(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_file_that_was_downloaded_in_part_is_called_that(share: float, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(random_net().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"net\.pth ends early; download it again"):
        read(path)


CODE: dict[str, tuple[bytes, str]] = {
    "a blocked module": (b"\x80\x02cos\nsystem\nX\x02\0\0\0idq\0\x85R.", "carries code or objects (os.system)"),
    "another module": (b"\x80\x02cshutil\nrmtree\nX\x02\0\0\0idq\0\x85R.", "carries code or objects (shutil.rmtree)"),
    "a name that begins like a harmless one": (
        b"\x80\x02cbuiltins\nsetattr\nX\x02\0\0\0idq\0\x85R.",
        "carries code or objects (builtins.setattr)",
    ),
    "nothing behind the sign": (b"\x80\x02", "ends early; download it again"),
}


@pytest.mark.parametrize(("content", "reason"), CODE.values(), ids=CODE.keys())
def test_code_is_named_without_advice_to_trust_it(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path} {reason}")
    assert "weights_only" not in str(refused.value)


def remove(path: Path) -> None:
    path.unlink()


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".param"])
@pytest.mark.parametrize("spoil", [remove, replace_by_a_folder])
def test_a_file_that_cannot_be_read_is_not_judged(spoil: Callable[[Path], None], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.touch()
    spoil(path)
    with pytest.raises(UnreadableError, match=r"cannot be read \((No such file|Is a directory)") as refused:
        read_any(path)
    assert str(refused.value).count(str(tmp_path)) == 1


def test_a_pair_that_is_gone_is_not_judged_and_half_a_pair_is(tmp_path: Path) -> None:
    param, weights = write_generator(random_net(), tmp_path)
    weights.unlink()
    with pytest.raises(WeightsError, match="side by side") as refused:
        read(param)
    assert not isinstance(refused.value, UnreadableError)
    param.unlink()
    with pytest.raises(UnreadableError, match="No such file"):
        read(param)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_larger_than_any_network_is_not_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    for part in (path, path.with_suffix(".bin")):
        part.touch()
        os.truncate(part, 2**30 + 1)  # without blocks on the disk
    with pytest.raises(WeightsError, match=r"has 1073741825 bytes; weight files of at most 1073741824 are read"):
        read_any(path)


@pytest.mark.parametrize(("kind", "files"), [("ours", 1), ("published", 1), ("pair", 2), ("other", 1)])
def test_a_file_is_read_once_so_its_hash_is_that_of_its_weights(
    kind: str, files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.pth"
    if kind == "ours":
        path = path.with_suffix(".safetensors")
        write_checkpoint(path, random_net(), CARD, golden_input=textured(9, 9))
    elif kind == "pair":
        path, _ = write_generator(random_net(), tmp_path)
    else:
        torch.save((Compact(4, 1, 2) if kind == "other" else random_net()).state_dict(), path)
    read_bytes = Path.read_bytes
    reads: list[Path] = []

    def counted(self: Path) -> bytes:
        reads.append(self)
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", counted)
    checkpoint = read_any(path)
    assert len(reads) == files
    assert checkpoint.sha256 == sha256_of(path)
