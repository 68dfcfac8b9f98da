"""python -m benchmarks.decoders FOLDER: compare our decoder with others on every file of a folder.

Each file goes the whole way: header, decoder, a network that doubles every pixel, PNG, and back. This runs in its own
process with limits of memory and time, so a file that crashes or hangs it becomes a line of the table. Prints wrong
results, and refusals by status and reason with an example file each.

Pillow's own test pictures are a good folder: `pip download pillow --no-deps --no-binary pillow`, then `Tests/images`.
"""

import argparse
import asyncio
import multiprocessing
import os
import re
import resource
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import pyvips
import torch

from app.errors import ServiceError
from app.pictures.decode import decode, prepare_decoders, read_header
from app.pictures.encode import FORMATS, encoded
from app.pictures.layout import layout_of
from app.pictures.limits import limits_of
from app.pictures.picture import Picture, Pixels
from app.pictures.postprocess import Postprocessor
from app.settings import Settings
from benchmarks.rig import reference_decoders
from benchmarks.rig.machine import process_status, reset_peak_memory
from benchmarks.rig.reference_decoders import REFERENCE_DECODERS, difference
from benchmarks.rig.report import Report, add_record_option
from model.pictures.limits import Limits
from training.data import folder_name

AGREED = 2.0
"""Largest difference, in 8-bit levels, at which two decoders agree."""

MAX_PX = 2**20
"""Larger pictures are decoded but not encoded."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Result of one file."""

    outcome: str
    """right; wrong; alone (no other decoder reads it); unjudged (no other decoder can tell); refused; crash."""
    reason: str = ""
    readers: Sequence[str] = ()
    """Other decoders that read it."""
    seconds: float = 0.0
    peak_bytes: int = 0
    """Peak memory of the process above its level before the file."""


