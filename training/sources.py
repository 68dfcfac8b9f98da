"""The photographs of a run: those of a folder that can be used, as a source of batches; and those to measure on."""

import hashlib
import os
import re
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from model.machine import available_bytes
from training.cache import PictureCache
from training.config import TrainingConfig
from training.crop_sources import (
    Canvas,
    DecodedPhotographs,
    DegradedCrops,
    PhotographFile,
    Read,
    Report,
    StreamedPhotographs,
    read_high_res,
    read_low_res,
)
from training.crops import CropPlan, CropSource
from training.data import READ_ERRORS, DataError, read_picture, unreadable
from training.degrade import shrink_bicubic
from training.distributed import processes, this_process
from training.pairs import PairFiles, PictureSet, read_pair_size
from training.uploads import GRID_PX

MAX_HELD_OUT = 10
MIN_PHOTOGRAPHS = 10
"""Minimum photographs of a folder per photograph that is held out."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "esrgan-serve" / "pictures"
"""Default folder for decoded pictures that do not fit into memory."""

_TILE = re.compile(r"(?:[-_]s?\d{1,3}){1,2}$", re.IGNORECASE)
"""The number of a tile or a frame at the end of a name: `castle_0`, `0001_s012`, `castle_2_3`. Counters of cameras have
four digits and more."""


@dataclass(frozen=True)
class Photographs:
    """The pictures of a run, as a source of batches."""

    crops: CropSource
    number: int
    fingerprint: str
    """Fingerprint of the names, sizes and number of the pictures, which decide the draw of every crop."""


HeldOutNames = dict[str, list[str]]
"""`measured` and `left_out` of `HeldOut` as paths within the folder, for the state of a run."""


@dataclass(frozen=True)
class HeldOut:
    """Pictures of a folder that are kept aside to measure on."""

    measured: tuple[PairFiles, ...]
    left_out: frozenset[Path]
    """Originals that must not be learnt from: those that are measured, and the other tiles of the same photographs."""

    def names(self, folder: Path) -> HeldOutNames:
        """Return what `hold_out` needs to choose the same pictures again."""
        return {
            "measured": [_relative(files.high_res, folder) for files in self.measured],
            "left_out": sorted(_relative(path, folder) for path in self.left_out),
        }


def hold_out(
    pictures: PictureSet,
    report: Report,
    before: HeldOutNames | None = None,
    *,
    measurable: Callable[[PairFiles], bool],
) -> HeldOut:
    """Choose pictures to measure on, where no others are given: a tenth of the photographs, at most `MAX_HELD_OUT`.

    Tiles of one photograph, which have its name and a number, are never on both sides. The choice depends on the names
    of those that can be measured.

    Args:
        before: the choice of the continued run, kept even if pictures are added or removed.
        measurable: tells whether a picture can be measured; asked only for those that may be chosen.
    """
    if before and (same := _held_out_before(pictures, before)).measured:
        return same

    def rank(files: PairFiles) -> bytes:
        return hashlib.sha256(os.fsencode(_relative(files.high_res, pictures.folder))).digest()

    families = _photographs(pictures, report)
    ranked = sorted((sorted(family, key=rank) for family in families), key=lambda family: rank(family[0]))
    number = min(MAX_HELD_OUT, len(ranked) // MIN_PHOTOGRAPHS)
    if not number:
        report(
            f"{pictures.folder} holds {len(ranked)} different photographs, and {MIN_PHOTOGRAPHS} are needed to keep "
            "one aside"
        )
    usable = ((family, tiles) for family in ranked if (tiles := [files for files in family if measurable(files)]))
    chosen = list(islice(usable, number))
    turns = (tiles[turn] for turn in range(MAX_HELD_OUT) for _, tiles in chosen if turn < len(tiles))
    measured = tuple(islice(turns, MAX_HELD_OUT))
    return HeldOut(measured, frozenset(files.high_res for family, _ in chosen for files in family))


def _held_out_before(pictures: PictureSet, before: HeldOutNames) -> HeldOut:
    known = {_relative(files.high_res, pictures.folder): files for files in pictures.files}
    measured, left_out = ([known[name] for name in before[side] if name in known] for side in ("measured", "left_out"))
    return HeldOut(tuple(measured), frozenset(files.high_res for files in left_out))


def _photographs(pictures: PictureSet, report: Report) -> list[list[PairFiles]]:
    """Put tiles of one photograph together, unless too few photographs would be left to keep one aside."""
    families: dict[str, list[PairFiles]] = defaultdict(list)
    for files in pictures.files:
        families[_TILE.sub("", _relative(files.high_res, pictures.folder).rsplit(".", 1)[0])].append(files)
    if len(families) >= MIN_PHOTOGRAPHS or len(pictures.files) < MIN_PHOTOGRAPHS:
        return list(families.values())
    report(
        f"{pictures.folder}: by their names the {len(pictures.files)} pictures could be tiles of fewer than "
        f"{MIN_PHOTOGRAPHS} photographs. Each counts as a photograph; if they are tiles, the run learns from the "
        "surroundings of those that it measures, so name other pictures by --validation"
    )
    return [[files] for files in pictures.files]


def open_photographs(
    pictures: PictureSet,
    config: TrainingConfig,
    device: torch.device,
    *,
    leave_out: Collection[Path] = frozenset(),
    max_bytes: int | None = None,
    cache: Path | None = None,
    workers: int = 4,
    report: Report,
) -> Photographs:
    """Check every picture of a set, and decode all on the device if they fit, else into a cache on the disk.

    Args:
        leave_out: originals that are not to be learnt from.
        max_bytes: memory that decoded pictures may take on the device; None: half of what is free.
        cache: folder for decoded pictures. None: `CACHE`, only for pictures that do not fit into memory, and only if
            the disk has room; else workers decode files as the run goes.
        workers: processes that read, where the pictures do not fit.
        report: takes a line for each picture that is left out.

    Raises:
        DataError: no picture of the set can be used, or the disk has no room for the cache.
    """
    scale, uses_low_res = config.generator.scale, config.degradation is None
    for line in (*pictures.notes, *(f"left out: {line}" for line in pictures.problems)):
        report(line)
    files = [file for file in _usable(pictures, config, report) if file.path not in leave_out]
    needed = 3 * _pixels(files) * (scale**2 + uses_low_res)
    fit = needed <= (half_of_free_bytes(device) if max_bytes is None else max_bytes)
    read, files = _reader(files, cache, decoded=fit, needed=needed, workers=workers, report=report)
    crops: DecodedPhotographs | StreamedPhotographs
    if fit:
        files, plan, crops = _decoded(files, config, device, read, report)
    else:
        plan = _plan(files, config)
        crops = StreamedPhotographs(files, plan, scale=scale, device=device, workers=workers, read=read, report=report)
    source: CropSource = crops
    if config.degradation:
        source = DegradedCrops(crops, plan, config.crop_px, scale=scale, degradation=config.degradation, device=device)
    return Photographs(source, len(files), _fingerprint(files, pictures.folder))


def half_of_free_bytes(device: torch.device) -> int:
    """Measure half of the memory that is free on the device; on a CPU the processes of this machine share it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // 2
    return available_bytes() // 2 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _reader(
    files: Sequence[PhotographFile], cache: Path | None, *, decoded: bool, needed: int, workers: int, report: Report
) -> tuple[Read, list[PhotographFile]]:
    """Choose where the pixels of files come from, and fill the cache if it is used.

    Returns:
        The function that reads a file, and the files without those that the cache found to be broken.
    """
    if cache is None and decoded:
        return read_picture, [*files]
    paths = [path for file in files for path in (file.path, file.low_res) if path is not None]
    pictures = PictureCache(cache or CACHE)
    if cache is None:
        missing, free = pictures.missing_bytes(paths), pictures.free_bytes()
        if missing > free:
            report(
                f"{needed / 1e9:.1f} GB of decoded pictures do not fit on the device, nor {missing / 1e9:.1f} GB into "
                f"{pictures.folder} with {free / 1e9:.1f} GB free: whole files are decoded for every crop, which is "
                "slow; name a folder on a larger disk by --cache"
            )
            return read_picture, [*files]
        report(
            f"{needed / 1e9:.1f} GB of decoded pictures do not fit on the device; they are kept in {pictures.folder}"
        )
    pictures.fill(paths, threads=max(1, workers))
    return pictures.read, [file for file in files if not _is_broken(file, pictures, report)]


