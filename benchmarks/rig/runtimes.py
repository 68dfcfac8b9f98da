"""Every measured way to run a generator, behind one call: 8-bit pixels in, 8-bit pixels out.

Each pays for its own conversions, and its picture can be compared with that of the float32 network. All of them use as
many threads as PyTorch. `NotHere` is raised for a runtime that this machine cannot run.
"""

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy
import torch
from torch import Tensor

from model.convolutions.convolver import Convolver
from model.convolutions.trial import best_dtype, library_way
from model.device import fast_dtype
from model.export import ncnn_pair
from model.export.graph import INPUT, OUTPUT
from model.rrdb import RRDBNet
from model.transfer import Pixels
from model.upscaler import Upscaler

BAND_ROWS = (16, 32, 64, 128)
"""Heights of the bands of our stream."""

WHOLE_PX = 2**16
"""Maximum LR px of pictures that `ours` upscales whole."""


class NotHere(Exception):
    """This runtime cannot be measured on this machine; the text says why."""


class Runtime(Protocol):
    """A generator that is ready to run."""

    def __call__(self, picture: Pixels) -> Pixels:
        """Upscale pictures of one size, uint8 RGB (N, H, W, 3) -> (N, scale * H, scale * W, 3); N is mostly 1."""


Build = Callable[[], Runtime]
"""Sets up a runtime; raises `NotHere` or ModuleNotFoundError."""


def builders(net: RRDBNet, device: torch.device, height: int, width: int) -> dict[str, Build]:
    """Return all runtimes by name, not yet set up, for pictures of one size.

    Args:
        net: on the CPU in float32; not changed.
    """
    dtype, our_dtype = fast_dtype(device), best_dtype(net, device)
    fast, best = (str(some).removeprefix("torch.") for some in (dtype, our_dtype))
    on_cpu, on_gpu = partial(_only_on, "cpu", device), partial(_only_on, "cuda", device)
    library = library_way(dtype, device)
    compiled = partial(eager, net, device, dtype, torch.channels_last)
    return {
        "PyTorch eager, float32": lambda: eager(net, device, torch.float32, torch.contiguous_format),
        f"PyTorch eager, {fast}, channels last": lambda: eager(net, device, dtype, torch.channels_last),
        f"torch.compile, {fast}": on_gpu(lambda: compiled("default")),
        f"torch.compile, max-autotune, {fast}": on_gpu(lambda: compiled("max-autotune")),
        f"our runtime, whole, the library's convolutions, {fast}": lambda: _whole(net, device, dtype, library()),
        "our runtime, whole, float32": on_cpu(lambda: _whole(net, device, torch.float32)),
        f"our runtime, whole, {best}": lambda: _whole(net, device),
        **{f"our runtime, bands of {rows} rows, {best}": partial(_stream, net, device, rows) for rows in BAND_ROWS},
        "OpenVINO, float32": on_cpu(lambda: _openvino(net, "f32", height, width)),
        "OpenVINO, bfloat16": on_cpu(lambda: _openvino(net, "bf16", height, width)),
        "ONNX Runtime, float32": on_cpu(lambda: _onnxruntime(net, height, width)),
        "ncnn, float32": on_cpu(lambda: _ncnn(net, bfloat16=False)),
        "ncnn, bfloat16": on_cpu(lambda: _ncnn(net, bfloat16=True)),
    }


def _only_on(kind: str, device: torch.device, build: Build) -> Build:
    """Restrict a runtime to a kind of device: other packages to the CPU, `torch.compile` to GPUs.

    On CPUs `torch.compile` was slower than eager and takes minutes.
    """

    def built() -> Runtime:
        if device.type != kind:
            raise NotHere(f"measured on {kind} only")
        return build()

    return built