def main() -> None:
    """Compare the decoders and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0, help="time limit of one step of a file")
    parser.add_argument("--memory-gib", type=float, default=12.0, help="address space of the process")
    add_record_option(parser)
    options = parser.parse_args()
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())
    with Report("decoders", options) as report:
        report.setting(f"{len(files)} files of {folder_name(options.folder)}", torch.device("cpu"))
        report_verdicts(report, dict(judged(files, options.seconds, round(options.memory_gib * 2**30))))


def report_verdicts(report: Report, verdicts: dict[Path, Verdict]) -> None:
    """Print the files that are not right, the refusals by reason, and the count of each outcome."""
    suspect = {path: said for path, said in verdicts.items() if said.outcome not in ("right", "refused")}
    rows = [
        (path.name, said.outcome, said.reason, f"{said.seconds:.1f}", f"{said.peak_bytes / 2**20:.0f}")
        for path, said in suspect.items()
    ]
    report.table(("file", "outcome", "why", "s", "MiB"), rows)
    refused: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, said in verdicts.items():
        if said.outcome == "refused":
            refused[re.sub(r"\d+", "N", said.reason[4:]), ", ".join(said.readers)].append(said.reason[:4] + path.name)
    grouped = [(reason, readers, str(len(names)), names[0]) for (reason, readers), names in sorted(refused.items())]
    report.table(("refused because", "read by", "files", "for one"), grouped)
    slowest = max(verdicts.values(), key=lambda said: said.seconds, default=Verdict(outcome=""))
    largest = max(verdicts.values(), key=lambda said: said.peak_bytes, default=Verdict(outcome=""))
    counts = Counter(said.outcome for said in verdicts.values())
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))
    print(
        f"at most {slowest.seconds:.1f} s and {largest.peak_bytes / 2**20:.0f} MiB for a file to be decoded or refused"
    )


def judged(files: Sequence[Path], max_s: float, memory_bytes: int) -> Iterator[tuple[Path, Verdict]]:
    """Yield the verdict on each file.

    Args:
        max_s: time limit of one step of a file.
        memory_bytes: address space of the process that decodes.
    """
    spawn = multiprocessing.get_context("spawn")
    process, line = None, None
    for path in files:
        if process is None or line is None:
            line, other = spawn.Pipe()
            process = spawn.Process(target=_judge, args=(other, memory_bytes), daemon=True)
            process.start()
            other.close()
        line.send(path)
        step, verdict = "our decoder", Verdict(outcome="crash")
        try:
            while step:
                if not line.poll(max_s):
                    raise TimeoutError(f"nothing for {max_s:.0f} s")
                step, verdict = line.recv()
        except (EOFError, ConnectionResetError, TimeoutError) as error:
            if verdict.outcome != "refused":
                outcome = "unjudged" if step in REFERENCE_DECODERS else "crash"
                verdict = replace(verdict, outcome=outcome, reason=f"in {step}: {type(error).__name__} {error}")
            process.kill()
            process.join()
            process = None
        yield path, verdict


def _judge(line: Connection, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C libraries complain there
    warnings.simplefilter("ignore")
    prepare_decoders()
    limits = limits_of(Settings())
    while True:
        upload = line.recv().read_bytes()
        picture, verdict = _decoded(upload, limits)
        if picture is not None and verdict.outcome == "right":
            line.send(("our encoder", verdict))
            if (off := _off_in_answer(picture)) > 0:
                verdict = replace(verdict, outcome="wrong", reason=f"the answer is off by {off:.1f} levels")
        line.send(("", _against_others(upload, picture, verdict, line)))


def _decoded(upload: bytes, limits: Limits) -> tuple[Picture | None, Verdict]:
    reset_peak_memory(os.getpid())
    before, began_s, picture = process_status(os.getpid(), "VmRSS"), time.perf_counter(), None
    verdict = Verdict(outcome="right")
    try:
        header = read_header(upload, limits)
        picture = decode(upload, limits)
        if sorted((header.height, header.width)) != sorted((picture.height, picture.width)):
            verdict = Verdict(outcome="wrong", reason="another size in the header")
        if header.bits != picture.bits or header.planes < len(picture.planes):
            verdict = Verdict(outcome="wrong", reason="the header promises less than the file has")
    except ServiceError as error:
        verdict = Verdict(outcome="refused", reason=f"{error.status} {error.detail}")
    except Exception:
        verdict = Verdict(outcome="crash", reason=traceback.format_exc(limit=-2))
    took_s = time.perf_counter() - began_s
    return picture, replace(verdict, seconds=took_s, peak_bytes=process_status(os.getpid(), "VmHWM") - before)


def _off_in_answer(picture: Picture) -> float:
    """Return the largest error, in 8-bit levels, of the PNG made from the doubled picture."""
    if picture.width * picture.height > MAX_PX:
        return 0.0
    layout = layout_of(picture, FORMATS["png"], height=2 * picture.height, width=2 * picture.width)
    finish = Postprocessor(picture, 2, layout)

    async def rows() -> AsyncIterator[Pixels]:
        yield finish.rows(picture.planes.repeat(2, axis=1).repeat(2, axis=2))

    async def whole() -> bytes:
        with ThreadPoolExecutor(1) as pool:
            return b"".join([piece async for piece in encoded(rows(), layout, pool)])

    seen = pyvips.Image.pngload_buffer(asyncio.run(whole()), fail_on="error")
    pixels = seen.numpy().reshape(seen.height, seen.width, seen.bands)[::2, ::2]
    return difference(picture, pixels)


def _against_others(upload: bytes, picture: Picture | None, verdict: Verdict, line: Connection) -> Verdict:
    differences: dict[str, float] = {}
    too_large = picture is not None and picture.width * picture.height > reference_decoders.MAX_PX
    unclear = too_large
    for name, decoder in () if too_large else REFERENCE_DECODERS.items():
        line.send((name, verdict))
        try:
            seen = decoder(upload)
        except Exception:
            continue  # it does not read it
        unclear = unclear or seen is None
        if seen is not None:
            differences[name] = 0.0 if picture is None else difference(picture, seen)
    verdict = replace(verdict, readers=list(differences))
    if verdict.outcome != "right" or min(differences.values(), default=float("inf")) <= AGREED:
        return verdict
    said = ", ".join(f"{name} is off by {off:.1f}" for name, off in differences.items())
    return replace(verdict, outcome="wrong" if said else "unjudged" if unclear else "alone", reason=said)


if __name__ == "__main__":
    main()
