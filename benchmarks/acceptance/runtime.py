"""Stages that run the network in this process: environment, ceilings, network, profile, memory."""

import copy
import math
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch.nn import functional

from benchmarks.acceptance.record import Record
from benchmarks.rig.pictures import smooth_noise
from model.convolutions.library import library_convolution
from model.gpu import why_unusable
from model.psnr import psnr_db
from model.reliable import load
from model.rrdb import RRDBNet
from model.transfer import Pixels
from model.upscaler import Upscaler

MIN_DB = {torch.float32: 80.0, torch.float16: 52.0, torch.bfloat16: 45.0}
"""Minimum PSNR of a network in each number format, against float32 on the CPU."""

ROUNDED_DB = 55.0
"""The same for pictures of 16 bits, compared with the result of 8 bits: its rounding alone gives 58.9."""

MAX_FIRST, MAX_PADDED = 5.0, 1.3
"""Maximum cost of the first picture of a size, and of a batch of different sizes, relative to one of known, equal
size."""

MIN_SHARE = 0.25
"""Minimum share of the matrix product's rate; the goal is 0.6."""

MAX_NETWORK_BYTES = 2 * 2**30
"""The shipped networks have to fit into ESRGAN_MAX_MODEL_BYTES together."""


class Runtime:
    """A network on the device of the run.

    Args:
        small: tiny pictures and products, for a rehearsal on a CPU.
    """

    def __init__(self, record: Record, net: RRDBNet, device: torch.device, *, small: bool) -> None:
        self._record, self._net, self._device, self._small = record, net, device, small
        self._on_gpu = device.type == "cuda"
        gpu_formats = (torch.float16, torch.bfloat16, torch.float32)
        self._formats = gpu_formats if self._on_gpu else (torch.float32,)

    def environment(self) -> None:
        """Record versions; check the GPU, that this build has code for it, and that float32 is not TF32."""
        check, versions = self._record.check, {"python": platform.python_version(), "cuda": str(torch.version.cuda)}
        for package in ("torch", "triton", "numpy"):
            with suppress(PackageNotFoundError):
                versions[package] = version(package)
        if not self._on_gpu:
            check("rehearsal on the CPU", None, **versions)
        else:
            properties = torch.cuda.get_device_properties(self._device)
            why = why_unusable(self._device)
            check(
                "the GPU can be used",
                why is None,
                why or "",
                gpu=properties.name,
                capability=f"{properties.major}.{properties.minor}",
                multiprocessors=properties.multi_processor_count,
                memory_GB=properties.total_memory / 1e9,
                cudnn=str(torch.backends.cudnn.version()),
                **versions,
            )
        self._upscaler(torch.float32)
        window, weight = torch.rand(1, 64, 32, 32), torch.rand(64, 64, 3, 3) - 0.5
        exact = functional.conv2d(window.double(), weight.double())
        made = functional.conv2d(window.to(self._device), weight.to(self._device)).cpu()
        error = float((made - exact).abs().max() / exact.abs().max())
        check("float32 is float32", error < 1e-5, "TF32 is off by about 3e-4", error=error)

    def ceilings(self) -> None:
        """Measure upper bounds: the rates of a matrix product and of copies."""
        side, size = (256, 2**20) if self._small else (8192, 2**30)
        for dtype in self._formats[:2]:
            one, other = (torch.randn(side, side, device=self._device).to(dtype) for _ in range(2))
            seconds = self._seconds(partial(torch.mm, one, other))
            self._record.check(_name(dtype), None, TFLOPs=2 * side**3 / seconds / 1e12)
        source = torch.empty(size, dtype=torch.uint8, device=self._device)
        target = torch.empty_like(source)
        self._record.check("copy", None, GBs=2 * size / self._seconds(partial(target.copy_, source)) / 1e9)
        host = torch.empty(size // 16, dtype=torch.uint8, pin_memory=self._on_gpu)
        call = partial(host.copy_, source[: size // 16])
        self._record.check("copy to the host", None, GBs=host.numel() / self._seconds(call) / 1e9)

    def network(self) -> None:
        """Check the numbers and measure the speed of every way through the network, in each number format."""
        side = 24 if self._small else 96
        exact = Upscaler(copy.deepcopy(self._net), torch.device("cpu"), torch.float32).upscale(smooth_noise(side, side))
        upscalers = []
        for dtype in self._formats:
            began_s = time.perf_counter()
            upscalers.append(self._upscaler(dtype))
            seconds, convolution = time.perf_counter() - began_s, upscalers[-1].convolution
            self._record.check(f"{_name(dtype)} is set up", None, s=seconds, convolution=convolution)
            self.numbers(upscalers[-1], exact)
        if self._on_gpu and torch.cuda.get_device_capability(self._device) >= (8, 0):
            self._kernel()
        for upscaler in upscalers:
            self._speed(upscaler)

    def profile(self, table: Path) -> None:
        """Measure what takes the time of a large picture in the first format, and write all of it to a file."""
        upscaler, side = self._upscaler(self._formats[0]), 32 if self._small else 512
        picture = smooth_noise(side, side)
        seconds = self._seconds(partial(upscaler.batch, [picture]), warm=2)
        with torch.profiler.profile() as found:
            upscaler.batch([picture])
            self._wait()
        rows, kind = found.key_averages(), "device" if self._on_gpu else "cpu"
        table.write_text(rows.table(sort_by=f"self_{kind}_time_total", row_limit=40), encoding="utf-8")
        own = "CUDA" if self._on_gpu else "CPU"
        taken = {
            row.key: (getattr(row, f"self_{kind}_time_total"), row.count)
            for row in rows
            if row.device_type.name == own  # a GPU's kernels also count for the calls that launched them
        }
        total = sum(microseconds for microseconds, _ in taken.values())
        name = f"{side} x {side} in {_name(upscaler.dtype)}"
        self._record.check(name, None, f"all of it in {table.name}", ms=1e3 * seconds, busy_ms=total / 1e3)
        for key in sorted(taken, key=lambda key: taken[key], reverse=True)[:6]:
            microseconds, calls = taken[key]
            self._record.check(key[:60], None, ms=microseconds / 1e3, share=microseconds / total, calls=calls)

    def memory(self, weights: Path) -> None:
        """Measure the memory that a network keeps, and upscale a picture that does not fit."""
        upscaler, _ = load(weights, self._device)
        picture = smooth_noise(*((40, 40) if self._small else (900, 900)))
        expected = upscaler.batch([picture])[0]
        held = upscaler.memory_bytes
        size = f"{picture.shape[2]} x {picture.shape[1]} px"
        text = f"under {MAX_NETWORK_BYTES / 1e9:.1f} GB, after {size}"
        self._record.check("kept by one network", held < MAX_NETWORK_BYTES, text, GB=held / 1e9, **self._peak())
        ballast = None
        if self._on_gpu:
            torch.cuda.empty_cache()
            spare = int(torch.cuda.mem_get_info(self._device)[0] - 1.5e9)
            ballast = torch.empty(max(0, spare), dtype=torch.uint8, device=self._device)
        larger = numpy.concatenate([picture, picture], axis=1)
        made = upscaler.batch([larger])[0][:, : expected.shape[1] // 2]
        del ballast
        decibel = psnr_db(made, expected[:, : made.shape[1]])
        retries = str(dict(upscaler.retries) or "none")
        text = "over 45 dB, however little memory is left"
        self._record.check("a picture in scarce memory", decibel > 45, text, dB=decibel, rescues=retries)

    def numbers(self, upscaler: Upscaler, exact: Pixels) -> None:
        """Compare every way through an upscaler with the exact result for `smooth_noise` of that size."""
        side = exact.shape[1] // upscaler.scale
        picture, other = smooth_noise(side, side), smooth_noise(side - 5, side - 9, seed=1)
        deep = picture.astype(numpy.uint16) * numpy.uint16(257)
        ways: dict[str, Callable[[], NDArray[Any]]] = {
            "first": lambda: upscaler.batch([picture])[0],
            "captured": lambda: upscaler.batch([picture])[0],
            "replayed": lambda: upscaler.batch([picture])[0],
            "padded": lambda: upscaler.batch([other, picture])[1],
            "as a stream": lambda: upscaler.upscale(picture),
            "of 16 bits": lambda: upscaler.batch([deep])[0] / 257.0,
        }
        for way, call in ways.items():
            decibel = psnr_db(call(), exact)
            least = min(MIN_DB[upscaler.dtype], ROUNDED_DB if way == "of 16 bits" else math.inf)
            self._record.check(f"{_name(upscaler.dtype)} {way}", decibel > least, f"over {least:.0f} dB", dB=decibel)

    def _speed(self, upscaler: Upscaler) -> None:
        name, sides = _name(upscaler.dtype), (16, 32) if self._small else (64, 128, 256, 512, 1024)
        best, flop_per_px = 0.0, 2 * self._net.config.macs_per_low_res_px
        for side in sides:
            picture = smooth_noise(side, side)
            upscaler.batch([picture])
            upscaler.batch([picture])
            rate = side**2 / self._seconds(partial(upscaler.batch, [picture]))
            best = max(best, rate)
            figures = {"LR_Mpx_per_s": rate / 1e6, "TFLOPs": rate * flop_per_px / 1e12, **self._peak()}
            self._record.check(f"{name} {side} x {side}", None, "", **figures)
        odd = smooth_noise(sides[1] - 7, sides[1] - 5)
        first_s = self._seconds(partial(upscaler.batch, [odd]), rounds=1)
        known_s = self._seconds(partial(upscaler.batch, [odd]))
        passed = first_s < MAX_FIRST * known_s if self._on_gpu else None
        self._record.check(
            f"{name} new size", passed, f"under {MAX_FIRST} times a known one", first_s=first_s, s=known_s
        )
        even = [smooth_noise(sides[1], sides[1], seed) for seed in range(6)]
        mixed = [smooth_noise(sides[1] - seed, sides[1] - 2 * seed, seed) for seed in range(6)]
        even_s, mixed_s = (self._seconds(partial(upscaler.batch, batch), warm=2) for batch in (even, mixed))
        passed = mixed_s < MAX_PADDED * even_s if self._on_gpu else None
        self._record.check(f"{name} padded batch", passed, f"under {MAX_PADDED} times", even_s=even_s, mixed_s=mixed_s)
        poster = smooth_noise(*((64, 32) if self._small else (2048, 2048)))
        for rows in (16, 32) if self._small else (32, 64, 256, 512):
            seconds = self._seconds(lambda rows=rows: sum(map(len, upscaler.stream(poster, rows))), rounds=1)  # type: ignore[misc]  # the default binds the loop's value
            self._record.check(f"{name} bands of {rows}", None, LR_Mpx_per_s=poster[..., 0].size / seconds / 1e6)
        peak = self._record.figure("ceilings", name, "TFLOPs")
        if peak:
            share = best * flop_per_px / 1e12 / peak
            passed = share > MIN_SHARE if self._on_gpu else None
            self._record.check(f"{name} share of the matrix product's rate", passed, f"over {MIN_SHARE}", share=share)

    def _kernel(self) -> None:
        """Compare our kernel with cuDNN, as the network runs them."""
        ours = self._upscaler(torch.float16)
        library = Upscaler(copy.deepcopy(self._net), self._device, torch.float16, library_convolution)
        picture = smooth_noise(512, 512)
        ours_s, library_s = (self._seconds(partial(up.batch, [picture]), warm=2) for up in (ours, library))
        self._record.check(
            "our kernel runs and is faster than cuDNN",
            ours.convolution == "fused" and ours_s < library_s,
            "else see the log: no compiler, a folder that is not writable, wrong numbers",
            convolution=ours.convolution,
            ours_s=ours_s,
            library_s=library_s,
        )

    def _upscaler(self, dtype: torch.dtype) -> Upscaler:
        return Upscaler(copy.deepcopy(self._net), self._device, dtype)

    def _peak(self) -> dict[str, float]:
        if not self._on_gpu:
            return {}
        peak = torch.cuda.max_memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return {"peak_GB": peak / 1e9}

    def _seconds(self, call: Callable[[], object], *, rounds: int = 3, warm: int = 0) -> float:
        """Return the time of the best round, until the device is done."""
        best = math.inf
        for _ in range(warm):
            call()
        for _ in range(rounds):
            self._wait()
            began_s = time.perf_counter()
            call()
            self._wait()
            best = min(best, time.perf_counter() - began_s)
        return best

    def _wait(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self._device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
