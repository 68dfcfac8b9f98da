"""The state of a run on disk: written whole or not at all, so that a run killed at any moment continues."""

import os
from pathlib import Path
from typing import Any

import torch


class StateError(Exception):
    """A run folder cannot be continued; the text says why and what to do."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state beside `path`, flush it to the disk, then put it in the place of the old one in one step."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def load_state(path: Path, identity: str) -> dict[str, Any] | None:
    """The state that `path` holds; None where there is none yet.

    Raises:
        StateError: the state is another run's, or is no state.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        same = state["identity"] == identity
    except Exception as error:
        raise StateError(f"{path} is not the state of a run ({error}); choose another --out") from error
    if not same:
        raise StateError(f"{path.parent} holds a run with other settings; choose another --out or remove the folder")
    return state
