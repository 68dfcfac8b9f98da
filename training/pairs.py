"""Originals of a folder, each with its low-res picture: found by name, read, and checked against each other.

Training, validation, `evaluate` and the doctor all find their pictures here.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from training.data import READ_ERRORS, DataError, Pair, picture_files, read_picture, read_size, too_small, unreadable
from training.degrade import crop_to_multiple, shrink_bicubic

_LOW_RES = re.compile(r"(?:^|[^a-z0-9])(?:lr(?=$|[^a-z]|bic|blur|x\d)|low[-_ ]?res)", re.IGNORECASE)
"""Names of low-res folders and files: LR, LRbicX4, DIV2K_train_LR_bicubic, Canon_001_LR4."""

_HIGH_RES = re.compile(r"(?:^|[^a-z0-9])(?:hr|gt(?:mod\d+)?|high[-_ ]?res)(?=$|[^a-z])", re.IGNORECASE)

_ENDING = re.compile(r"[-_ ]?(?:hr|gt|lr|(?:low|high)[-_ ]?res)(?:[-_ ]?x?\d)?$", re.IGNORECASE)
"""The end of a file's name by which the two pictures of a pair differ, where they share a folder."""

_ANY_SCALE = r"\d"


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """An original, and the file of its low-res picture."""

    name: str
    """The file's name without its suffix; with its folders where two files share it."""
    high_res: Path
    low_res: Path | None
    """None: it is made by MATLAB's bicubic."""


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """The originals of a folder."""

    folder: Path
    files: tuple[PairFiles, ...]
    notes: tuple[str, ...]
    """Lines about files that were left out, and how to use them."""
    unpaired: tuple[tuple[Path, str], ...]
    """Pictures without the partner that they should have, each with the reason."""

    @property
    def problems(self) -> list[str]:
        """A line for each picture without a partner."""
        return [f"{path}: {reason}" for path, reason in self.unpaired]


def find_pairs(folder: Path, scale: int, low_res: Path | None = None) -> PictureSet:
    """Find the originals below a folder and their low-res pictures.

    Low-res copies do not count as originals: files outside of `HR` if there is one, and files whose name or folder says
    LR if an original has the same name. The published bicubic ones of this scale (`LRbicX4`,
    `LR_bicubic/X4`) become the low-res pictures.

    Args:
        low_res: folder with the low-res picture of every original, under the same name; endings like `_LR4` and `_x4`
            are ignored, and at scale 4 also `x4`. It may be in `folder`, or `folder` itself if the names show which
            picture is which.

    Raises:
        DataError: a folder is missing, or holds no picture.
    """
    every = picture_files(folder)
    if low_res is not None:
        originals, candidates = _apart(folder, every, low_res)
        return _paired(folder, originals, candidates, scale, (), asked_for=True)
    originals, copies = _without_copies(folder, every)
    published = [path for path in copies if _published(path.relative_to(folder), scale)]
    notes: tuple[str, ...] = ()
    if ignored := _without(copies, published):
        notes = (
            f"{folder}: {len(ignored)} pictures are taken for low-res copies and left out, {ignored[0]} first; to use "
            "them, name their folder by --low-res",
        )
    return _paired(folder, originals, published, scale, notes, asked_for=False)


