"""Servers that are started to be measured."""

from pathlib import Path

import httpx
import pytest

from benchmarks.rig import servers
from tests.app.processes import free_port


def test_what_a_server_prints_is_in_the_file_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # which a server of this machine is not behind
    monkeypatch.setattr(servers, "START_S", 60)
    port, log = free_port(), tmp_path / "log.txt"
    arguments = [str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with servers._running("http.server", arguments, port, ready="/", environment={}, log=log):
        httpx.get(f"http://127.0.0.1:{port}/seen", trust_env=False)
    assert "GET /seen" in log.read_text()
