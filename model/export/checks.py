"""Run an exported file in the program that it is for, and compare with our picture.

Each function returns the output of a program for a picture, uint8 RGB (3, scale * H, scale * W), and raises
`MissingRuntimeError` where its package is not installed.
"""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from model.errors import WeightsError, one_line
from model.export import ncnn_pair
from model.export.graph import INPUT, OUTPUT
from model.files.pickled import read_pickled
from model.rrdb import RRDBNet


class MissingRuntimeError(WeightsError):
    """A file cannot be checked here; the text names the missing package."""


def installed(package: str, kind: str) -> None:
    """Check that the package for a check is installed.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    if find_spec(package) is None:
        raise MissingRuntimeError(
            f"{package} is not installed, but the {kind} check needs it: pip install {package}, or take --unchecked"
        )


def onnx_output(path: Path, picture: Tensor) -> Tensor:
    """Run an ONNX model in ONNX Runtime on the CPU."""
    installed("onnxruntime", "ONNX")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return _pixels(torch.from_numpy(session.run([OUTPUT], {INPUT: _floats(picture).numpy()})[0])[0])


def ncnn_output(param: Path, picture: Tensor, inputs: int) -> Tensor:
    """Run an ncnn pair in ncnn on the CPU; `inputs` are the values that the network reads of a pixel."""
    installed("ncnn", "ncnn")
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    if net.load_param(str(param)) or net.load_model(str(param.with_suffix(".bin"))):
        raise WeightsError(f"{param} cannot be loaded by ncnn")
    extractor: Any = net.create_extractor()
    seen = _seen(picture, inputs)[0].numpy()  # kept alive: ncnn reads its memory
    extractor.input(ncnn_pair.INPUT, ncnn.Mat(seen))
    status, made = extractor.extract(ncnn_pair.OUTPUT)
    if status:
        raise WeightsError(f"{param} fails in ncnn with status {status}")
    return _pixels(torch.from_numpy(numpy.array(made)))


def spandrel_output(path: Path, picture: Tensor) -> Tensor:
    """Run a PyTorch file in spandrel, the reader of chaiNNer."""
    installed("spandrel", ".pth")
    from spandrel import ImageModelDescriptor, ModelLoader

    weights = {name.removeprefix("params_ema."): one for name, one in read_pickled(path).tensors.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they concern the authors of other projects
            found = ModelLoader(device="cpu").load_from_state_dict(weights)
    except Exception as error:  # architectures raise all kinds of errors for unexpected shapes
        raise WeightsError(f"spandrel cannot build the network ({one_line(error)})") from error
    assert isinstance(found, ImageModelDescriptor)
    with torch.inference_mode():
        made: Tensor = found(_seen(picture, found.input_channels))
    return _pixels(made[0])


@torch.inference_mode()
def bare_output(net: RRDBNet, picture: Tensor) -> Tensor:
    """Run the network without the margin that the service adds, as other programs do."""
    made: Tensor = net(_floats(picture))
    return _pixels(made[0])


def _floats(picture: Tensor) -> Tensor:
    return picture[None].float() / 255


def _seen(picture: Tensor, inputs: int) -> Tensor:
    """Convert a picture for networks that do not take RGB: its first colour, or RGB with an opaque alpha."""
    values = _floats(picture)
    return torch.cat((values, torch.ones_like(values[:, :1])), dim=1)[:, :inputs].contiguous()


def _pixels(made: Tensor) -> Tensor:
    """(1, H, W) or (3 or more, H, W) -> uint8 RGB."""
    made = made.expand(3, -1, -1) if len(made) == 1 else made[:3]
    return made.float().mul(255).round().clamp(0, 255).to(torch.uint8)
