"""`python -m app` as a process: its output, its answers, its end."""

import asyncio
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.__main__ import main, run_quietly
from app.access.keys import find_key, parse_keys
from app.settings import SHIPPED_MODELS
from tests.app.conftest import decoded, encoded, noise
from tests.app.live import until
from tests.app.processes import START_S, becomes_ready, free_port, refusal, start


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    process = start(port=port)
    assert becomes_ready(process, port), process.communicate()
    yield process, port
    process.kill()
    process.communicate()


@pytest.mark.skipif(not any(SHIPPED_MODELS.glob("*.safetensors")), reason="no generator is shipped yet")
def test_the_shipped_generator_answers_and_a_signal_ends_the_service(
    running: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = running
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/upscale", files={"image": encoded(noise(16, 12))}, timeout=START_S)
    assert decoded(answer).size == (64, 48)
    health = start("health", port=port)
    health.communicate(timeout=START_S)
    assert health.returncode == 0
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=START_S)
    assert process.returncode == 0


def test_check_prints_one_line_when_everything_works(models: Path) -> None:
    process = start("check", models=models)
    said, complaints = process.communicate(timeout=START_S)
    assert process.returncode == 0, complaints
    assert len(said.splitlines()) == 1
    assert said.startswith("ok: ")
    assert re.search(r"tiny@\w+ on cpu in (float32|bfloat16|float16)", said)


def test_check_prints_one_line_about_what_is_wrong(models: Path) -> None:
    (models / "rubbish.safetensors").write_bytes(b"rubbish")
    process = start("check", models=models)
    said, complaints = process.communicate(timeout=START_S)
    assert process.returncode == 1
    assert said == ""
    assert len(complaints.splitlines()) == 1
    assert "rubbish.safetensors" in complaints


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ({"host": "0.0.0.0"}, "there are no keys"),
        ({"jobs_folder": f"{__file__}/jobs"}, "test_command.py is not a folder that can be written to"),
        ({"webhook_secrets": "/nowhere/secrets"}, "ESRGAN_WEBHOOK_SECRETS=/nowhere/secrets: "),
        ({"jobs_store": "nonsense"}, "ESRGAN_JOBS_STORE"),
    ],
)
def test_check_complains_about_what_would_stop_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: dict[str, str], complaint: str
) -> None:
    for name, value in named.items():
        monkeypatch.setenv(f"ESRGAN_{name.upper()}", value)
    assert main(["check"]) == 1
    assert complaint in capsys.readouterr().err


def test_check_makes_nothing(models: Path, tmp_path: Path) -> None:
    process = start("check", models=models, jobs_folder=tmp_path / "jobs")
    _, complaints = process.communicate(timeout=START_S)
    assert process.returncode == 0, complaints
    assert not (tmp_path / "jobs").exists()


def test_a_webhook_secret_is_shown_and_never_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("ESRGAN_JOBS_FOLDER", str(tmp_path))
    assert main(["webhook-secret", "shop"]) == 2
    assert "docker compose exec esrgan python -m app webhook-secret shop" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "webhook-secrets").write_text("x" * 32)
    assert main(["webhook-secret", "shop"]) == 0
    assert capsys.readouterr().out.startswith("whsec_")


def test_a_second_signal_ends_a_service_that_drains_at_once(models: Path) -> None:
    port = free_port()
    process = start(port=port, models=models, drain_s=600, upload_idle_s=600)
    assert becomes_ready(process, port), process.communicate()
    with socket.create_connection(("127.0.0.1", port), timeout=START_S) as upload:
        upload.sendall(b"POST /v1/upscale HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert upload.recv(100).startswith(b"HTTP/1.1 100 ")  # it is accepted, and so the drain waits for it
        process.send_signal(signal.SIGTERM)
        # Of two signals that come before the process handles one, it sees one only.
        asyncio.run(until(lambda: not httpx.get(f"http://127.0.0.1:{port}/readyz").is_success, pause_s=0.05))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_busy_port_is_reported_in_one_line_with_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refusal(port=port)
        assert "ESRGAN_PORT=9000, or with make PORT=9000" in refusal(port=port)


def test_a_wrong_setting_is_reported_in_one_line() -> None:
    assert "ESRGAN_PORT='http'" in refusal(port="http")
    assert "unknown setting ESRGAN_COLOUR" in refusal(colour="red")


def test_a_missing_models_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    assert "has no weight file" in refusal(port=free_port(), models=tmp_path)


def test_an_unknown_command_is_named_with_all_others() -> None:
    said = refusal("serve")
    assert "invalid choice: 'serve'" in said
    assert "webhook-secret" in said


@pytest.mark.parametrize("command", ["", "check", "health", "openapi", "key", "webhook-secret", "replicas", "cluster"])
def test_help_describes_a_command_and_does_nothing_else(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--help", "-h"):
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), option])
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        assert len(printed.split("\n\n")) > 2, printed  # usage, description, options
        assert "token" not in printed


def test_health_names_the_address_where_nothing_listens() -> None:
    port = free_port()
    process = start("health", port=port)
    _, said = process.communicate(timeout=START_S)
    assert process.returncode == 1
    assert f"not ready: http://127.0.0.1:{port}/readyz: [Errno 111] Connection refused; " in said
    assert "ESRGAN_PORT" in said


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141)])
def test_an_interruption_and_a_reader_that_leaves_end_a_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: int
) -> None:
    def check(settings: object) -> None:
        raise error

    monkeypatch.setattr("app.__main__.check_keys", check)
    assert run_quietly(["check"]) == status


def test_the_line_of_a_new_key_goes_to_stdout_and_its_token_to_stderr() -> None:
    process = start("key", "shop", "concurrent=4")
    line, said = process.communicate(timeout=START_S)
    assert process.returncode == 0
    (key,) = parse_keys(line)
    assert (key.name, key.limits.concurrent) == ("shop", 4)
    token = said.splitlines()[-1]
    assert find_key([key], token) == key
    assert "'colour=red' is not an option" in refusal("key", "shop", "colour=red")


def test_windows_gets_a_way_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("os.name", "nt")
        status = main([])
    assert (status, capsys.readouterr().err) == (
        2,
        "error: this needs Linux; on Windows, run it in WSL 2 or in a container\n",
    )
