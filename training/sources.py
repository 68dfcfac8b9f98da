"""Where a run's crops come from: photographs that lie decoded on the device, or files that workers read as it goes."""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.config import TrainingConfig
from training.crops import Batch, CropPlan, CropSource, DecodedPhotographs, Places, turned
from training.data import READ_ERRORS, DataError, Pair, picture_files, read_picture, read_size, too_small, unreadable
from training.degrade import BICUBIC_REACH_PX, crop_to_multiple, shrink_bicubic
from training.distributed import processes, this_process
from training.uploads import GRID_PX, UploadConfig, degrade_crops

Report = Callable[[str], None]

MOST_HELD_OUT = 10
MOST_ATTEMPTS = 100
"""Unreadable pictures in one batch after which the run gives up: the folder is probably gone."""


@dataclass(frozen=True)
class PhotographFile:
    """A picture that has not been decoded, and its size in low-res pixels."""

    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class Photographs:
    """The pictures of a run, as a source of batches."""

    crops: CropSource
    number: int
    fingerprint: str
    """Changes with the names, sizes or number of the pictures, on which the draw of every crop depends."""
    decoded: bool
    """True if the pictures lie decoded on the device."""


def hold_out(folder: Path) -> frozenset[Path]:
    """A few pictures of a folder to measure on, where no others are given: a tenth, at most `MOST_HELD_OUT`.

    Which ones depends on their names alone, so that a run that continues holds out the same.
    """
    files = picture_files(folder)
    by_name = sorted(files, key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest())
    return frozenset(by_name[: min(MOST_HELD_OUT, len(files) // 10)])


def open_photographs(
    folder: Path,
    config: TrainingConfig,
    device: torch.device,
    *,
    leave_out: frozenset[Path] = frozenset(),
    most_bytes: int | None = None,
    workers: int = 4,
    report: Report,
) -> Photographs:
    """Look at every picture of a folder, and decode them all where they fit.

    Args:
        leave_out: pictures that are not to be learnt from.
        most_bytes: memory that decoded pictures may take on the device; None: half of what is free.
        workers: processes that decode, where the pictures do not fit.
        report: takes a line for each picture that is left out.

    Raises:
        DataError: there is no such folder, or no picture in it that can be used.
    """
    scale, crop_px = config.generator.scale, config.crop_px + (GRID_PX if config.degradation else 0)
    least_px = crop_px * scale
    files = [file for file in _usable(folder, scale, least_px, report) if file.path not in leave_out]
    pixels = sum(file.height * file.width for file in files)
    needed = 3 * pixels * (scale**2 + 1)
    decoded = needed <= (half_of_free_bytes(device) if most_bytes is None else most_bytes)
    pairs = dict(_decode(files, scale, report)) if decoded else {}
    files = list(pairs) if decoded else files
    plan = CropPlan(
        [(file.height, file.width) for file in files],
        crop_px=crop_px,
        batch=config.batch,
        seed=config.seed,
        share=(this_process(), processes()),
    )
    crops: CropSource
    if decoded:
        crops = DecodedPhotographs(list(pairs.values()), plan, scale=scale, device=device)
    else:
        report(f"{needed / 1e9:.1f} GB of decoded pictures do not fit on the device; workers read them as it goes")
        crops = StreamedPhotographs(files, plan, scale=scale, device=device, workers=workers, report=report)
    if config.degradation:
        crops = DegradedCrops(crops, plan, config.crop_px, scale=scale, degradation=config.degradation, device=device)
    return Photographs(crops, len(files), _fingerprint(files, folder), decoded)


def half_of_free_bytes(device: torch.device) -> int:
    """Half of the memory that is free on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // 2
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


class StreamedPhotographs:
    """Photographs too many for the device: worker processes decode them, some steps ahead.

    The batches are those of `DecodedPhotographs`. A picture that turns out broken is reported once, and another
    crop is drawn in its place.
    """

    def __init__(
        self,
        files: Sequence[PhotographFile],
        plan: CropPlan,
        *,
        scale: int,
        device: torch.device,
        workers: int,
        report: Report,
    ) -> None:
        self._batches = _BatchOfStep(files, plan, scale)
        self._device = device
        self._workers = workers
        self._report = report

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """The batches of a range of steps, in order."""
        loader: DataLoader[tuple[Tensor, Tensor, list[str]]] = DataLoader(
            self._batches,
            sampler=range(first_step, end_step),
            batch_size=None,
            num_workers=self._workers,
            multiprocessing_context=_workers_context() if self._workers else None,
            prefetch_factor=4 if self._workers else None,
            pin_memory=self._device.type == "cuda",
        )
        reported: set[str] = set()
        for low_res, high_res, problems in loader:
            for problem in problems:
                if problem not in reported:
                    self._report(f"left out: {problem}")
                    reported.add(problem)
            yield low_res.to(self._device, non_blocking=True), high_res.to(self._device, non_blocking=True)


def _workers_context() -> BaseContext:
    """Start workers from a fork server: a fork of this process would lack the threads of libvips, and hang."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


class DegradedCrops:
    """Crops of another source's high-res regions, with low-res ones made from them as people upload them.

    A thread prepares the next batch while the network learns from this one.
    """

    def __init__(
        self,
        regions: CropSource,
        plan: CropPlan,
        crop_px: int,
        *,
        scale: int,
        degradation: UploadConfig,
        device: torch.device,
    ) -> None:
        self._regions = regions
        self._plan = plan
        self._crop_px = crop_px
        self._scale = scale
        self._degradation = degradation
        self._device = device

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """The batches of a range of steps, in order."""
        made = self._made(first_step, end_step)
        with ThreadPoolExecutor(1, thread_name_prefix="degradation") as thread:
            following = thread.submit(next, made, None)
            while batch := following.result():
                following = thread.submit(next, made, None)
                low_res, high_res = batch
                yield low_res.to(self._device, non_blocking=True), high_res.to(self._device, non_blocking=True)

    def _made(self, first_step: int, end_step: int) -> Iterator[Batch]:
        for step, (_, regions) in enumerate(self._regions.batches(first_step, end_step), start=first_step):
            rngs = self._plan.degradation_rngs(step)
            yield degrade_crops(regions.cpu().unbind(), self._crop_px, self._scale, self._degradation, rngs)


class _BatchOfStep(Dataset[tuple[Tensor, Tensor, list[str]]]):
    """What a worker does: the crops of one step, and a line for each picture that it could not read."""

    def __init__(self, files: Sequence[PhotographFile], plan: CropPlan, scale: int) -> None:
        self._files = files
        self._plan = plan
        self._scale = scale

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, list[str]]:
        places, problems = self._plan.of_step(step), []
        crops: list[tuple[Tensor, Tensor]] = []
        attempt = 0
        while len(crops) < len(places.picture):
            file = self._files[places.picture[len(crops)]]
            try:
                crops.append(self._cut(file, places, len(crops)))
            except READ_ERRORS as error:
                attempt += 1
                problems.append(unreadable(file.path, error))
                places = self._plan.of_step(step, attempt=attempt)
                if attempt > MOST_ATTEMPTS:
                    raise DataError(f"{attempt} pictures in a row cannot be read; the last: {problems[-1]}") from error
        low_res, high_res = zip(*crops, strict=True)
        return torch.stack(low_res), torch.stack(high_res), problems

    def _cut(self, file: PhotographFile, places: Places, number: int) -> tuple[Tensor, Tensor]:
        scale, side = self._scale, self._plan.crop_px
        picture = _read_whole(file, scale)
        top, left, turn = (int(values[number]) for values in (places.top, places.left, places.turn))
        # What the reduction sees around the crop has to be there, so that the crop is that of the whole picture.
        above, before = min(top, BICUBIC_REACH_PX), min(left, BICUBIC_REACH_PX)
        rows = slice((top - above) * scale, (top + side + BICUBIC_REACH_PX) * scale)
        columns = slice((left - before) * scale, (left + side + BICUBIC_REACH_PX) * scale)
        around = picture[:, rows, columns]
        low_res = shrink_bicubic(around, scale)[:, above : above + side, before : before + side]
        high_res = picture[:, top * scale : (top + side) * scale, left * scale : (left + side) * scale]
        return turned(low_res, turn), turned(high_res, turn)


def _usable(folder: Path, scale: int, least_px: int, report: Report) -> Iterator[PhotographFile]:
    for path in picture_files(folder):
        try:
            height, width = read_size(path)
        except READ_ERRORS as error:
            report(f"left out: {unreadable(path, error)}")
            continue
        if problem := too_small(path, height, width, least_px):
            report(f"left out: {problem}")
            continue
        yield PhotographFile(path, height // scale, width // scale)


def _decode(files: Sequence[PhotographFile], scale: int, report: Report) -> Iterator[tuple[PhotographFile, Pair]]:
    for file in files:
        try:
            high_res = _read_whole(file, scale)
        except READ_ERRORS as error:
            report(f"left out: {unreadable(file.path, error)}")
            continue
        yield file, Pair(file.path.stem, shrink_bicubic(high_res, scale), high_res)


def _read_whole(file: PhotographFile, scale: int) -> Tensor:
    picture = crop_to_multiple(read_picture(file.path), scale)
    if picture.shape[-2:] != (file.height * scale, file.width * scale):
        height, width = picture.shape[-2:]
        raise ValueError(
            f"it is {width} x {height} px, and its header said {file.width * scale} x {file.height * scale}"
        )
    return picture


def _fingerprint(files: Sequence[PhotographFile], folder: Path) -> str:
    lines = (f"{file.path.relative_to(folder).as_posix()} {file.height} {file.width}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