def _is_broken(file: PhotographFile, cache: PictureCache, report: Report) -> bool:
    for path in (file.path, file.low_res):
        if path is not None and (problem := cache.problem(path)):
            report(f"left out: {path}: cannot be read ({problem})")
            return True
    return False


def _pixels(files: Sequence[PhotographFile]) -> int:
    return sum(file.height * file.width for file in files)


def _cut_px(config: TrainingConfig) -> int:
    """Return the side of the crops that are cut, in low-res pixels; damage needs some around its own."""
    return config.crop_px + (GRID_PX if config.degradation else 0)


def _plan(files: Sequence[PhotographFile], config: TrainingConfig) -> CropPlan:
    return CropPlan(
        [(file.height, file.width) for file in files],
        crop_px=_cut_px(config),
        batch=config.batch,
        seed=config.seed,
        share=(this_process(), processes()),
    )


def _usable(pictures: PictureSet, config: TrainingConfig, report: Report) -> Iterator[PhotographFile]:
    scale = config.generator.scale
    for files in pictures.files:
        used = replace(files, low_res=None) if config.degradation else files
        try:
            height, width = read_pair_size(used, scale, min_px=scale * _cut_px(config))
        except DataError as error:
            report(f"left out: {error}")
            continue
        yield PhotographFile(used.high_res, height // scale, width // scale, used.low_res)


def _decoded(
    files: Sequence[PhotographFile], config: TrainingConfig, device: torch.device, read: Read, report: Report
) -> tuple[list[PhotographFile], CropPlan, DecodedPhotographs]:
    """Decode all pictures on the device; returns the files that could be read, too."""
    scale = config.generator.scale
    high_res = Canvas(_pixels(files) * scale**2, device)
    low_res = None if config.degradation else Canvas(_pixels(files), device)
    files = list(_put(files, scale, read, high_res, low_res, report))
    plan = _plan(files, config)
    return files, plan, DecodedPhotographs(high_res, low_res, plan, scale=scale)


def _put(
    files: Sequence[PhotographFile], scale: int, read: Read, high_res: Canvas, low_res: Canvas | None, report: Report
) -> Iterator[PhotographFile]:
    """Put pictures on their canvases, decoded by some threads; yields the files that could be read."""

    def pixels(file: PhotographFile) -> tuple[Tensor, Tensor | None]:
        picture = read_high_res(file, scale, read)
        if low_res is None:
            return picture, None
        return picture, shrink_bicubic(picture, scale) if file.low_res is None else read_low_res(
            file, file.low_res, read
        )

    threads = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        running: deque[tuple[PhotographFile, Future[tuple[Tensor, Tensor | None]]]] = deque()
        left = iter(files)
        while True:
            while len(running) < 2 * threads and (file := next(left, None)) is not None:
                running.append((file, pool.submit(pixels, file)))
            if not running:
                return
            file, future = running.popleft()
            try:
                picture, small = future.result()
            except READ_ERRORS as error:
                report(f"left out: {unreadable(file.path, error)}")
                continue
            high_res.add(picture)
            if low_res is not None and small is not None:
                low_res.add(small)
            yield file


def _fingerprint(files: Sequence[PhotographFile], folder: Path) -> str:
    fingerprint = hashlib.sha256()
    for file in files:
        partner = f" {file.low_res.name}" if file.low_res else ""
        line = f"{_relative(file.path, folder)} {file.height} {file.width}{partner}\n"
        fingerprint.update(os.fsencode(line))
    return fingerprint.hexdigest()


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
