"""Our weight files: a `.safetensors` with the generator, its description, and a golden picture to test it by.

The header's metadata has `format`, `architecture`, `scale`, `channels`, `blocks`, `growth`, `inputs`, `unshuffle`,
`padding_mode`, `name`, `recipe`, `steps`, `data`, `licence`, `source`, `metrics` (JSON: set -> measure -> value) and
`created`. `golden.input` and `golden.output`, uint8 RGB (3, H, W), are a small picture and the
output of this network for it in float32.
"""

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from model.edges import places_with_margin
from model.errors import WeightsError
from model.files.dialects import refuse_other_shapes
from model.files.tensor_files import TensorFile, read_tensors
from model.rrdb import PaddingMode, RRDBConfig, RRDBNet

FORMAT = "esrgan-serve/1"
ARCHITECTURE = "rrdb"
STORED = (torch.float32, torch.float16, torch.bfloat16)
"""Number formats of weights."""

MAX_GOLDEN_PX = 2**14
"""Maximum pixels of a golden input: it is upscaled several times when a network is loaded."""

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
"""Pattern of model names, which are used in URLs, headers and file names."""

Metrics = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Card:
    """Origin of a network, as its weight file states it."""

    name: str
    recipe: str
    steps: int
    data: str
    """Training data, with its licence."""
    metrics: Metrics
    created: str
    """ISO 8601 date."""
    licence: str = ""
    """Licence of the weights; empty if the file has none."""
    source: str = ""
    """Origin of the weights: a URL, or the file that they were converted from."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A weight file that was read and checked."""

    net: RRDBNet
    """On the CPU, float32, in evaluation mode."""
    card: Card
    sha256: str
    golden_input: Tensor
    """uint8 RGB (3, H, W)."""
    golden_output: Tensor
    """uint8 RGB (3, scale * H, scale * W)."""
    format: str = FORMAT
    """Format of the file: ours, or the dialect and the kind of file."""


def write_checkpoint(
    path: Path, net: RRDBNet, card: Card, *, golden_input: Tensor, dtype: torch.dtype = torch.float32
) -> None:
    """Write a weight file completely or not at all.

    Args:
        net: the generator, on the CPU.
        golden_input: a small picture, uint8 RGB (3, H, W); its upscaled version is computed and stored with it.
        dtype: format of the stored weights; the golden output is that of the stored, rounded weights.

    Raises:
        WeightsError: a weight is not finite in `dtype`, the name is not valid, the golden picture is too large, or the
            file cannot be written.
    """
    if not NAME.fullmatch(card.name):
        raise WeightsError(f"{card.name!r} cannot be the name of a model; take letters, digits, '.', '_' and '-'")
    _refuse_large_golden(golden_input, path)
    stored = {name: weight.detach().to(dtype).contiguous() for name, weight in net.state_dict().items()}
    _refuse_not_finite(stored, path)
    rounded = _network(net.config, stored)
    golden = {"golden.input": golden_input, "golden.output": reference_output(rounded, golden_input)}
    _save(path, stored | golden, net.config, card)


def read_checkpoint(path: Path, file: TensorFile | None = None) -> Checkpoint:
    """Read a weight file and check everything it says about itself.

    Args:
        file: its content, if it has been read.

    Raises:
        WeightsError: the file is not one of ours, is incomplete, or has wrong shapes or values that are not finite.
    """
    file = file or read_tensors(path)
    config, card = _parse(file.metadata, path)
    tensors = dict(file.tensors)
    golden = [tensors.pop(name, None) for name in ("golden.input", "golden.output")]
    golden_input, golden_output = (_checked_golden(tensor, path) for tensor in golden)
    _refuse_large_golden(golden_input, path)
    try:
        refuse_other_shapes(config, tensors)
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from error
    _refuse_not_finite(tensors, path)
    net = _network(config, tensors)
    if "padding_mode" not in file.metadata:  # from before networks saw a margin around the picture
        golden_output = reference_output(net, golden_input)
    return Checkpoint(
        net=net,
        card=card,
        sha256=file.sha256,
        golden_input=golden_input,
        golden_output=golden_output,
    )


def record_metrics(path: Path, metrics: Metrics) -> None:
    """Add measurements to the metadata of a weight file; they replace earlier ones of the same sets."""
    checkpoint = read_checkpoint(path)
    card = replace(checkpoint.card, metrics=checkpoint.card.metrics | metrics)
    # Today's golden output: that of an old file was made without the margin that its padding mode now implies.
    tensors = read_tensors(path).tensors | {"golden.output": checkpoint.golden_output}
    _save(path, tensors, checkpoint.net.config, card)


