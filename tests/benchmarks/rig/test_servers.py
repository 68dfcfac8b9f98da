"""Servers that are started to be measured."""

from pathlib import Path

import httpx

from benchmarks.rig import servers


def test_what_a_server_prints_is_in_the_file_that_was_named(tmp_path: Path) -> None:
    port, log = servers._free_port(), tmp_path / "log.txt"
    arguments = [str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with servers._running("http.server", arguments, port, ready="/", environment={}, log=log):
        httpx.get(f"http://127.0.0.1:{port}/seen", trust_env=False)
    assert "GET /seen" in log.read_text()
