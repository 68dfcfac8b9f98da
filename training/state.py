"""The state of a run on disk: written whole or not at all, so that a run killed at any moment continues."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from training.config import TrainingConfig
from training.errors import ConfigError, Mistake
from training.fields import differences, from_tree, read_config

STATE = "state.pt"
"""Name of the file in a run's folder."""


class StateError(Mistake):
    """A run folder cannot be continued; the text says why and what to do."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state to a temporary file, flush it to the disk, then replace `path` by it atomically."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def state_to_continue(out: Path, config: TrainingConfig) -> dict[str, Any] | None:
    """Check, before any work, that a run may be made or continued in `out`; returns its state, None for a new run.

    Raises:
        StateError: `out` holds another run, one that is finished, or one that took more steps.
    """
    _refuse_finished(out, config)
    state = load_state(out / STATE, config)
    if state and (done := state["steps"]["done"]) > config.steps:
        raise StateError(f"{out} holds a run of {done} steps already; give --steps {done} or more to continue it")
    return state


def load_state(path: Path, config: TrainingConfig) -> dict[str, Any] | None:
    """Return the state in `path`; None if there is none yet.

    Raises:
        StateError: it is the state of another run, or not a state.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        is_older = "identity" in state
        written = {} if is_older else json.loads(state["config"])
    except Exception as error:
        raise StateError(f"{path} is not the state of a run ({error}); choose another --out") from error
    if is_older:
        raise StateError(
            f"{path} is of an older version, which cannot be continued; choose another --out, and begin with its "
            f"weights by --start {path}"
        )
    try:
        _refuse_other(path.parent, config, from_tree(written))
    except ConfigError as error:
        raise StateError(f"{path} is of another version ({error}); choose another --out") from error
    return state


def _refuse_finished(out: Path, config: TrainingConfig) -> None:
    target = out / f"{config.name}.safetensors"
    if target.exists():
        raise StateError(
            f"{target} exists: that run is finished; choose another --out or remove the folder. To train it further, "
            "move the file away and give more --steps"
        )
    if (written := out / "config.json").exists():
        try:
            _refuse_other(out, config, read_config(written))
        except ConfigError as error:
            raise StateError(f"{error}; choose another --out or remove the folder") from error


def _refuse_other(out: Path, config: TrainingConfig, written: TrainingConfig) -> None:
    """Check that no field differs that decides what is learnt."""
    if others := differences(config, written):
        more = f" (and {len(others) - 3} more)" if len(others) > 3 else ""
        raise StateError(
            f"{out} holds a run with other settings: {', '.join(others[:3])}{more}; choose another --out or remove the "
            "folder"
        )
