"""Output of a command."""

import pytest


def the_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error line; progress bars may precede it."""
    captured = capsys.readouterr().err
    assert "Traceback" not in captured
    lines = captured.splitlines()
    assert [line.startswith("error: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("error: ")
    return lines[-1]
