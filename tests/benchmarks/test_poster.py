import sys

import pytest

from benchmarks import poster


@pytest.mark.slow
def test_pictures_are_sent_through_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in poster.LIMITS:
        monkeypatch.setenv(name, "1")  # restored after the test, although the benchmark sets it
    monkeypatch.setattr(
        sys, "argv", ["poster", "--tiny", "--width", "600", "--heights", "40", "80", "--queries", "", "scale=2"]
    )
    poster.main()
    printed = capsys.readouterr().out
    assert "| scale=2 | 80 |" in printed
    assert "growth of the peak" in printed
    assert "peak with scale=2" in printed
