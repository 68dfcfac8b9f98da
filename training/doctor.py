"""`python -m training doctor`: list every file of a folder that would stop or not help a run, with the reason.

- broken: training cannot decode it: it is cut short, not a picture despite its suffix, in a format that is not read
  (camera raw), or too large (over 268 megapixels).
- tiny: its shorter side is less than a high-res crop.
- low detail: flat, blurred, or already enlarged from a smaller picture; see `detail`.
- pair: the low-res picture that was given for it cannot be decoded, is missing, has the wrong size, or shows another
  place or another thing; see `training.alignment`.
- duplicate: the pixels of another file, or the same photograph recompressed, resized or slightly brightened. Mirrored,
  turned and cropped copies are not found.

Measured on 551 photographs that were cut by hand for training, and on copies of 111 of them:

- low detail: 1 photograph, a camera picture that is soft at 1:1. Copies found, of 111 each: enlarged x2 bicubic 110, x2
  Lanczos 111, x4 by either 111; x2 Lanczos as JPEG of quality 90 or 75 111, x4 Lanczos as JPEG of quality 75 109; a
  Gaussian blur of 2 px 111, the same with noise of 5 levels 110. Enlarged by only 1.5: 68; by repeating pixels: none.
- pair: 82 of them. Not reported: low-res pictures by bicubic, with another gamma, or blurred, noisy and compressed.
  Reported: all that were moved by 3 or 4 high-res px or mirrored, 1 that was moved by 1 high-res px (0.25 low-res px),
  and 71 of 71 low-res pictures of other photographs.
- duplicate: no two photographs. All 333 copies were found: in another format, as JPEG of quality 60, and at 70 %.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from model.pictures.errors import OverLimit
from training.alignment import pair_problem
from training.data import read_picture
from training.detail import detail
from training.pairs import PairFiles, find_pairs
from training.terminal import printable

MIN_DETAIL = 0.19
"""A picture with less `detail` is soft: 99 % of x2 bicubic copies have less than 0.16, 99 % of photographs over 0.3."""

PROBLEMS = ("broken", "tiny", "low detail", "pair", "duplicate")

_HASH_BITS = 12  # of 64; copies differ by up to 12, and only 10 of 151,525 pairs of different photographs
_MIN_LIKENESS = 0.95  # copies correlate by 0.95 or more, those 10 pairs by 0.91 or less
_MIN_LAYOUT = 1.0  # levels; the layout of a picture that varies less is rounding and noise
_MAX_THREADS = 8  # each holds one decoded picture


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault of one file.

    Attributes:
        path: the file.
        problem: one of `PROBLEMS`.
        detail: the value, the limit, and what to do.
    """

    path: Path
    problem: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """Findings of an examination.

    Attributes:
        files: number of examined files.
        megapixels: total size of the decoded files.
        findings: in the order of their paths; a file may have several.
        notes: what else is in the folder.
    """

    files: int
    megapixels: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> int:
        """Number of files without a finding."""
        return self.files - len({finding.path for finding in self.findings})

    def lines(self) -> list[str]:
        """Return a line for each finding, then a summary."""
        lines = [f"{finding.problem:10}  {finding.path}: {finding.detail}" for finding in self.findings]
        count = Counter(finding.problem for finding in self.findings)
        found = ", ".join(f"{count[problem]} {problem}" for problem in PROBLEMS if count[problem])
        summary = f"{self.files} files, {self.megapixels:.1f} MP: {found or 'nothing wrong'}; {self.usable} usable"
        return [*self.notes, *lines, summary]


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """Properties of a decoded file, small enough to keep a hundred thousand of them."""

    path: Path
    width: int
    height: int
    file_bytes: int
    digest: bytes  # of the decoded pixels
    hash: int
    layout: NDArray[numpy.float32]
    findings: tuple[Finding, ...]


