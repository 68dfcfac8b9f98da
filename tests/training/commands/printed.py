"""What a command has printed."""

import pytest


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that says what is wrong; progress bars may stand above it."""
    captured = capsys.readouterr().err
    assert "Traceback" not in captured
    lines = captured.splitlines()
    assert [line.startswith("error: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("error: ")
    return lines[-1]
