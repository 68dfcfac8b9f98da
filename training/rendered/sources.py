"""Find the fonts, icons, words and photographs that pictures are drawn with."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from training.errors import Mistake
from training.rendered.packages import CLIP_ART, FONTS, ICONS, WORDS, Folder, Font

MAX_BYTES = 300_000
"""Larger drawings take seconds to render."""
PHOTOGRAPHS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})


class SourcesError(Mistake):
    """A source of pictures is not installed."""


@dataclass(frozen=True)
class Icon:
    """An SVG file and the package that installed it."""

    path: Path
    package: str


@dataclass(frozen=True)
class WordList:
    """Words of one language and the package that installed them."""

    words: tuple[str, ...]
    package: str


@dataclass(frozen=True)
class Sources:
    """Everything that a picture can be drawn with; the same sources and seed give the same pictures."""

    fonts: tuple[Font, ...]
    icons: tuple[tuple[Icon, ...], ...] = ()
    """Icons of each theme."""
    clip_art: tuple[tuple[Icon, ...], ...] = ()
    """Larger drawings of each subject."""
    words: dict[str, tuple[WordList, ...]] = field(default_factory=dict)
    """Word lists of each script."""
    photographs: tuple[Path, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    """Version of each package."""


def find_sources(photographs: Path | None = None) -> Sources:
    """Sources that Debian packages installed on this machine.

    Raises:
        SourcesError: a package is missing, or the folder has no photographs.
    """
    versions = _installed()
    folders = [*ICONS, *CLIP_ART, *(one for lists in WORDS.values() for one in lists)]
    names = {font.package for font in FONTS} | {folder.package for folder in folders}
    if missing := sorted(names - versions.keys()):
        raise SourcesError(
            f"{len(missing)} Debian packages with fonts, icons or words are missing; install them by\n"
            f"    apt-get install --no-install-recommends {' '.join(missing)}"
        )
    return Sources(
        fonts=FONTS,
        icons=tuple(_drawings(folder) for folder in ICONS),
        clip_art=tuple(_drawings(folder) for folder in CLIP_ART),
        words={script: tuple(_words(one) for one in lists) for script, lists in WORDS.items()},
        photographs=_photographs(photographs) if photographs else (),
        versions={name: versions[name] for name in names},
    )


def _installed() -> dict[str, str]:
    """Versions of the installed Debian packages; none if there is no dpkg."""
    form = "${db:Status-Status} ${Package} ${Version}\n"
    try:
        listing = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    rows = [line.split() for line in listing.splitlines()]
    return {name: version for status, name, version in rows if status == "installed"}


def _drawings(folder: Folder) -> tuple[Icon, ...]:
    """List every SVG file of a theme once; themes link many names to one file, and some to a missing one."""
    paths = {path.resolve() for path in Path("/").glob(folder.pattern.lstrip("/")) if path.is_file()}
    return tuple(Icon(path, folder.package) for path in sorted(paths) if path.stat().st_size <= MAX_BYTES)


def _words(folder: Folder) -> WordList:
    lines = Path(folder.pattern).read_text(encoding="utf-8", errors="ignore").split()
    return WordList(tuple(word for word in lines if word.isalpha() and 2 <= len(word) <= 12), folder.package)


def _photographs(folder: Path) -> tuple[Path, ...]:
    found = tuple(path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PHOTOGRAPHS)
    if not found:
        raise SourcesError(f"{folder} has no photographs ({', '.join(sorted(PHOTOGRAPHS))}); name another folder")
    return found
