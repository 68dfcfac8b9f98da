"""Stages that start the service: as it is, and with a device that is lost. They need its packages."""

import io
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image

from app.lifecycle import DEVICE_LOST_STATUS
from benchmarks.acceptance.record import Record
from benchmarks.rig.pictures import smooth_noise
from benchmarks.rig.servers import service_process

MAX_START_S = 120.0
"""Most seconds from the start to ready, with no kernel compiled yet."""


def serve(record: Record, models: Path, device: str, sizes: list[tuple[int, int]], log: Path) -> None:
    """Start the service, upscale pictures of some sizes and read its metrics."""
    began_s = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as kernels,
        service_process(models, environment={"ESRGAN_DEVICE": device, "TRITON_CACHE_DIR": kernels}, log=log) as (
            port,
            _,
        ),
        _caller(port) as caller,
    ):
        seconds = time.perf_counter() - began_s
        record.check("is ready", seconds < MAX_START_S, f"in {MAX_START_S:.0f} s, with a cold cache", s=seconds)
        for height, width in sizes:
            upload = _png(height, width)
            best_s, size = float("inf"), (0, 0)
            for _ in range(3):
                began_s = time.perf_counter()
                answer = caller.post("/v1/upscale", content=upload).raise_for_status()
                best_s = min(best_s, time.perf_counter() - began_s)
                size = Image.open(io.BytesIO(answer.content)).size
            rate = height * width / best_s / 1e6
            record.check(f"{width} x {height}", size == (4 * width, 4 * height), s=best_s, LR_Mpx_per_s=rate)
        metrics = caller.get("/metrics")
        how = [line for line in metrics.text.splitlines() if line.startswith(("esrgan_model_info", "esrgan_rescues_"))]
        right = metrics.is_success and all(
            f'device="{device.partition(":")[0]}"' in line for line in how if "model_info" in line
        )
        record.check("metrics name the device", right, " ".join(how))


def lose(record: Record, models: Path, device: str, log: Path) -> None:
    """Lose the device under the service: the caller gets 503, the process ends with its status."""
    losing = "benchmarks.acceptance.losing"
    with service_process(models, module=losing, environment={"ESRGAN_DEVICE": device}, log=log) as (port, process):
        with _caller(port) as caller:
            began_s = time.perf_counter()
            answer = caller.post("/v1/upscale", content=_png(32, 32))
            seconds = time.perf_counter() - began_s
            record.check("the caller gets 503", answer.status_code == 503, s=seconds, status=answer.status_code)
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            status = 0
        text = f"with {DEVICE_LOST_STATUS}, so that a supervisor restarts it"
        record.check("the process ends", status == DEVICE_LOST_STATUS, text, status=status)


def _caller(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)


def _png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(smooth_noise(height, width)[0]).save(file, "PNG")
    return file.getvalue()