def examine(
    folder: Path,
    *,
    min_px: int,
    scale: int = 4,
    low_res: Path | None = None,
    min_detail: float = MIN_DETAIL,
    threads: int | None = None,
) -> Report:
    """Examine every original below a folder and its low-res picture, with a progress bar; no file stops it.

    Args:
        low_res: folder with the low-res pictures; see `find_pairs`.
        min_px: shortest side that training can use: scale times the low-res crop.
        min_detail: the `detail` that a sound picture has at least.
        threads: how many decode at a time; without it one for each processor, at most 8.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    pictures = find_pairs(folder, scale, low_res)
    files = pictures.files
    look = partial(_look, scale=scale, min_px=min_px, min_detail=min_detail)
    with ThreadPoolExecutor(threads or min(os.cpu_count() or 1, _MAX_THREADS)) as pool:
        looked = list(
            tqdm(pool.map(look, files), total=len(files), desc=printable(f"examining {folder}"), unit="picture")
        )
    broken = [one for one in looked if isinstance(one, Finding)]
    readable = [one for one in looked if isinstance(one, _Picture)]
    own = chain.from_iterable(picture.findings for picture in readable)
    alone = [Finding(path=path, problem="pair", detail=detail) for path, detail in pictures.unpaired]
    findings = [*broken, *alone, *own, *_duplicates(sorted(readable, key=_keep_order))]
    return Report(
        files=len(files) + len(pictures.unpaired),
        megapixels=sum(picture.width * picture.height for picture in readable) / 1e6,
        findings=tuple(sorted(findings, key=lambda finding: (finding.path, PROBLEMS.index(finding.problem)))),
        notes=pictures.notes,
    )


def _look(files: PairFiles, *, scale: int, min_px: int, min_detail: float) -> _Picture | Finding:
    path = files.high_res
    try:
        planes = read_picture(path)
        picture = planes.permute(1, 2, 0).contiguous().numpy()
        file_bytes = path.stat().st_size
    except OverLimit as error:
        return Finding(path=path, problem="broken", detail=f"too large ({error}); cut it into smaller pictures")
    except Exception as error:  # broken files make decoders raise anything: struct.error, IndexError, MemoryError
        reason = str(error) or type(error).__name__
        return Finding(path=path, problem="broken", detail=f"cannot be decoded ({reason}); replace or delete it")
    height, width = picture.shape[:2]
    grey = Image.fromarray(picture).convert("L")
    unlike = pair_problem(files, planes, scale)
    pair = [Finding(path=path, problem="pair", detail=unlike)] if unlike else []
    return _Picture(
        path=path,
        width=width,
        height=height,
        file_bytes=file_bytes,
        digest=hashlib.blake2b(picture.data, digest_size=16, salt=width.to_bytes(8, "big")).digest(),
        hash=_difference_hash(grey),
        layout=_layout(grey),
        findings=(*_own_findings(path, grey, min_px, min_detail), *pair),
    )


def _own_findings(path: Path, grey: Image.Image, min_px: int, min_detail: float) -> Iterator[Finding]:
    if min(grey.size) < min_px:
        size = f"{grey.width} x {grey.height} px"
        yield Finding(
            path=path,
            problem="tiny",
            detail=f"{size} is less than {min_px} px a side; train on smaller crops or delete it",
        )
    elif (measured := detail(numpy.asarray(grey))) < min_detail:
        text = f"{measured:.3f} is less than {min_detail:.3f}: flat, blurred or enlarged; shrink or delete it"
        yield Finding(path=path, problem="low detail", detail=text)


def _difference_hash(grey: Image.Image) -> int:
    """64 bits: which of 9 x 8 areas is brighter than its left neighbour (Krawetz' dHash)."""
    areas = numpy.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(numpy.packbits(areas[:, 1:] > areas[:, :-1]).tobytes(), "big")


def _layout(grey: Image.Image) -> NDArray[numpy.float32]:
    """Describe a picture by the differences of the inner 14 x 14 of 16 x 16 areas from their four neighbours.

    The result is a unit vector (196,), or zero for a flat picture. Levels themselves would be nearly the same for all
    pictures of sky over land, or with light from the left.
    """
    areas = numpy.asarray(grey.resize((16, 16), Image.Resampling.BOX), dtype=numpy.float32)
    around = (areas[2:, 1:-1] + areas[:-2, 1:-1] + areas[1:-1, 2:] + areas[1:-1, :-2]) / 4
    layout = (areas[1:-1, 1:-1] - around).ravel()
    length = float(numpy.linalg.norm(layout))
    if length < _MIN_LAYOUT * layout.size**0.5:
        return numpy.zeros_like(layout)
    return (layout / length).astype(numpy.float32)


def _keep_order(picture: _Picture) -> tuple[bool, int, int, Path]:
    """Return the sort key of copies of one photograph, the one to keep first: sound, large, little compressed."""
    return bool(picture.findings), -picture.width * picture.height, -picture.file_bytes, picture.path


def _duplicates(pictures: Sequence[_Picture]) -> Iterator[Finding]:
    """Yield a finding for every picture that duplicates an earlier one of the sequence."""
    firsts: dict[bytes, _Picture] = {}
    for picture in pictures:
        first = firsts.setdefault(picture.digest, picture)
        if first is not picture:
            text = f"has the same pixels as {first.path}; delete one of them"
            yield Finding(path=picture.path, problem="duplicate", detail=text)
    # Flat pictures all have one hash: comparing each with each would take forever, and say nothing.
    yield from _near_duplicates([picture for picture in firsts.values() if picture.layout.any()])


def _near_duplicates(pictures: Sequence[_Picture]) -> Iterator[Finding]:
    if not pictures:
        return
    hashes = numpy.array([picture.hash for picture in pictures], dtype=numpy.uint64)
    layouts = numpy.stack([picture.layout for picture in pictures])
    kept = numpy.ones(len(pictures), dtype=bool)
    for index, first in enumerate(pictures):
        if not kept[index]:
            continue
        rest = slice(index + 1, None)
        near = kept[rest] & (numpy.bitwise_count(hashes[rest] ^ hashes[index]) <= _HASH_BITS)
        later = index + 1 + numpy.flatnonzero(near)
        likeness = layouts[later] @ layouts[index]
        for place, alike in zip(later.tolist(), likeness.tolist(), strict=True):
            if alike < _MIN_LIKENESS:
                continue
            kept[place] = False
            text = f"shows what {first.path} shows (likeness {alike:.2f} of {_MIN_LIKENESS}); delete one of them"
            yield Finding(path=pictures[place].path, problem="duplicate", detail=text)
