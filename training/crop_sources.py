"""Where a run's crops come from: pictures that are decoded on the device, or files that workers read as it goes."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.crops import Batch, CropPlan, Integers, Places, RegionSource, turned
from training.data import READ_ERRORS, DataError, unreadable
from training.degrade import BICUBIC_REACH_PX, crop_to_multiple, shrink_bicubic
from training.uploads import UploadConfig, degrade_crops

Report = Callable[[str], None]
Read = Callable[[Path], Tensor]
"""Returns the pixels of a file: uint8 RGB (3, H, W)."""

MAX_ATTEMPTS = 100
"""Unreadable pictures in a row after which the run ends: the folder is probably gone."""


@dataclass(frozen=True)
class PhotographFile:
    """A picture that has not been decoded, and its size in low-res pixels."""

    path: Path
    height: int
    width: int
    low_res: Path | None = None
    """The file of its low-res picture; None: it is made by bicubic."""


def read_high_res(file: PhotographFile, scale: int, read: Read) -> Tensor:
    """Read the original, cut to whole low-res pixels.

    Raises:
        READ_ERRORS: it cannot be read, or has another size than before.
    """
    return _of_size(crop_to_multiple(read(file.path), scale), file.height * scale, file.width * scale)


def read_low_res(file: PhotographFile, path: Path, read: Read) -> Tensor:
    """Read the low-res picture of a file; raises as `read_high_res` does."""
    return _of_size(read(path), file.height, file.width)


class DecodedPhotographs:
    """Pictures that are decoded on the device. Crops are cut there, so no loader slows the run down."""

    def __init__(self, high_res: "Canvas", low_res: "Canvas | None", plan: CropPlan, *, scale: int) -> None:
        self._high_res = high_res
        self._low_res = low_res
        self._plan = plan
        self._scale = scale

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """Yield the batches of a range of steps, in order."""
        if self._low_res is None:
            raise ValueError("there are no low-res pictures; only regions can be cut")
        side = self._plan.crop_px
        for step, high_res in enumerate(self.regions(first_step, end_step), start=first_step):
            yield self._low_res.cut(self._plan.of_step(step), 1, side), high_res

    def regions(self, first_step: int, end_step: int) -> Iterator[Tensor]:
        """Yield the high-res crops of a range of steps, in order."""
        for step in range(first_step, end_step):
            yield self._high_res.cut(self._plan.of_step(step), self._scale, self._plan.crop_px * self._scale)


class Canvas:
    """Pictures of any sizes as one long row of pixels on a device, so that a whole batch of crops is one gather."""

    def __init__(self, pixels: int, device: torch.device) -> None:
        self._pixels = torch.empty((pixels, 3), dtype=torch.uint8, device=device)
        self._first: list[int] = []
        self._widths: list[int] = []
        self._end = 0

    def add(self, picture: Tensor) -> None:
        """Append uint8 RGB (3, H, W)."""
        _, height, width = picture.shape
        first, self._end = self._end, self._end + height * width
        self._pixels[first : self._end].copy_(picture.permute(1, 2, 0).reshape(-1, 3))
        self._first.append(first)
        self._widths.append(width)

    @cached_property
    def _index(self) -> tuple[Integers, Integers]:
        """First pixel and width of each picture; built at the first crop, so all pictures are added before it."""
        return numpy.array(self._first), numpy.array(self._widths)

    def cut(self, places: Places, factor: int, side: int) -> Tensor:
        """Cut crops (N, 3, side, side) at `factor` times the places, turned; channels last in memory."""
        firsts, widths = self._index
        width = widths[places.picture]
        first = firsts[places.picture] + (places.top * width + places.left) * factor
        numbers = torch.from_numpy(numpy.stack((first, width, places.turn))).to(self._pixels.device, non_blocking=True)
        first_px, width_px, turn = numbers[:, :, None, None]
        line = torch.arange(side, device=self._pixels.device)
        rows, columns = line[None, :, None], line[None, None, :]
        transposed = (turn & 4).bool()
        rows, columns = torch.where(transposed, columns, rows), torch.where(transposed, rows, columns)
        rows = torch.where((turn & 2).bool(), side - 1 - rows, rows)
        columns = torch.where((turn & 1).bool(), side - 1 - columns, columns)
        return self._pixels[first_px + rows * width_px + columns].permute(0, 3, 1, 2)


class StreamedPhotographs:
    """Pictures that do not fit on the device: worker processes read them, some steps ahead.

    The batches are those of `DecodedPhotographs`. A picture that turns out broken is reported once, and another crop
    is drawn in its place.

    Args:
        read: returns the pixels of a file; each worker gets a copy of it.
    """

    def __init__(
        self,
        files: Sequence[PhotographFile],
        plan: CropPlan,
        *,
        scale: int,
        device: torch.device,
        workers: int,
        read: Read,
        report: Report,
    ) -> None:
        self._files = files
        self._plan = plan
        self._scale = scale
        self._device = device
        self._workers = workers
        self._read = read
        self._report = report

    def batches(self, first_step: int, end_step: int) -> Iterator[Batch]:
        """Yield the batches of a range of steps, in order."""
        for pictures in self._loaded(first_step, end_step, with_low_res=True):
            low_res, high_res = pictures
            yield low_res, high_res

    def regions(self, first_step: int, end_step: int) -> Iterator[Tensor]:
        """Yield the high-res crops of a range of steps, in order."""
        for (high_res,) in self._loaded(first_step, end_step, with_low_res=False):
            yield high_res

    def _loaded(self, first_step: int, end_step: int, *, with_low_res: bool) -> Iterator[list[Tensor]]:
        loader: DataLoader[tuple[list[Tensor], list[str]]] = DataLoader(
            _BatchOfStep(self._files, self._plan, self._scale, self._read, with_low_res=with_low_res),
            sampler=range(first_step, end_step),
            batch_size=None,
            num_workers=self._workers,
            multiprocessing_context=_workers_context() if self._workers else None,
            prefetch_factor=4 if self._workers else None,
            pin_memory=self._device.type == "cuda",
        )
        reported: set[str] = set()
        for pictures, problems in loader:
            for problem in problems:
                if problem not in reported:
                    self._report(f"left out: {problem}")
                    reported.add(problem)
            yield [picture.to(self._device, non_blocking=True) for picture in pictures]


class DegradedCrops:
    """Cuts crops from another source's high-res regions, and makes low-res pictures like real uploads from them.

    A thread prepares the next batch while the network learns from this one.
    """

    def __init__(
        self,
        regions: RegionSource,
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
        """Yield the batches of a range of steps, in order."""
        made = self._made(first_step, end_step)
        with ThreadPoolExecutor(1, thread_name_prefix="degradation") as thread:
            following = thread.submit(next, made, None)
            while batch := following.result():
                following = thread.submit(next, made, None)
                low_res, high_res = batch
                yield low_res.to(self._device, non_blocking=True), high_res.to(self._device, non_blocking=True)

    def _made(self, first_step: int, end_step: int) -> Iterator[Batch]:
        for step, regions in enumerate(self._regions.regions(first_step, end_step), start=first_step):
            rngs = self._plan.degradation_rngs(step)
            yield degrade_crops(regions.cpu().unbind(), self._crop_px, self._scale, self._degradation, rngs)


class _BatchOfStep(Dataset[tuple[list[Tensor], list[str]]]):
    """Cut the crops of one step in a worker, with a line for each picture that it could not read."""

    def __init__(
        self, files: Sequence[PhotographFile], plan: CropPlan, scale: int, read: Read, *, with_low_res: bool
    ) -> None:
        self._files = files
        self._plan = plan
        self._scale = scale
        self._read = read
        self._with_low_res = with_low_res

    def __getitem__(self, step: int) -> tuple[list[Tensor], list[str]]:
        problems: list[str] = []
        crops = [self._readable(step, number, problems) for number in range(len(self._plan.of_step(step).picture))]
        return [torch.stack(side) for side in zip(*crops, strict=True)], problems

    def _readable(self, step: int, number: int, problems: list[str]) -> list[Tensor]:
        """Cut one crop; a picture that cannot be read is replaced by another, the same in every run."""
        for attempt in range(MAX_ATTEMPTS):
            places = self._plan.of_step(step, attempt=attempt)
            file = self._files[places.picture[number]]
            try:
                return self._cut(file, places, number)
            except READ_ERRORS as error:
                problems.append(unreadable(file.path, error))
        raise DataError(f"{MAX_ATTEMPTS} pictures in a row cannot be read; the last: {problems[-1]}")

    def _cut(self, file: PhotographFile, places: Places, number: int) -> list[Tensor]:
        scale, side = self._scale, self._plan.crop_px
        picture = read_high_res(file, scale, self._read)
        top, left, turn = (int(values[number]) for values in (places.top, places.left, places.turn))
        high_res = picture[:, top * scale : (top + side) * scale, left * scale : (left + side) * scale]
        if not self._with_low_res:
            return [turned(high_res, turn)]
        if file.low_res is not None:
            low_res = read_low_res(file, file.low_res, self._read)[:, top : top + side, left : left + side]
        else:
            low_res = _shrunk_crop(picture, top, left, side, scale)
        return [turned(low_res, turn), turned(high_res, turn)]


def _shrunk_crop(picture: Tensor, top: int, left: int, side: int, scale: int) -> Tensor:
    """Cut a crop from the reduction of a whole picture; only its surroundings are reduced."""
    above, before = min(top, BICUBIC_REACH_PX), min(left, BICUBIC_REACH_PX)
    rows = slice((top - above) * scale, (top + side + BICUBIC_REACH_PX) * scale)
    columns = slice((left - before) * scale, (left + side + BICUBIC_REACH_PX) * scale)
    return shrink_bicubic(picture[:, rows, columns], scale)[:, above : above + side, before : before + side]


def _of_size(picture: Tensor, height: int, width: int) -> Tensor:
    if picture.shape[-2:] != (height, width):
        raise ValueError(f"it is {picture.shape[-1]} x {picture.shape[-2]} px, and its header said {width} x {height}")
    return picture


def _workers_context() -> BaseContext:
    """Start workers from a fork server: a fork of this process would lack the threads of libvips, and hang."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context