def read_pair(files: PairFiles, scale: int, *, min_px: int = 1) -> Pair:
    """Read both pictures of a pair.

    Args:
        min_px: shortest side that the original must have, in whole low-res pixels.

    Raises:
        DataError: a picture cannot be read, or has the wrong size; the text is a line that names the file.
    """
    original = _read(files.high_res)
    height, width = original.shape[-2:]
    if problem := too_small(files.high_res, height, width, max(scale, min_px)):
        raise DataError(problem)
    high_res = crop_to_multiple(original, scale)
    if files.low_res is None:
        return Pair(files.name, shrink_bicubic(high_res, scale), high_res)
    low_res = _read(files.low_res)
    if problem := wrong_size(files, tuple(low_res.shape[1:]), (height // scale, width // scale), scale):
        raise DataError(problem)
    return Pair(files.name, low_res, high_res)


def read_pair_size(files: PairFiles, scale: int, *, min_px: int) -> tuple[int, int]:
    """Read height and width of the original of a pair, and check the pair, by the headers of its files alone.

    Raises:
        DataError: see `read_pair`.
    """
    height, width = _read_size(files.high_res)
    if problem := too_small(files.high_res, height, width, min_px):
        raise DataError(problem)
    if files.low_res is not None:
        problem = wrong_size(files, _read_size(files.low_res), (height // scale, width // scale), scale)
        if problem:
            raise DataError(problem)
    return height, width


def read_pairs(folder: Path, scale: int, *, low_res: Path | None = None, min_px: int = 1) -> Iterator[Pair | str]:
    """Read every pair of a folder; a pair that cannot be used becomes a line that says why.

    Args:
        low_res: see `find_pairs`.
        min_px: shortest side that an original must have.
    """
    found = find_pairs(folder, scale, low_res)
    yield from found.problems
    for files in found.files:
        try:
            yield read_pair(files, scale, min_px=min_px)
        except DataError as error:
            yield str(error)


def wrong_size(files: PairFiles, low_res: tuple[int, ...], expected: tuple[int, int], scale: int) -> str | None:
    """Write the line that says why a pair is left out; None if its sizes fit.

    Args:
        low_res, expected: height and width.
    """
    if low_res == expected:
        return None
    return (
        f"{files.low_res}: {low_res[1]} x {low_res[0]} px is not 1/{scale} of {files.high_res}; it must have "
        f"{expected[1]} x {expected[0]} px"
    )


def _read(path: Path) -> Tensor:
    try:
        return read_picture(path)
    except READ_ERRORS as error:
        raise DataError(unreadable(path, error)) from error


def _read_size(path: Path) -> tuple[int, int]:
    try:
        return read_size(path)
    except READ_ERRORS as error:
        raise DataError(unreadable(path, error)) from error


def _without_copies(folder: Path, files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Separate originals from low-res copies by their names."""
    parts = {path: path.relative_to(folder).parts for path in files}
    in_hr = [path for path in files if len(parts[path]) > 1 and parts[path][0].lower() == "hr"]
    if in_hr:
        return in_hr, _without(files, in_hr)
    low = [path for path in files if _says(_LOW_RES, path.relative_to(folder))]
    others = _without(files, low)
    keys = {_key(path) for path in others}
    if any(_key(path) in keys for path in low) or any(_says(_HIGH_RES, path.relative_to(folder)) for path in others):
        return others, low
    return list(files), []  # a name says LR, but there is no original of it


def _apart(folder: Path, every: Sequence[Path], low_res: Path) -> tuple[list[Path], list[Path]]:
    """Separate originals from the low-res pictures that the user named."""
    candidates = picture_files(low_res)
    if folder.resolve() == low_res.resolve():
        candidates = [path for path in every if _says(_LOW_RES, path.relative_to(folder))]
        if not candidates:
            raise DataError(f"{folder} is named twice, and no name in it says LR; keep the two sizes in two folders")
    taken = {path.resolve() for path in candidates}
    originals = [path for path in every if path.resolve() not in taken]
    if not originals:
        raise DataError(f"{folder} holds no other pictures than {low_res}; name the folder of the originals by --data")
    return _without_copies(folder, originals)[0], candidates


def _without(files: Sequence[Path], others: Iterable[Path]) -> list[Path]:
    left_out = set(others)
    return [path for path in files if path not in left_out]


def _paired(
    folder: Path,
    originals: Sequence[Path],
    low_res: Sequence[Path],
    scale: int,
    notes: tuple[str, ...],
    *,
    asked_for: bool,
) -> PictureSet:
    partners = _partners(originals, low_res, scale)
    stems = Counter(path.stem for path in originals)
    files, unpaired = [], []
    for path in originals:
        partner = partners.get(path)
        if isinstance(partner, str):
            unpaired.append((path, partner))
        elif partner is None and asked_for:
            unpaired.append((path, "there is no low-res picture of this name"))
        else:
            name = path.stem if stems[path.stem] == 1 else path.relative_to(folder).with_suffix("").as_posix()
            files.append(PairFiles(name=name, high_res=path, low_res=partner))
    if asked_for:
        known = {_key(path, scale) for path in originals}
        for path in _without(low_res, (one.low_res for one in files if one.low_res)):
            reason = "no pair was made with it" if _key(path, scale) in known else "there is no original of this name"
            unpaired.append((path, reason))
    return PictureSet(folder=folder, files=tuple(files), notes=notes, unpaired=tuple(unpaired))


def _partners(originals: Sequence[Path], low_res: Sequence[Path], scale: int) -> dict[Path, Path | str]:
    """Find the low-res picture of each original that has one, or a line that says why it is ambiguous."""
    candidates: dict[str, list[Path]] = defaultdict(list)
    for path in low_res:
        candidates[_key(path, scale)].append(path)
    claims: dict[Path, list[Path]] = defaultdict(list)
    partners: dict[Path, Path | str] = {}
    for path in originals:
        nearest = _nearest(path, candidates[_key(path, scale)])
        if len(nearest) == 1:
            claims[nearest[0]].append(path)
        elif nearest:
            partners[path] = f"{nearest[0]} and {nearest[1]} could both be its low-res picture; rename one"
    for low, claimants in claims.items():
        nearest = _nearest(low, claimants)
        for path in claimants:
            if nearest == [path]:
                partners[path] = low
            else:
                other = next(one for one in nearest if one != path)
                partners[path] = f"{low} could also be the low-res picture of {other}; rename one"
    return partners


def _nearest(path: Path, candidates: Sequence[Path]) -> list[Path]:
    """Keep the candidates with exactly the same name, if any, then those that share the most folders with the path."""

    def shared(candidate: Path) -> tuple[bool, int, int]:
        from_root = len(os.path.commonpath((path.absolute(), candidate.absolute())))
        folders = zip(reversed(path.parts[:-1]), reversed(candidate.parts[:-1]), strict=False)
        from_file = next((n for n, (one, other) in enumerate(folders) if one != other), len(path.parts))
        return candidate.stem == path.stem, from_file, from_root

    alike = [shared(candidate) for candidate in candidates]
    most = max(alike, default=None)
    return [candidate for candidate, one in zip(candidates, alike, strict=True) if one == most]


def _says(names: re.Pattern[str], relative: Path) -> bool:
    return any(names.search(part) for part in (*relative.parts[:-1], relative.stem))


def _published(relative: Path, scale: int) -> bool:
    """Return True if a low-res picture was made by bicubic at this scale."""
    text = relative.as_posix()
    return bool(re.search(r"bic", text, re.IGNORECASE) and re.search(rf"x{scale}(?!\d)", text, re.IGNORECASE))


def _key(path: Path, scale: int | str = _ANY_SCALE) -> str:
    """Reduce a file's name to the part that both pictures of a pair share.

    `x4` at its end counts as a scale after a separator, or if it is the scale of the pairs; `bmwx5` stays.
    """
    shared = _ENDING.sub("", path.stem)
    return re.sub(rf"(?:[-_ ]x\d|x{scale})$", "", shared, flags=re.IGNORECASE).lower()
