"""Functions in C: used if they are compiled, replaced if not, and reported in the log."""

import logging
import shutil
from collections.abc import Iterator
from ctypes import CDLL
from pathlib import Path

import pytest

from app.png import compiled as module
from app.png.compiled import FUNCTIONS, compiled, load_compiled


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of libraries; the cache is cleared before and after."""
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    compiled.cache_clear()
    yield tmp_path
    compiled.cache_clear()


def test_the_log_says_once_what_is_not_compiled_and_what_to_do(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_compiled()
    load_compiled()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * len(FUNCTIONS)
    assert all("make native" in record.getMessage() for record in caplog.records)


def test_the_log_says_what_is_compiled(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    libraries = list(Path(module.__file__).parent.glob("lib*.so"))
    if len(libraries) < len(FUNCTIONS):
        pytest.skip("nothing is compiled here: `make native`")
    for library in libraries:
        shutil.copy(library, folder)
    caplog.set_level(logging.INFO)
    load_compiled()
    assert [record.levelno for record in caplog.records] == [logging.INFO] * len(FUNCTIONS)


def test_an_invalid_or_outdated_library_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "libfilters.so").write_bytes(b"not a library")
    assert compiled("filter_rows") is None
    monkeypatch.setattr(module, "CDLL", lambda path: CDLL(None))
    assert compiled("deflate_bytes") is None
