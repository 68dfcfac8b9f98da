"""Fixtures for tests of networks."""

import pytest
import torch


@pytest.fixture
def current_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """The GPUs that were made the current one and still are, innermost last; without a GPU."""
    entered: list[torch.device] = []

    class Current:
        def __init__(self, device: torch.device) -> None:
            self._device = device

        def __enter__(self) -> None:
            entered.append(self._device)

        def __exit__(self, *_: object) -> None:
            entered.pop()

    monkeypatch.setattr(torch.cuda, "device", Current)
    return entered
