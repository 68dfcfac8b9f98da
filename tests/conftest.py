"""What every test may ask for."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(min(2, torch.get_num_threads()))  # tiny tensors: more threads only wait for each other


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The benchmark pictures beside the clone; a test that needs them is skipped where they are not."""
    folder = Path(__file__).parents[2] / "shared"
    if not (folder / "bench" / "Set5" / "HR").is_dir():
        pytest.skip(f"{folder} with bench/Set5 does not lie beside the clone")
    return folder
