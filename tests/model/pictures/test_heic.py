"""HEIC is read by the installed reader; without one it is refused, and everything else works."""

from collections.abc import Iterator

import pytest

from model.pictures import heic
from model.pictures.errors import Damaged, NotAccepted
from model.pictures.limits import Limits
from model.pictures.reading import read_header

LIMITS = Limits(max_picture_px=100, max_width_px=100, max_frames=20, max_metadata_bytes=50_000, max_expansion=100_000)
FILE = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture
def _other_readers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look for readers of other names in this test only."""
    heic.installed.cache_clear()
    yield
    monkeypatch.undo()
    heic.installed.cache_clear()


@pytest.mark.usefixtures("_other_readers")
def test_without_a_reader_a_heic_is_refused_and_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "READERS", ("no_reader_of_heic",))
    with pytest.raises(NotAccepted, match=r"HEIC cannot be read here.*the extra `heic`"):
        read_header(FILE, LIMITS)


@pytest.mark.usefixtures("_other_readers")
def test_without_a_reader_other_errors_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "READERS", ("no_reader_of_heic",))
    with pytest.raises(NotAccepted, match=r"not a picture in a known format; accepted are JPEG.*AVIF$"):
        read_header(b"no picture at all", LIMITS)
    with pytest.raises(Damaged, match="header of the WEBP file is truncated or corrupt"):
        read_header(b"RIFF\1\0\0\0WEBPno", LIMITS)


@pytest.mark.usefixtures("_other_readers")
def test_the_first_reader_that_is_installed_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heic, "READERS", ("no_reader_of_heic", "json", "io"))
    assert heic.reader().__name__ == "json"
