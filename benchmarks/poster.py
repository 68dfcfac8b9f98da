"""python -m benchmarks.poster: peak memory of the service during pictures far larger than other tools accept.

Each height is sent as a JPEG over HTTP, and its answer is dropped as it arrives. The peak is Linux's figure for the
service's process (VmHWM), reset before each upload. `--queries scale=4 scale=2` compares parameters.
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

from benchmarks.rig.machine import process_status, reset_peak_memory
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
"""Settings that allow such pictures."""

ERROR_BYTES = 500
"""Bytes of a refusal that are reported."""

FIRST_ROWS_BYTES = 2**12
"""Bytes of an answer after which its first rows have arrived."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Times and memory of one picture."""

    query: str
    """Parameters of the request."""
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
    parser.add_argument("--queries", nargs="+", default=[""], help="parameters; each height is sent with each of them")
    add_record_option(parser)
    options = parser.parse_args()
    for name, value in LIMITS.items():
        os.environ[name] = str(value)
    with tempfile.TemporaryDirectory() as folder, Report("poster", options) as report:
        network = write_models(options, Path(folder))
        report.setting(f"{network.name}, pictures {options.width} px wide over HTTP", torch.device("cpu"))
        with service_process(Path(folder)) as (port, process):
            _send(port, process.pid, _jpeg(256, 256), "")
            sent = [
                _send(port, process.pid, _jpeg(height, options.width), query)
                for query in options.queries
                for height in options.heights
            ]
        _print(report, options.width, sent)


def _jpeg(height: int, width: int) -> bytes:
    file = io.BytesIO()
    some = smooth_noise(min(height, 500), width)
    Image.fromarray(numpy.resize(some[0], (height, width, 3))).save(file, "JPEG", quality=90)
    return file.getvalue()


def _send(port: int, process: int, upload: bytes, query: str) -> Answer:
    """Upscale one upload.

    Raises:
        RuntimeError: there is no whole answer.
    """
    width, height = Image.open(io.BytesIO(upload)).size
    reset_peak_memory(process)
    began_s, first_rows_s, received, end = time.perf_counter(), 0.0, 0, b""
    url = f"http://127.0.0.1:{port}/v1/upscale?{query}"
    with httpx.stream("POST", url, content=upload, timeout=None, trust_env=False) as answer:
        for part in answer.iter_raw():
            received += len(part)
            end = (end + part)[-ERROR_BYTES:]
            if received >= FIRST_ROWS_BYTES and not first_rows_s:
                first_rows_s = time.perf_counter() - began_s
        is_png = answer.headers["content-type"] == "image/png"
        if not answer.is_success or (is_png and end[-8:-4] != b"IEND"):
            raise RuntimeError(f"{width} x {height} px with {query!r}: status {answer.status_code}, {end!r}")
    return Answer(
        query=query,
        height=height,
        peak_bytes=process_status(process, "VmHWM"),
        first_rows_s=first_rows_s,
        whole_s=time.perf_counter() - began_s,
        answer_bytes=received,
    )


def _print(report: Report, width: int, sent: list[Answer]) -> None:
    report.table(
        ("parameters", "rows", "peak, MiB", "the picture, MiB", "first rows, s", "whole, s", "answer, MiB"),
        [
            [
                one.query,
                str(one.height),
                f"{one.peak_bytes / MIB:.0f}",
                f"{3 * width * one.height / MIB:.0f}",
                f"{one.first_rows_s:.1f}",
                f"{one.whole_s:.1f}",
                f"{one.answer_bytes / MIB:.0f}",
            ]
            for one in sent
        ],
    )
    by_query: dict[str, list[Answer]] = {}
    for one in sent:
        by_query.setdefault(one.query, []).append(one)
    peaks = {query: max(one.peak_bytes for one in answers) for query, answers in by_query.items()}
    first, *others = peaks
    low, high = (choose(by_query[first], key=lambda one: one.height) for choose in (min, max))
    if low is not high:
        grown_bytes, grown_px = high.peak_bytes - low.peak_bytes, width * (high.height - low.height)
        report.bar("growth of the peak in bytes per px of the upload", grown_bytes / grown_px, at_most=10)
    for query in others:
        report.bar(f"peak with {query} over that with {first}", peaks[query] / peaks[first], at_most=1.2)


if __name__ == "__main__":
    main()
