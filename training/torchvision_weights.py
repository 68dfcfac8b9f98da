"""Weights in torchvision's layout: those of a file, or those that torchvision publishes."""

from pathlib import Path

from torch import Tensor

from model.errors import WeightsError
from model.files.pickled import read_pickled
from model.files.tensor_files import read_tensors


def feature_weights(path: Path | None, published: str, option: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the weights of a network's `features`.

    Args:
        path: a .safetensors file, or one of PyTorch. None downloads the published weights and keeps them in torch's
            cache.
        published: their name, such as `AlexNet_Weights.IMAGENET1K_V1`.
        option: the option by which users name a file.

    Returns:
        The weights under torchvision's names, and the metadata of their file.

    Raises:
        WeightsError: the file cannot be read, or the download failed.
    """
    metadata: dict[str, str] = {}
    if path is None:
        weights = _downloaded(published, option)
    elif path.suffix == ".safetensors":
        file = read_tensors(path)
        weights, metadata = file.tensors, file.metadata
    else:
        weights = read_pickled(path).tensors
    return {name: weight for name, weight in weights.items() if name.startswith("features.")}, metadata


def _downloaded(published: str, option: str) -> dict[str, Tensor]:
    from torchvision.models import get_weight  # slow to import, and a local file does without

    weights = get_weight(published)
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:  # no network, or a file that was cut short
        raise WeightsError(
            f"torchvision's {published} cannot be downloaded ({error}); get {weights.url} elsewhere and name the file "
            f"by {option} FILE"
        ) from error