def eager(
    net: RRDBNet, device: torch.device, dtype: torch.dtype, layout: torch.memory_format, compiled: str | None = None
) -> Runtime:
    """Run the network in plain PyTorch, or compiled in the mode `compiled`."""
    moved = copy.deepcopy(net).to(device=device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks the keyword
    if compiled:
        moved.compile(mode=compiled)

    def run(low_res: Tensor) -> Tensor:
        upscaled: Tensor = moved(low_res.to(device=device, dtype=dtype, memory_format=layout))
        return upscaled

    return _in_floats(run)


@torch.inference_mode()
def exact_output(net: RRDBNet, picture: Pixels) -> Pixels:
    """Upscale a whole picture by the float32 network on the CPU: uint8 (N, H, W, 3) -> (N, scale * H, scale * W, 3)."""
    upscaled: Tensor = net(torch.from_numpy(picture).permute(0, 3, 1, 2) / 255)
    pixels: Pixels = upscaled.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels


def ours(net: RRDBNet, device: torch.device) -> Runtime:
    """Run our runtime in its fastest way: small pictures whole, large ones in bands."""
    whole, stream = _whole(net, device), _stream(net, device, 64)
    return lambda picture: whole(picture) if picture[..., 0].size <= WHOLE_PX else stream(picture)


def _whole(
    net: RRDBNet, device: torch.device, dtype: torch.dtype | None = None, convolve: Convolver | None = None
) -> Runtime:
    """Run our runtime on whole pictures; `dtype` and `convolve` override its own choice."""
    upscaler = Upscaler(copy.deepcopy(net), device, dtype, convolve, margin_px=0)  # as the others run it
    return lambda picture: upscaler.batch([picture])[0]


def _stream(net: RRDBNet, device: torch.device, band_rows: int) -> Runtime:
    upscaler = Upscaler(copy.deepcopy(net), device, margin_px=0)
    return lambda picture: numpy.concatenate(list(upscaler.stream(picture, band_rows)), axis=1)


def _openvino(net: RRDBNet, precision: str, height: int, width: int) -> Runtime:
    import openvino

    from model.export.onnx_file import to_onnx

    if precision == "bf16" and fast_dtype(torch.device("cpu")) is not torch.bfloat16:
        raise NotHere("this CPU does not multiply bfloat16")
    core = openvino.Core()
    how = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    model = core.read_model(to_onnx(net, margin_px=0))
    model.reshape([1, 3, height, width])  # one size, which it can plan for
    run = core.compile_model(model, "CPU", how).create_infer_request().infer
    return _in_floats(
        lambda low_res: torch.from_numpy(run({INPUT: low_res.numpy()}, share_inputs=True, share_outputs=True)[OUTPUT])
    )


def _onnxruntime(net: RRDBNet, height: int, width: int) -> Runtime:
    import onnxruntime

    from model.export.onnx_file import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    for name, size in (("batch", 1), ("height", height), ("width", width)):
        options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(to_onnx(net, margin_px=0), options, ["CPUExecutionProvider"])
    return _in_floats(lambda low_res: torch.from_numpy(session.run([OUTPUT], {INPUT: low_res.numpy()})[0]))


def _ncnn(net: RRDBNet, *, bfloat16: bool) -> Runtime:
    import ncnn

    loaded = ncnn.Net()
    loaded.opt.num_threads = torch.get_num_threads()
    loaded.opt.use_vulkan_compute = False
    loaded.opt.use_bf16_storage = bfloat16
    with tempfile.TemporaryDirectory() as folder:
        param, weights = ncnn_pair.write_generator(net, Path(folder))
        if loaded.load_param(str(param)) or loaded.load_model(str(weights)):
            raise RuntimeError("ncnn does not load the generator that was written for it")

    def run(low_res: Tensor) -> Tensor:
        extractor: Any = loaded.create_extractor()
        extractor.input(ncnn_pair.INPUT, ncnn.Mat(low_res[0].numpy()))
        status, upscaled = extractor.extract(ncnn_pair.OUTPUT)
        if status:
            raise RuntimeError(f"ncnn failed with status {status}")
        return torch.from_numpy(numpy.array(upscaled))[None]

    return _in_floats(run)


def _in_floats(run: Callable[[Tensor], Tensor]) -> Runtime:
    """Wrap a call from float32 (N, 3, H, W) in [0, 1], NCHW, to the same."""

    @torch.inference_mode()
    def upscale(picture: Pixels) -> Pixels:
        low_res = torch.from_numpy(picture).permute(0, 3, 1, 2).float().contiguous().div_(255)
        upscaled = run(low_res).float().mul(255).round_().clamp_(0, 255).to(torch.uint8)
        pixels: Pixels = upscaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pixels

    return upscale
