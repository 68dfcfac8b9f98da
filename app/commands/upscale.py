"""python -m app upscale: files in, files out, by the code of the service but without HTTP.

Several files are processed at a time, so that small ones share batches, like those of several requests.
"""

import asyncio
import logging
import stat
import sys
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Never, TextIO

from tqdm import tqdm

from app.answer import Answer
from app.build import build_service
from app.commands.files import Found, Task, find_pictures, next_input, write_whole
from app.commands.notes import notes_on
from app.commands.options import Options
from app.errors import QueueFull, ServiceError
from app.lifecycle import DEVICE_LOST_STATUS
from app.pictures.decode import SUFFIXES
from app.service import UpscaleService
from app.settings import Settings, SettingsError
from app.text import printable

RETRY_S = 1.0
"""Seconds before a picture is retried for which the queue was full."""

NAMED = 5
"""Maximum files without the suffix of a picture that are named at the end."""

BAR = "{l_bar}{bar}| {n:.1f} of {total} [{elapsed}<{remaining}]"


class FileError(Exception):
    """A file cannot be upscaled; the text says why."""


def run(options: Options, settings: Settings) -> int:
    """Upscale files and return the exit status: 0 if every answer is there, 1 if some failed.

    Raises:
        SettingsError: there is no such model, or none that works; answers would become inputs.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    warnings.filterwarnings("ignore", module="PIL")
    try:
        found = find_pictures(options.inputs, options.out)
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from error
    if (inside := next_input(found.tasks, options.inputs, options.out)) is not None:
        task, folder = inside
        raise SettingsError(
            f"--out {options.out}: the answer for {task.source} would be in {folder}, where the next run would take it "
            f"for a picture; choose a folder of its own, such as --out {folder / 'upscaled'}"
        )
    try:
        return asyncio.run(_run(found, options, settings))
    except KeyboardInterrupt:
        _say("stopped; the same command continues with the missing pictures", sys.stderr)
        raise


async def _run(found: Found, options: Options, settings: Settings) -> int:
    files = _Files(found.tasks, options)
    missing = [task for task in found.tasks if files.is_missing(task)]
    if missing:
        service = await asyncio.to_thread(_service_for, options, settings)
        service.start()
        try:
            await _upscale_all(files, missing, service, options)
        finally:
            await service.scheduler.stop(drain_s=0)
            service.close()
        if service.scheduler.failure is not None:
            return DEVICE_LOST_STATUS
    if found.others:
        _say(_left_out(found.others), sys.stderr)
    _say(_summary(files.counts), sys.stderr)
    return 1 if files.counts["failed"] else 0


def _service_for(options: Options, settings: Settings) -> UpscaleService:
    """Load no more models than the command needs."""
    model = options.request.model or settings.default_model
    named = {"models": options.weights, "default_model": ""} if options.weights else {"default_model": model}
    try:
        return build_service(settings.model_copy(update={"load": "lazy", "watch_s": 0.0, **named}))
    except SettingsError as error:
        text = str(error)
        if options.weights:
            text = text.replace("ESRGAN_MODELS and ESRGAN_DEFAULT_MODEL", "--model")
        elif options.request.model:
            text = text.replace("ESRGAN_DEFAULT_MODEL", "--model")
        raise SettingsError(text) from error


def _summary(counts: Counter[str]) -> str:
    if not counts:
        return f"no picture found; those of a folder end in {', '.join(sorted(SUFFIXES))}"
    known = "; what is there may have been made with other settings: --again replaces it" if counts["there"] else ""
    return f"{counts['done']} upscaled, {counts['there']} there already, {counts['failed']} failed{known}"


def _left_out(others: Sequence[Path]) -> str:
    shown = [*map(str, others[:NAMED]), *(["..."] if len(others) > NAMED else [])]
    files = "1 file" if len(others) == 1 else f"{len(others)} files"
    return f"{files} left out whose suffix is not that of a picture: {', '.join(shown)}"


async def _upscale_all(files: "_Files", missing: Sequence[Task], service: UpscaleService, options: Options) -> None:
    waiting = iter(missing)
    with tqdm(total=len(missing), unit="picture", disable=None, bar_format=BAR) as bar:
        files.bar = bar

        async def work() -> None:
            for task in waiting:
                await files.upscale(task, service)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(options.at_once, len(missing))):
                group.create_task(work())


class _Files:
    """Checks files, upscales them, and counts the results."""

    def __init__(self, tasks: Iterable[Task], options: Options) -> None:
        self.counts: Counter[str] = Counter()
        self.bar: tqdm[Never] | None = None
        self._options = options
        self._sources: dict[Path, Path] = {}
        """The first picture for each target."""
        self._inputs = {task.source.resolve() for task in tasks}

    def is_missing(self, task: Task) -> bool:
        """Return True for a picture that has to be upscaled; counts all others."""
        try:
            self._check(task)
            existing = task.existing(self._options.request.options.formats)
        except OSError as error:
            self._failed(task, _reason(error, task))
            return False
        except FileError as error:
            self._failed(task, str(error))
            return False
        if existing is not None and not self._options.again:
            self.counts["there"] += 1
            return False
        return True

    async def upscale(self, task: Task, service: UpscaleService) -> None:
        """Upscale a picture; print and count a failure."""
        try:
            picture = await asyncio.to_thread(task.source.read_bytes)
            target, notes = await self._written(task, picture, service)
        except OSError as error:
            self._failed(task, _reason(error, task))
        except (FileError, ServiceError) as error:
            self._failed(task, str(error))
        else:
            self.counts["done"] += 1
            _say(str(target), sys.stdout)
            if notes:
                _say(f"note: {task.source}: {notes}", sys.stderr)
        finally:
            self._advance(1)

    async def _written(self, task: Task, picture: bytes, service: UpscaleService) -> tuple[Path, str]:
        """Upscale a picture and write the answer, when there is room for it in the queue; returns it with its notes."""
        while True:
            try:
                async with AsyncExitStack() as scope:
                    answer = await self._options.request.start(scope, service, picture)
                    target = task.target_as(answer.format)
                    if target.resolve() in self._inputs:
                        raise FileError(f"{target} is one of the inputs; choose another --out")
                    await write_whole(target, self._progressing(answer))
                    return target, notes_on(answer)
            except QueueFull:  # never raised for a single picture
                await asyncio.sleep(RETRY_S)

    async def _progressing(self, answer: Answer) -> AsyncIterator[bytes]:
        shown = 0.0
        try:
            async for piece in answer.pieces:
                self._advance(answer.progress() - shown)
                shown = answer.progress()
                yield piece
        finally:
            self._advance(-shown)  # the whole picture counts once it is written

    def _check(self, task: Task) -> None:
        status = task.source.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileError("not a regular file")  # reading a pipe could block
        if not status.st_size:
            raise FileError("the file has 0 bytes")
        first = self._sources.setdefault(task.target, task.source)
        if first != task.source:
            raise FileError(f"its answer would have the same name as that of {first}; upscale it into another --out")
        target = task.target_as(self._options.request.options.formats[0])
        if target.resolve() in self._inputs:
            raise FileError(f"its answer, {target}, is one of the inputs; choose another --out")
        if target.is_dir():
            raise FileError(f"its answer, {target}, would replace a folder; choose another --out")

    def _failed(self, task: Task, why: str) -> None:
        self.counts["failed"] += 1
        _say(f"error: {task.source}: {why}", sys.stderr)

    def _advance(self, share: float) -> None:
        if self.bar is not None:
            self.bar.update(share)


def _reason(error: OSError, task: Task) -> str:
    where = f": {error.filename}" if error.filename not in (None, str(task.source)) else ""
    return f"{error.strerror or error}{where}"


def _say(text: str, stream: TextIO) -> None:
    """Print a line; names of files may hold anything."""
    with suppress(BrokenPipeError):  # its reader has left (`| head`), which must not stop the work
        tqdm.write(printable(text, stream.encoding or "utf-8"), file=stream)
