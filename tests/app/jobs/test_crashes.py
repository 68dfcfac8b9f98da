"""`python -m app` killed while it works: what was accepted is done after the next start, once."""

import os
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
from tests.app.test_command import ROOT, free_port

JOBS = 20


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A service of its own process whose jobs are in a folder; it is killed at the end of the block."""
    port = free_port()
    variables = {
        "port": port,
        "models": folder / "models",
        "jobs_folder": folder / "jobs",
        "jobs_min_free_bytes": 0,
        "job_lease_s": 1,
        "whole_picture_px": 1000,
        "piece_s": 0.001,
        "precision": "float32",
    } | settings
    environment = os.environ | {f"ESRGAN_{name.upper()}": str(value) for name, value in variables.items()}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "app"], cwd=ROOT, env=environment, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            until_s = time.monotonic() + 120
            while not is_ready(client):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until_s
                time.sleep(0.1)
            yield process, client
    finally:
        process.kill()
        process.wait()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def jobs_of(client: httpx.Client) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = client.get("/v1/jobs?limit=100").raise_for_status().json()["jobs"]
    return jobs


def finished(client: httpx.Client, *, within_s: float = 90) -> list[dict[str, Any]]:
    """Wait until every job has ended."""
    until_s = time.monotonic() + within_s
    while any(job["state"] in ("waiting", "running") for job in jobs_of(client)):
        assert time.monotonic() < until_s, jobs_of(client)
        time.sleep(0.1)
    return jobs_of(client)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    write_tiny_model(tmp_path / "models", "tiny")
    return tmp_path


def test_jobs_survive_a_kill_and_have_the_bytes_of_the_synchronous_answer(folder: Path) -> None:
    pictures = [encoded(noise(60, 60 + seed, seed=seed)) for seed in range(JOBS)]
    with running(folder) as (process, client):
        sent = [client.post("/v1/jobs", content=picture).raise_for_status().json()["id"] for picture in pictures]
        while not any(job["state"] == "done" for job in jobs_of(client)):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running(folder) as (process, client):
        jobs = {job["id"]: job for job in finished(client)}
        assert [jobs[job_id]["state"] for job_id in sent] == ["done"] * JOBS
        for job_id, picture in zip(sent, pictures, strict=True):
            answer = client.post("/v1/upscale", content=picture).raise_for_status()
            assert client.get(f"/v1/jobs/{job_id}/result").content == answer.content
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_stop_gives_what_runs_back_and_the_next_start_finishes_it(folder: Path) -> None:
    with running(folder, drain_s=0) as (process, client):
        for seed in range(8):
            client.post("/v1/jobs", content=encoded(noise(90, 300, seed=seed))).raise_for_status()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with running(folder, job_lease_s=1000) as (_, client):  # so that nobody waits for a lease to run out
        jobs = finished(client)
        assert [job["state"] for job in jobs] == ["done"] * 8


def test_a_picture_that_kills_the_process_twice_is_given_up_and_the_others_are_done(folder: Path) -> None:
    killer = encoded(noise(61, 61, seed=99))
    mark = folder / "deaths"
    poison = folder / "poison"
    poison.mkdir()
    (poison / "sitecustomize.py").write_text(POISON.format(mark=str(mark), size=len(killer)))
    sent: list[str] = []
    for start in range(3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(poison))
            with running(folder) as (process, client):
                if start == 0:
                    for picture in [killer, *(encoded(noise(50, 50, seed=seed)) for seed in range(3))]:
                        try:
                            sent.append(client.post("/v1/jobs", content=picture).raise_for_status().json()["id"])
                        except httpx.TransportError:
                            break
                if start < 2:
                    process.wait(60)
                    continue
                jobs = {job["id"]: job for job in finished(client)}
    assert len(mark.read_text()) == 2
    assert jobs[sent[0]]["problem"]["type"] == "urn:esrgan-serve:problem:job-gave-up"
    assert [jobs[job_id]["state"] for job_id in sent[1:]] == ["done"] * (len(sent) - 1)


POISON = """
import os

def install():
    import app.service as service
    decode = service.decode

    def deadly(upload, *arguments):
        if len(upload) == {size}:
            with open({mark!r}, "a") as file:
                file.write("x")
            os.kill(os.getpid(), 9)
        return decode(upload, *arguments)

    service.decode = deadly

import sys
import importlib.abc

class Watcher(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "app.build":
            sys.meta_path.remove(self)
            install()
        return None

sys.meta_path.insert(0, Watcher())
"""
