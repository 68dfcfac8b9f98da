"""The comparison of decoders detects errors."""

import argparse
from pathlib import Path

import numpy
import pytest
import torch

from app.pictures.decode import decode
from app.pictures.picture import Picture
from benchmarks.decoders import judged, report_verdicts
from benchmarks.rig.reference_decoders import difference
from benchmarks.rig.report import Report
from tests.app.pictures.files import LIMITS, levels, png


def test_each_file_of_a_folder_gets_its_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = png(levels(3))
    files = [tmp_path / name for name in ("whole.png", "cut.png", "notes.txt")]
    for path, content in zip(files, (whole, whole[:-20], b"notes"), strict=True):
        path.write_bytes(content)
    verdicts = dict(judged(files, max_s=60, memory_bytes=8 * 2**30))
    assert [verdicts[path].outcome for path in files] == ["right", "refused", "refused"]
    assert [verdicts[path].reason[:3] for path in files] == ["", "422", "415"]
    assert verdicts[files[0]].readers[:2] == ["Pillow", "libvips"]
    report = Report("decoders", argparse.Namespace())
    report.setting("three files", torch.device("cpu"))
    report_verdicts(report, verdicts)
    said = capsys.readouterr().out
    assert "2 refused, 1 right" in said
    assert "the file is not a picture in a known format" in said


def test_a_difference_is_that_of_what_can_be_seen() -> None:
    pixels = levels(4)
    picture: Picture = decode(png(pixels), LIMITS)
    assert difference(picture, pixels) == 0
    other = pixels.copy()
    other[pixels[..., 3] == 0] = 0
    other[0, 0] = (*(pixels[0, 0, :3] ^ 1), pixels[0, 0, 3])
    assert difference(picture, other) == 1
    assert difference(picture, numpy.zeros((1, 1, 3), numpy.uint8)) == float("inf")