@torch.inference_mode()
def reference_output(net: RRDBNet, picture: Tensor) -> Tensor:
    """Upscale a whole picture at once in the network's own number format, as `model.upscaler` does.

    Args:
        picture: uint8 RGB (3, H, W).

    Returns:
        uint8 RGB (3, scale * H, scale * W).
    """
    weight, config = net.conv_first.weight, net.config
    margin = config.margin_px
    rows, columns = (torch.tensor(places_with_margin(side, margin, config.unshuffle)) for side in picture.shape[1:])
    seen = picture[:, rows[:, None], columns]
    first, (height, width) = config.scale * margin, (config.scale * side for side in picture.shape[1:])
    upscaled: Tensor = net(seen[None].to(weight) / 255)[0, :, first : first + height, first : first + width]
    return upscaled.float().mul(255).round().clamp(0, 255).to(torch.uint8).contiguous()


def _save(path: Path, tensors: dict[str, Tensor], config: RRDBConfig, card: Card) -> None:
    unfinished = path.with_suffix(".unfinished")
    try:
        save_file(tensors, unfinished, metadata=_metadata(config, card))
    except SafetensorError as error:
        raise WeightsError(f"{path} cannot be written ({error})") from error
    unfinished.chmod(0o644)  # safetensors creates private files, and the service may run as another user
    unfinished.replace(path)


def _metadata(config: RRDBConfig, card: Card) -> dict[str, str]:
    """Return the fields of both as texts, under their own names."""
    fields = asdict(config) | asdict(card) | {"metrics": json.dumps(card.metrics, sort_keys=True)}
    return {"format": FORMAT, "architecture": ARCHITECTURE} | {name: str(value) for name, value in fields.items()}


def _parse(metadata: dict[str, str], path: Path) -> tuple[RRDBConfig, Card]:
    if metadata.get("format") != FORMAT or metadata.get("architecture") != ARCHITECTURE:
        found = f"format {metadata.get('format')!r}, architecture {metadata.get('architecture')!r}"
        raise WeightsError(f"{path} has {found}; this version reads {FORMAT!r} with {ARCHITECTURE!r}")
    try:
        sizes = {name: int(metadata[name]) for name in ("scale", "channels", "blocks", "growth")}
        sizes |= {name: int(metadata[name]) for name in ("inputs", "unshuffle") if name in metadata}
        padding_mode = cast(PaddingMode, metadata.get("padding_mode", "zeros"))  # which the config checks
        if not NAME.fullmatch(metadata["name"]):
            raise ValueError(f"the name {metadata['name'][:100]!r} is not one of letters, digits, '.', '_' and '-'")
        card = Card(
            name=metadata["name"],
            recipe=metadata["recipe"],
            steps=int(metadata["steps"]),
            data=metadata["data"],
            metrics=_parse_metrics(metadata["metrics"]),
            created=metadata["created"],
            licence=metadata.get("licence", ""),
            source=metadata.get("source", ""),
        )
        return RRDBConfig(**sizes, padding_mode=padding_mode), card
    except KeyError as error:
        raise WeightsError(f"{path} does not say its {error} in its metadata; export it again") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} has metadata that makes no sense ({error}); export it again") from error


def _parse_metrics(text: str) -> Metrics:
    metrics = json.loads(text)
    if not isinstance(metrics, dict) or not all(
        isinstance(measures, dict) and all(isinstance(value, int | float) for value in measures.values())
        for measures in metrics.values()
    ):
        raise ValueError("metrics are not a set -> measure -> number")
    return metrics


def _checked_golden(tensor: Tensor | None, path: Path) -> Tensor:
    is_picture = tensor is not None and tensor.dtype is torch.uint8 and tensor.dim() == 3 and tensor.shape[0] == 3
    if tensor is None or not is_picture or not tensor.numel():
        raise WeightsError(f"{path} carries no golden input and output (uint8, 3 x H x W); export it again")
    return tensor


def _refuse_large_golden(picture: Tensor, path: Path) -> None:
    height, width = picture.shape[1:]
    if height * width > MAX_GOLDEN_PX:
        raise WeightsError(f"{path} has a golden input of {height} x {width} px; take one of at most {MAX_GOLDEN_PX}")


def _refuse_not_finite(tensors: dict[str, Tensor], path: Path) -> None:
    for name, weight in tensors.items():
        if weight.dtype not in STORED:
            raise WeightsError(
                f"{path}: {name} is stored as {weight.dtype}, not as one of {', '.join(map(str, STORED))}"
            )
        if not weight.isfinite().all():
            raise WeightsError(f"{path}: {name} holds NaN or infinity in {weight.dtype}; it cannot serve")


def _network(config: RRDBConfig, weights: dict[str, Tensor]) -> RRDBNet:
    return RRDBNet.of(config, {name: weight.float() for name, weight in weights.items()})
