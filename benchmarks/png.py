"""python -m benchmarks.png --folder PHOTOS: our PNG encoder beside those of Pillow, OpenCV, imagecodecs and libvips.

Photographs are encoded as they are and as the network gives them back, four times larger: what the service sends.
"""

import argparse
import asyncio
import io
import os
import statistics
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy
from PIL import Image

from app.png.encoder import PngLayout, png_pieces
from app.png.filters import SampleArray
from benchmarks.networks import add_network_options, chosen_network
from benchmarks.pictures import smooth_noise, square
from benchmarks.tables import print_bar, print_progress, print_setting, print_table
from model.device import best_device, fast_dtype
from model.transfer import Pixels
from model.upscaler import Upscaler

Encode = Callable[[Pixels], bytes]

REFERENCE = "Pillow, level 1"
HEADS = ("encoder", "ms", "MB/s", "ms of a core", "speed against Pillow", "size against Pillow")


@dataclass(kw_only=True)
class Measured:
    """What one encoder took for a set of pictures, summed over them."""

    rounds_s: list[float] = field(default_factory=list)
    cores_s: list[float] = field(default_factory=list)
    """What the rounds took of all cores together, which a busy machine changes less than their duration."""
    size_bytes: int = 0

    @property
    def seconds(self) -> float:
        """The median round."""
        return statistics.median(self.rounds_s)


def main() -> None:
    """Measure every encoder that is here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.png", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--folder", type=Path, help="photographs; else seeded noise")
    parser.add_argument("--pictures", type=int, default=8, help="how many of them, spread over the folder")
    parser.add_argument("--side", type=int, default=256, help="px of their middle that goes through the network")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    with ExitStack() as stack:
        encoders = _encoders(stack)
        for what, make in (("as they are", _photographs), ("upscaled", _upscaled)):
            pictures = list(make(options))
            megabytes = sum(picture.nbytes for picture in pictures) / 1e6
            setting = f"{len(pictures)} pictures {what}, {megabytes:.0f} MB, median of {options.rounds} rounds in turns"
            print_setting(setting, best_device())
            _print(measure(encoders, pictures, options.rounds), megabytes)


def measure(encoders: Mapping[str, Encode], pictures: Sequence[Pixels], rounds: int) -> dict[str, Measured]:
    """Encode all pictures with each encoder in turns, so that a slow minute hits them alike; the first round warms up.

    Raises:
        ValueError: what an encoder wrote is read back as another picture.
    """
    measured = {name: Measured() for name in encoders}
    for turn in range(rounds + 1):
        for name, encode in encoders.items():
            began_s, core_began_s = time.perf_counter(), time.process_time()
            files = [encode(picture) for picture in pictures]
            seconds, core_s = time.perf_counter() - began_s, time.process_time() - core_began_s
            if turn:
                measured[name].rounds_s.append(seconds)
                measured[name].cores_s.append(core_s)
            else:
                _check(name, files, pictures)
                measured[name].size_bytes = sum(map(len, files))
    return measured


def ours(pool: ThreadPoolExecutor, threads: int) -> Encode:
    """The service's encoder, given a whole picture."""

    async def rows(picture: Pixels) -> AsyncIterator[SampleArray]:
        yield picture

    async def encoded(picture: Pixels) -> bytes:
        height, width, channels = picture.shape
        layout = PngLayout(width=width, height=height, channels=channels, bits=8)
        return b"".join([piece async for piece in png_pieces(layout, rows(picture), pool, ahead=threads)])

    loop = asyncio.new_event_loop()  # one for all pictures, as in the service

    def encode(picture: Pixels) -> bytes:
        return loop.run_until_complete(encoded(picture))

    weakref.finalize(encode, loop.close)
    return encode


def _encoders(stack: ExitStack) -> dict[str, Encode]:
    """Every encoder that is installed, by name."""
    encoders: dict[str, Encode] = {REFERENCE: partial(_pillow, level=1), "Pillow, its default": _pillow}
    with suppress(ModuleNotFoundError):
        import cv2

        encoders["OpenCV, its default"] = lambda picture: cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    with suppress(ModuleNotFoundError):
        import imagecodecs

        encoders["imagecodecs, libpng, level 1"] = lambda picture: bytes(imagecodecs.png_encode(picture, level=1))
        encoders["imagecodecs, libspng, level 1"] = lambda picture: bytes(imagecodecs.spng_encode(picture, level=1))
    with suppress(ModuleNotFoundError, OSError):  # OSError: without libvips itself
        import pyvips

        def vips(picture: Pixels, **options: object) -> bytes:
            return bytes(pyvips.Image.new_from_array(picture).pngsave_buffer(compression=1, **options))

        encoders["libvips, level 1"] = vips
        encoders["libvips, level 1, all filters"] = partial(vips, filter="all")
    for threads in sorted({1, os.cpu_count() or 1}):
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        encoders[f"ours, {threads} thread{'s' if threads > 1 else ''}"] = ours(pool, threads)
    return encoders


def _pillow(picture: Pixels, level: int = 6) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=level)
    return file.getvalue()


def _check(name: str, files: Sequence[bytes], pictures: Sequence[Pixels]) -> None:
    for file, picture in zip(files, pictures, strict=True):
        with Image.open(io.BytesIO(file)) as image:
            if not numpy.array_equal(numpy.asarray(image.convert("RGB")), picture):
                raise ValueError(f"{name} wrote another picture than it was given")


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


def _print(measured: Mapping[str, Measured], megabytes: float) -> None:
    reference = measured[REFERENCE]
    print_table(
        HEADS,
        [
            (
                name,
                f"{it.seconds * 1e3:.0f}",
                f"{megabytes / it.seconds:.0f}",
                f"{statistics.median(it.cores_s) * 1e3:.0f}",
                f"{reference.seconds / it.seconds:.2f} x",
                f"{it.size_bytes / reference.size_bytes:.3f} x",
            )
            for name, it in measured.items()
        ],
    )
    name, mine = list(measured.items())[-1]
    print_bar(f"{name}, speed against {REFERENCE}", reference.seconds / mine.seconds, at_least=8)
    print_bar(f"{name}, size against {REFERENCE}", mine.size_bytes / reference.size_bytes, at_most=1)
    print()


if __name__ == "__main__":
    main()
