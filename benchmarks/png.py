"""python -m benchmarks.png --folder PHOTOS: our PNG encoder next to those of Pillow, OpenCV, imagecodecs and libvips.

Photographs are encoded as they are, and four times larger as the network returns them, which is what the service sends.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy
from PIL import Image

from benchmarks.rig.networks import add_network_options, chosen_network
from benchmarks.rig.pictures import smooth_noise, square
from benchmarks.rig.png_encoders import REFERENCE, Encode, check, encoders
from benchmarks.rig.report import Report, add_record_option, print_progress
from model.device import best_device, fast_dtype
from model.transfer import Pixels
from model.upscaler import Upscaler

HEADS = ("encoder", "ms", "MB/s", "ms of a core", "speed against Pillow", "size against Pillow")


@dataclass(kw_only=True)
class Timing:
    """Time and size of one encoder, summed over a set of pictures."""

    rounds_s: list[float] = field(default_factory=list)
    cores_s: list[float] = field(default_factory=list)
    """CPU time of each round over all cores, which a busy machine changes less than its duration."""
    size_bytes: int = 0

    @property
    def seconds(self) -> float:
        """The median round."""
        return statistics.median(self.rounds_s)


def main() -> None:
    """Measure every encoder that is installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.png", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--folder", type=Path, help="photographs; else seeded noise")
    parser.add_argument("--pictures", type=int, default=8, help="number of pictures, spread over the folder")
    parser.add_argument("--side", type=int, default=256, help="px of their middle that goes through the network")
    parser.add_argument("--rounds", type=int, default=5)
    add_record_option(parser)
    options = parser.parse_args()

    with ExitStack() as stack:
        report = stack.enter_context(Report("png", options))
        installed = encoders(stack)
        for what, make in (("as they are", _photographs), ("upscaled", _upscaled)):
            pictures = list(make(options))
            megabytes = sum(picture.nbytes for picture in pictures) / 1e6
            setting = f"{len(pictures)} pictures {what}, {megabytes:.0f} MB, median of {options.rounds} rounds in turns"
            report.setting(setting, best_device())
            _print(report, measure(installed, pictures, options.rounds), megabytes)


def measure(encoders: Mapping[str, Encode], pictures: Sequence[Pixels], rounds: int) -> dict[str, Timing]:
    """Encode all pictures with each encoder in turns, so that a slow minute hits them alike; the first round warms up.

    Raises:
        ValueError: an encoder's file is read back as another picture.
    """
    measured = {name: Timing() for name in encoders}
    for turn in range(rounds + 1):
        for name, encode in encoders.items():
            began_s, core_began_s = time.perf_counter(), time.process_time()
            files = [encode(picture) for picture in pictures]
            seconds, core_s = time.perf_counter() - began_s, time.process_time() - core_began_s
            if turn:
                measured[name].rounds_s.append(seconds)
                measured[name].cores_s.append(core_s)
                continue
            measured[name].size_bytes = sum(map(len, files))
            for file, picture in zip(files, pictures, strict=True):
                check(name, file, picture)
    return measured


def _chosen(folder: Path, count: int) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    if not files:
        raise SystemExit(f"{folder} holds no JPEG, PNG or WebP file")
    return [files[n * len(files) // min(count, len(files))] for n in range(min(count, len(files)))]


def _photographs(options: argparse.Namespace) -> Iterator[Pixels]:
    if options.folder is None:
        yield smooth_noise(1024, 1024)[0]
        return
    for path in _chosen(options.folder, options.pictures):
        with Image.open(path) as image:
            yield numpy.asarray(image.convert("RGB"))


def _upscaled(options: argparse.Namespace) -> Iterator[Pixels]:
    network = chosen_network(options)
    upscaler = Upscaler(network.net, best_device(), fast_dtype(best_device()))
    for path in [None] if options.folder is None else _chosen(options.folder, options.pictures):
        print_progress(f"{path or 'noise'} through {network.name}")
        yield upscaler.upscale(square(path, options.side))[0]


def _print(report: Report, measured: Mapping[str, Timing], megabytes: float) -> None:
    reference = measured[REFERENCE]
    report.table(
        HEADS,
        [
            (
                name,
                f"{timing.seconds * 1e3:.0f}",
                f"{megabytes / timing.seconds:.0f}",
                f"{statistics.median(timing.cores_s) * 1e3:.0f}",
                f"{reference.seconds / timing.seconds:.2f} x",
                f"{timing.size_bytes / reference.size_bytes:.3f} x",
            )
            for name, timing in measured.items()
        ],
    )
    name, mine = list(measured.items())[-1]
    report.bar(f"{name}, speed against {REFERENCE}", reference.seconds / mine.seconds, at_least=8)
    report.bar(f"{name}, size against {REFERENCE}", mine.size_bytes / reference.size_bytes, at_most=1)
    print()


if __name__ == "__main__":
    main()
