import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny_runs import PSNR
from training.state import StateError, load_state, save_state

STATE = {"config": PSNR.to_json(), "step": 3, "net": {"weight": torch.arange(4.0)}}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", STATE)
    state = load_state(tmp_path / "state.pt", PSNR)
    assert state is not None
    assert state["step"] == 3
    assert torch.equal(state["net"]["weight"], torch.arange(4.0))


def test_no_state_yet_is_none(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state.pt", PSNR) is None


def test_a_new_state_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", STATE)
    save_state(tmp_path / "state.pt", STATE | {"step": 9})
    state = load_state(tmp_path / "state.pt", PSNR)
    assert state is not None
    assert state["step"] == 9
    assert list(tmp_path.iterdir()) == [tmp_path / "state.pt"]


def test_a_write_that_is_interrupted_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "state.pt", STATE)

    def interrupted(state: dict[str, Any], file: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path / "state.pt", STATE | {"step": 9})
    state = load_state(tmp_path / "state.pt", PSNR)
    assert state is not None
    assert state["step"] == 3


def test_a_state_can_be_saved_after_an_interrupted_write(tmp_path: Path) -> None:
    (tmp_path / "state.unfinished").write_bytes(b"half of it")
    save_state(tmp_path / "state.pt", STATE)
    assert load_state(tmp_path / "state.pt", PSNR) is not None


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", STATE)
    with pytest.raises(StateError, match="holds a run with other settings: seed is 0 there and 1 here; choose"):
        load_state(tmp_path / "state.pt", replace(PSNR, seed=1))


def test_a_state_from_before_a_field_was_added_is_continued(tmp_path: Path) -> None:
    written = json.loads(PSNR.to_json())
    del written["patience"], written["start"]
    save_state(tmp_path / "state.pt", STATE | {"config": json.dumps(written)})
    assert load_state(tmp_path / "state.pt", PSNR) is not None


def test_a_state_with_an_unknown_field_is_refused_by_name(tmp_path: Path) -> None:
    written = json.loads(PSNR.to_json()) | {"flavour": 1}
    save_state(tmp_path / "state.pt", STATE | {"config": json.dumps(written)})
    with pytest.raises(StateError, match=r"is of another version .*flavour is not a field.*choose another --out"):
        load_state(tmp_path / "state.pt", PSNR)


def test_a_state_of_an_older_version_is_refused_with_the_way_to_use_its_weights(tmp_path: Path) -> None:
    save_state(tmp_path / "state.pt", {"identity": PSNR.to_json(), "step": 3})
    with pytest.raises(
        StateError, match=r"an older version, which cannot be continued; .* with its weights by --start .*state"
    ):
        load_state(tmp_path / "state.pt", PSNR)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return (Path.touch, (self.sprung,))


@pytest.mark.parametrize(
    "content",
    [b"", b"not a state", pickle.dumps([1, 2])],
    ids=["empty", "text", "a list"],
)
def test_a_file_that_is_no_state_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(StateError, match=r"state\.pt is not the state of a run"):
        load_state(tmp_path / "state.pt", PSNR)


def test_a_torch_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "state.pt")
    with pytest.raises(StateError, match=r"state\.pt is not the state of a run"):
        load_state(tmp_path / "state.pt", PSNR)


def test_a_state_that_carries_code_is_refused_and_never_run(tmp_path: Path) -> None:
    torch.save({"config": PSNR.to_json(), "trap": Trap(tmp_path / "sprung")}, tmp_path / "state.pt")
    with pytest.raises(StateError, match=r"state\.pt is not the state of a run"):
        load_state(tmp_path / "state.pt", PSNR)
    assert not (tmp_path / "sprung").exists()
