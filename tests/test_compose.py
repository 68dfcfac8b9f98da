"""The compose files: whatever is combined, keys, models and settings in `.env` reach every process that serves."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose_files import BASE, MissingVariableError, services, substituted

ROOT = Path(__file__).parents[1]
OVERLAYS = [(), ("gpu",), ("gpus",)]
MINE = {"KEYS_FOLDER": "./mine/keys", "MODELS_FOLDER": "./mine/models"}
KEYS, MODELS = "./mine/keys:/keys:ro", "./mine/models:/models:ro"

FIXED = {"ESRGAN_HOST", "ESRGAN_PORT", "ESRGAN_PUBLISHED", "ESRGAN_JOBS_FOLDER", "ESRGAN_DEVICE"}
"""Settings of a container that are not those of `.env`, as docs/deploy.md says."""

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("docker/*.yml"), ROOT / BASE]


def serving(*overlays: str, **variables: str) -> dict[str, dict[str, Any]]:
    """Return the services that run the image, except the single process where replicas are in its place."""
    ours = services(*overlays, **variables)
    return {
        name: part
        for name, part in ours.items()
        if part["image"] == "esrgan-serve" and "single" not in part.get("profiles", ())
    }


@pytest.mark.parametrize("overlays", OVERLAYS)
def test_keys_models_and_settings_reach_every_process_that_serves(overlays: tuple[str, ...]) -> None:
    found = serving(*overlays, **MINE)
    assert len(found) == (8 if "gpus" in overlays else 1)
    for name, part in found.items():
        own = part["environment"]
        assert (own["ESRGAN_KEYS"], own["ESRGAN_MODELS"]) == ("/keys/keys", "/models"), name
        assert {KEYS, MODELS} <= set(part["volumes"]), name
        assert part["env_file"] == [{"path": ".env", "required": False}], name


@pytest.mark.parametrize("overlays", OVERLAYS)
def test_what_a_file_sets_itself_can_be_set_in_env(overlays: tuple[str, ...]) -> None:
    for part in serving(*overlays).values():
        for name in {it for it in part["environment"] if it.startswith("ESRGAN_")} - FIXED:
            for other in serving(*overlays, **{name: "other"}).values():
                assert other["environment"][name] == "other"


@pytest.mark.parametrize("overlays", OVERLAYS)
def test_without_them_the_service_starts_as_it_is_shipped(overlays: tuple[str, ...]) -> None:
    for part in serving(*overlays).values():
        own = part["environment"]
        assert (own["ESRGAN_KEYS"], own["ESRGAN_MODELS"], own["ESRGAN_ALLOW_ANONYMOUS"]) == ("", "", "true")
        assert {"keys:/keys:ro", "models:/models:ro"} <= set(part["volumes"])  # empty volumes


def test_what_is_open_to_the_network_needs_keys_or_the_word_that_it_needs_none() -> None:
    with pytest.raises(MissingVariableError, match="set KEYS_FOLDER"):
        services(ESRGAN_HOST="0.0.0.0")
    services(ESRGAN_HOST="0.0.0.0", KEYS_FOLDER="./keys")
    services(ESRGAN_HOST="0.0.0.0", ESRGAN_ALLOW_ANONYMOUS="true")
    (closed,) = serving(ESRGAN_HOST="0.0.0.0", ESRGAN_ALLOW_ANONYMOUS="false").values()
    assert closed["environment"]["ESRGAN_ALLOW_ANONYMOUS"] == "false"  # the service itself refuses


def test_a_key_file_that_the_container_does_not_have_is_not_ignored() -> None:
    (part,) = serving(ESRGAN_KEYS="keys/keys").values()
    assert part["environment"]["ESRGAN_KEYS"] == "keys/keys"


@pytest.mark.parametrize("overlays", OVERLAYS)
def test_prometheus_scrapes_the_same_with_keys_but_sends_a_token(overlays: tuple[str, ...]) -> None:
    def scrapes(**variables: str) -> list[dict[str, Any]]:
        volumes = services(*overlays, **variables)["prometheus"]["volumes"]
        (source,) = [it.split(":")[0] for it in volumes if it.endswith(":/etc/prometheus/prometheus.yml:ro")]
        assert not variables or KEYS in volumes
        return list(yaml.safe_load((ROOT / source).read_text(encoding="utf-8"))["scrape_configs"])

    plain, keyed = scrapes(), scrapes(**MINE)
    assert keyed[0].pop("authorization") == {"credentials_file": "/keys/monitor.token"}
    assert keyed == plain
    assert len(plain) == (2 if "gpus" in overlays else 1)  # HAProxy, too


@pytest.mark.parametrize("overlays", OVERLAYS)
def test_compose_accepts_its_files(overlays: tuple[str, ...]) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("Docker Compose is not installed")
    files = [BASE, *(f"docker/compose.{name}.yml" for name in overlays)]
    command = ["docker", "compose", *(word for file in files for word in ("-f", file)), "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_overlays_are_chosen_in_env_so_that_the_plain_command_is_always_right() -> None:
    wrong = re.compile(r"docker[ -]compose\b[^`#\n]* (-f|--file|--profile)\b|^\s+\w+=\S+ docker compose")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in DOCUMENTS
        for line in path.read_text(encoding="utf-8").splitlines()
        if wrong.search(line)
    ]
    assert found == []


def test_files_of_compose_that_documents_name_exist() -> None:
    read = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]
    named = {name for path in read for name in re.findall(r"compose\.\w+\.yml", path.read_text(encoding="utf-8"))}
    own = {"compose.local.yml"}  # the operator's
    assert {name for name in named - own if not (ROOT / "docker" / name).exists()} == set()


@pytest.mark.parametrize("name", [".env", "docker/compose.local.yml", "keys/keys", "models/mine.safetensors"])
def test_git_ignores_what_is_the_operators(name: str) -> None:
    done = subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, capture_output=True, check=False)
    if done.returncode == 128:
        pytest.skip("not a checkout of git")
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A}", "a"),
        ("${B:-b}${A:-b}", "ba"),
        ("${A:+x}${B:+x}", "x"),
        ("${B:+${C:?needed}}", ""),
        ("${B:-${A:?needed}}", "a"),
    ],
)
def test_variables_are_replaced_as_compose_does(text: str, expected: str) -> None:
    assert substituted(text, {"A": "a"}) == expected
