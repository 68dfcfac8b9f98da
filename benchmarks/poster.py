"""python -m benchmarks.poster: peak memory of the service during pictures far larger than other tools accept.

Each height is sent as a JPEG over HTTP, and its answer is dropped as it arrives. The peak is Linux's figure for the
service's process (VmHWM), reset before each upload.
"""

import argparse
import io
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy
import torch
from PIL import Image

from benchmarks.rig.networks import add_network_options, write_models
from benchmarks.rig.pictures import smooth_noise
from benchmarks.rig.report import Report, add_record_option
from benchmarks.rig.servers import service_process

MIB = 2**20

LIMITS = {
    "ESRGAN_MAX_PICTURE_PX": 2**27,
    "ESRGAN_MAX_QUEUED_PX": 2**27,
    "ESRGAN_MAX_UPLOAD_BYTES": 2**28,
    "ESRGAN_WAIT_S": 24 * 3600,
    "ESRGAN_MAX_WAIT_S": 24 * 3600,
}
"""Settings that admit such pictures."""

FIRST_ROWS_BYTES = 2**12
"""Bytes of an answer after which its first rows have arrived."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Times and memory of one picture."""

    height: int
    peak_bytes: int
    """Peak memory of the service."""
    first_rows_s: float
    whole_s: float
    answer_bytes: int


def main() -> None:
    """Send a small picture, then one of each height."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.poster", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--width", type=int, default=8_000, help="px of all the pictures")
    parser.add_argument("--heights", type=int, nargs="+", default=[600, 6_000])
    add_record_option(parser)
    options = parser.parse_args()
    for name, value in LIMITS.items():
        os.environ[name] = str(value)
    with tempfile.TemporaryDirectory() as folder, Report("poster", options) as report:
        network = write_models(options, Path(folder))
        report.setting(f"{network.name}, pictures {options.width} px wide over HTTP", torch.device("cpu"))
        with service_process(Path(folder)) as (port, process):
            _send(port, process.pid, _jpeg(256, 256), network.net.config.scale)
            sent = [
                _send(port, process.pid, _jpeg(height, options.width), network.net.config.scale)
                for height in options.heights
            ]
        _print(report, options.width, network.net.config.scale, sent)


def _jpeg(height: int, width: int) -> bytes:
    file = io.BytesIO()
    some = smooth_noise(min(height, 500), width)
    Image.fromarray(numpy.resize(some[0], (height, width, 3))).save(file, "JPEG", quality=90)
    return file.getvalue()


def _send(port: int, process: int, upload: bytes, scale: int) -> Answer:
    """Upscale one upload.

    Raises:
        RuntimeError: the answer is not the PNG that it should be.
    """
    width, height = Image.open(io.BytesIO(upload)).size
    Path(f"/proc/{process}/clear_refs").write_text("5")  # resets the peak
    began_s, first_rows_s, received, head, end = time.perf_counter(), 0.0, 0, b"", b""
    with httpx.stream("POST", f"http://127.0.0.1:{port}/v1/upscale", content=upload, timeout=None) as answer:
        for part in answer.iter_raw():
            received += len(part)
            head, end = (head + part)[:24], (end + part)[-12:]
            if received >= FIRST_ROWS_BYTES and not first_rows_s:
                first_rows_s = time.perf_counter() - began_s
        size = tuple(int.from_bytes(head[at : at + 4]) for at in (16, 20))
        if not answer.is_success or size != (scale * width, scale * height) or end[4:8] != b"IEND":
            raise RuntimeError(f"{width} x {height} px: status {answer.status_code}, {head!r} ... {end!r}")
    return Answer(
        height=height,
        peak_bytes=_peak_bytes(process),
        first_rows_s=first_rows_s,
        whole_s=time.perf_counter() - began_s,
        answer_bytes=received,
    )


def _peak_bytes(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM"))
    return 1024 * int(peak.split()[1])


def _print(report: Report, width: int, scale: int, sent: list[Answer]) -> None:
    report.table(
        ("rows", "pixels made", "peak, MiB", "the picture, MiB", "first rows, s", "whole, s", "answer, MiB"),
        [
            [
                str(one.height),
                f"{scale**2 * width * one.height / 1e6:.0f} M",
                f"{one.peak_bytes / MIB:.0f}",
                f"{3 * width * one.height / MIB:.0f}",
                f"{one.first_rows_s:.1f}",
                f"{one.whole_s:.1f}",
                f"{one.answer_bytes / MIB:.0f}",
            ]
            for one in sent
        ],
    )
    low, high = min(sent, key=lambda one: one.height), max(sent, key=lambda one: one.height)
    grown_bytes, grown_px = high.peak_bytes - low.peak_bytes, width * (high.height - low.height)
    report.bar(
        f"growth of the peak in bytes per px of the upload, whose answer has {3 * scale**2}",
        grown_bytes / grown_px,
        at_most=10,
    )


if __name__ == "__main__":
    main()
