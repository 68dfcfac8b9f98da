"""`python -m app` killed while it works: accepted jobs are done once, after the next start."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.conftest import encoded, noise, write_tiny_model
from tests.app.processes import ROOT, becomes_ready, free_port, variables

JOBS = 20
KILLER = 2

POISON = """
import importlib.abc, os, sys, time

def install():
    import app.service as service
    decode = service.decode

    def deadly(upload, *arguments):
        while not os.path.exists({go!r}):
            time.sleep(0.01)
        if len(upload) == {killer_bytes}:
            with open({deaths!r}, "a") as file:
                file.write("x")
            os.kill(os.getpid(), 9)
        return decode(upload, *arguments)

    service.decode = deadly

class Watcher(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "app.build":
            sys.meta_path.remove(self)
            install()
        return None

sys.meta_path.insert(0, Watcher())
"""
"""A sitecustomize module: one picture kills the process that decodes it, once a file allows decoding."""


@contextmanager
def running(
    folder: Path, *, may_die: bool = False, **settings: object
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """Run a service in another process with jobs in a folder; it is killed at the end of the block.

    Args:
        may_die: True if a resumed job may kill it before it is ready.
    """
    port = free_port()
    named = {
        "port": port,
        "models": folder / "models",
        "jobs_folder": folder / "jobs",
        "jobs_min_free_bytes": 0,
        "job_lease_s": 2,
        "precision": "float32",
    } | settings
    environment = variables(**named) | {"PYTHONPATH": str(folder / "poison")}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "app"], cwd=ROOT, env=environment, stderr=log)
    try:
        assert becomes_ready(process, port) or may_die, (folder / "log").read_text()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


def jobs_of(client: httpx.Client) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = client.get("/v1/jobs?limit=100").raise_for_status().json()["jobs"]
    return jobs


def finished(client: httpx.Client, *, within_s: float = 90) -> dict[str, dict[str, Any]]:
    """Wait until every job has ended; returns them by their ids."""
    until_s = time.monotonic() + within_s
    while any(job["state"] in ("waiting", "running") for job in jobs_of(client)):
        assert time.monotonic() < until_s, jobs_of(client)
        time.sleep(0.1)
    return {job["id"]: job for job in jobs_of(client)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    write_tiny_model(tmp_path / "models", "tiny")
    return tmp_path


def test_after_kills_every_accepted_job_ends_once_and_only_the_killer_fails(folder: Path) -> None:
    pictures = [encoded(noise(20, 20 + seed, seed=seed)) for seed in range(JOBS)]
    go, deaths = folder / "go", folder / "deaths"
    (folder / "poison").mkdir()
    poison = POISON.format(go=str(go), killer_bytes=len(pictures[KILLER]), deaths=str(deaths))
    (folder / "poison" / "sitecustomize.py").write_text(poison)
    with running(folder) as (process, client):
        sent = [client.post("/v1/jobs", content=picture).raise_for_status().json()["id"] for picture in pictures]
        go.touch()
        process.wait(120)  # killed in the middle of four pictures
    with running(folder, may_die=True) as (process, client):
        process.wait(120)  # killed again, by the picture that now runs alone
    with running(folder) as (process, client):
        jobs = finished(client)
        killer = jobs.pop(sent.pop(KILLER))
        pictures.pop(KILLER)
        assert killer["problem"]["type"] == "urn:esrgan-serve:problem:job-gave-up"
        for job_id, picture in zip(sent, pictures, strict=True):
            answer = client.post("/v1/upscale", content=picture).raise_for_status()
            assert client.get(f"/v1/jobs/{job_id}/result").raise_for_status().content == answer.content
        assert [job["state"] for job in jobs.values()] == ["done"] * (JOBS - 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert len(deaths.read_text()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "s3"])
def test_what_a_lost_machine_had_begun_is_done_by_another(
    kind: str, folder: Path, postgres: str, request: pytest.FixtureRequest
) -> None:
    pictures = [encoded(noise(20, 20 + seed, seed=seed)) for seed in range(JOBS)]
    go = folder / "go"
    (folder / "poison").mkdir()
    poison = POISON.format(go=str(go), killer_bytes=0, deaths="")
    (folder / "poison" / "sitecustomize.py").write_text(poison)
    (folder / "bucket").mkdir()
    store = request.getfixturevalue("bucket") if kind == "s3" else f"file://{folder / 'bucket'}"
    shared: dict[str, Any] = {"jobs_database": postgres, "jobs_store": store}
    with running(folder, **shared) as (first, client), running(folder, **shared) as (_, other):
        sent = [client.post("/v1/jobs", content=picture).raise_for_status().json()["id"] for picture in pictures]
        until_s = time.monotonic() + 30
        while sum(job["state"] == "running" for job in jobs_of(other)) < 8:  # four on each
            assert time.monotonic() < until_s
            time.sleep(0.05)
        first.kill()
        go.touch()
        jobs = finished(other)
        assert [jobs[job_id]["state"] for job_id in sent] == ["done"] * JOBS
        for job_id, picture in zip(sent, pictures, strict=True):
            answer = other.post("/v1/upscale", content=picture).raise_for_status()
            assert other.get(f"/v1/jobs/{job_id}/result").raise_for_status().content == answer.content
