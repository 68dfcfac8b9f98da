"""The folder of models: files that are models, and log lines about others."""

import os
from pathlib import Path

import pytest

from app.library.files import Folder
from app.library.library import NoModelError
from tests.app.library.parts import Make, states

SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".pt", ".bin", ".param")


def refresh(folder: Path) -> Folder:
    return Folder(folder, SUFFIXES)


@pytest.mark.parametrize("name", ["net.pth", "net.PTH", "net.pth.tar", "net.bin", "net.param"])
def test_a_model_is_named_like_its_file_without_the_whole_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert list(refresh(tmp_path).files()) == ["net"]
    assert refresh(tmp_path).ignored() == {}


def test_the_bin_of_a_pair_is_no_model_of_its_own(tmp_path: Path) -> None:
    for name in ("net.param", "net.bin", "alone.bin"):
        (tmp_path / name).write_bytes(b"x")
    assert list(refresh(tmp_path).files()) == ["alone", "net"]


def test_the_state_in_the_folder_of_a_run_is_no_model(tmp_path: Path) -> None:
    for name in ("net.safetensors", "state.pt", "config.json", "history.jsonl", "panel.png"):
        (tmp_path / name).write_bytes(b"x")
    assert list(refresh(tmp_path).files()) == ["net"]
    assert refresh(tmp_path).ignored() == {}
    assert refresh(tmp_path.parent).ignored()[tmp_path.name].startswith("a folder of 1 weight files")


def test_a_state_is_served_where_it_is_named_or_is_of_no_run(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"x")
    assert list(refresh(tmp_path).files()) == ["state"]
    (tmp_path / "config.json").write_bytes(b"x")
    assert list(refresh(tmp_path / "state.pt").files()) == ["state"]


def test_a_single_file_is_a_folder_of_one_model(tmp_path: Path) -> None:
    for name in ("net.param", "net.bin", "net.pth", "notes.xyz"):
        (tmp_path / name).write_bytes(b"xx")
    single = refresh(tmp_path / "net.param")
    assert {name: (file.path.name, file.size_bytes) for name, file in single.files().items()} == {
        "net": ("net.param", 4)
    }
    assert single.ignored() == {}
    assert list(refresh(tmp_path / "notes.xyz").ignored()) == ["notes.xyz"]


@pytest.mark.parametrize(
    "files",
    [
        ("a b.pth", "a&b.pth", "a+b.pth"),
        ("a b.pth", "a-b.pth"),
        ("模型.pth", "動漫.pth"),
        ("x" * 120 + "1.pth", "x" * 120 + "2.pth"),
    ],
)
def test_files_that_would_share_a_name_are_all_served_with_a_hash_of_their_own(
    tmp_path: Path, files: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / files[0]).write_bytes(b"x")
    alone = list(refresh(tmp_path).files())
    for file in files:
        (tmp_path / file).write_bytes(b"x")
    folder = refresh(tmp_path)
    names = {name: file.path.name for name, file in folder.files().items()}
    assert sorted(names.values()) == sorted(files)
    assert not set(alone) & set(names)  # no name changes its network
    assert all(len(name) <= 100 for name in names)
    folder.files()
    for name, file in names.items():
        assert caplog.text.count(f"{file} ({name})") == 1


def test_files_that_differ_in_their_suffix_keep_it_except_ours(tmp_path: Path) -> None:
    for name in ("face.pth", "face.bin"):
        (tmp_path / name).write_bytes(b"x")
    assert list(refresh(tmp_path).files()) == ["face.bin", "face.pth"]
    (tmp_path / "face.safetensors").write_bytes(b"x")
    assert list(refresh(tmp_path).files()) == ["face.bin", "face.pth", "face"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("net.onnx", "a graph without the network's structure; use the .pth or .safetensors"),
        ("nets.zip", "an archive; unpack it"),
        ("net.pth.part", "an unfinished download"),
        ("net.h5", "its suffix is not one of .bin .param .pt .pth .pth.tar .safetensors"),
    ],
)
def test_other_files_are_named_with_the_reason(
    tmp_path: Path, name: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_bytes(b"x")
    folder = refresh(tmp_path)
    assert folder.files() == {}
    assert folder.ignored()[name].startswith(reason)
    folder.files()
    assert caplog.text.count(f"not served: {name} ({reason}") == 1  # once, however often the folder is read


def test_weight_files_in_a_subfolder_are_named(tmp_path: Path) -> None:
    (tmp_path / "anime").mkdir()
    (tmp_path / "anime" / "net.pth").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "net.pth").mkdir()
    (tmp_path / "gone.pth").symlink_to(tmp_path / "nothing")
    assert refresh(tmp_path).files() == {}
    assert refresh(tmp_path).ignored() == {
        "anime": "a folder of 1 weight files; move them one level up",
        "gone.pth": "not a file, or a broken link",
        "net.pth": "not a file, or a broken link",
    }


def test_cards_and_hidden_files_are_not_named(tmp_path: Path) -> None:
    for name in ("net.md", "LICENSE", "sample.png", ".gitignore", "config.json"):
        (tmp_path / name).write_bytes(b"x")
    assert refresh(tmp_path).ignored() == {}


def test_a_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.onnx")).write_bytes(b"x")
    assert list(refresh(tmp_path).ignored()) == ["\\udcff.onnx"]


@pytest.mark.anyio
async def test_a_folder_without_weight_files_says_what_it_holds(make: Make, folder: Path) -> None:
    for path in [*folder.iterdir()]:  # noqa: ASYNC240  # nothing else runs
        path.rename(path.with_suffix(".onnx"))
    with pytest.raises(NoModelError, match=r"has no weight file; a\.onnx: a graph without"):
        make()


@pytest.mark.anyio
async def test_a_double_suffix_is_removed_from_the_name(make: Make, folder: Path) -> None:
    (folder / "d.net.tar").write_text("d1")
    assert states(make())["d"] == "ready"
