"""Recorded results come back as figures over time."""

import json
from pathlib import Path

import pytest

from benchmarks.history import draw, read, table


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs on one processor, the later one first, and one on another."""
    lines = [
        {"date": f"2026-11-{day}T10:00:00+00:00", "commit": commit, "changed": changed, "processor": processor}
        | {"command": "png", "setting": "noise", "bars": {"speed": speed}}
        | {"tables": [[{"encoder": "ours", "ms": 1000 / speed, "note": ""}]]}
        for day, commit, changed, processor, speed in (
            (28, "b" * 40, True, "EPYC", 10.0),
            (27, "a" * 40, False, "EPYC", 8.0),
            (28, None, False, "Xeon", 20.0),
        )
    ]
    (tmp_path / "png.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_bars_and_cells_are_figures_in_the_order_of_their_dates(results: Path) -> None:
    figures = read(results)
    assert figures.keys() == {"png: noise: speed", "png: noise: ours: ms"}
    assert [point.value for point in figures["png: noise: speed"]] == [8.0, 10.0, 20.0]


def test_the_table_compares_within_one_processor(results: Path) -> None:
    said = list(table(read(results)))
    assert "| png: noise: speed | EPYC | bbbbbbbb+ | 10 | +25.0 % |" in said
    assert "| png: noise: speed | Xeon | - | 20 |  |" in said


def test_commands_can_be_chosen(results: Path) -> None:
    assert read(results, ["load"]) == {}
    assert read(results, ["png"]) == read(results)


def test_figures_are_drawn(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(read(results), tmp_path / "made" / "history.png")
    assert (tmp_path / "made" / "history.png").read_bytes().startswith(b"\x89PNG")
