"""HEIC is read by the installed reader, and refused by name without one."""

from collections.abc import Iterator

import pytest

from model.pictures import heic
from model.pictures.errors import NotAccepted
from model.pictures.limits import Limits
from model.pictures.reading import read_header

LIMITS = Limits(max_picture_px=100, max_width_px=100, max_frames=20, max_metadata_bytes=50_000, max_expansion=100_000)
FILE = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture
def _other_readers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look for readers of other names in this test only."""
    heic.reader.cache_clear()
    yield
    monkeypatch.undo()
    heic.reader.cache_clear()


@pytest.mark.usefixtures("_other_readers")
def test_without_a_reader_a_heic_is_refused_by_name_and_the_rest_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "READERS", ("no_reader_of_heic",))
    heic.register()
    with pytest.raises(NotAccepted, match="HEIC is not read here"):
        read_header(FILE, LIMITS)


@pytest.mark.usefixtures("_other_readers")
def test_the_first_reader_that_is_installed_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "READERS", ("no_reader_of_heic", "json", "io"))
    assert heic.reader().__name__ == "json"
