"""Dashboard and alerts: they use existing metrics, and their tools accept them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.conftest import encoded, noise

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "docker" / "prometheus"
DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "esrgan.json"
NAME = re.compile(r"\b(?:esrgan|process)_[a-z0-9_]+")


def exported(text: str) -> Iterator[str]:
    """Return the names of all possible samples, from the TYPE lines of /metrics."""
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        yield from (name + suffix for suffix in suffixes)


def named(text: str) -> set[str]:
    return set(NAME.findall(text))


def expressions() -> str:
    """Return all queries of the dashboard, and the alerts."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return "\n".join([*queries, (PROMETHEUS / "alerts.yml").read_text()])


@pytest.mark.anyio
async def test_dashboard_and_alerts_name_metrics_that_exist(client: httpx.AsyncClient) -> None:
    await client.post("/v1/upscale", content=encoded(noise(5, 5)))
    there = set(exported((await client.get("/metrics")).text))
    wanted = named(expressions())
    assert len(wanted) > 20
    assert wanted <= there, sorted(wanted - there)


@pytest.mark.anyio
async def test_every_metric_is_documented(client: httpx.AsyncClient) -> None:
    there = set(re.findall(r"^# TYPE (esrgan_\S+) ", (await client.get("/metrics")).text, re.MULTILINE))
    there = {name for name in there if not name.endswith("_created")}
    documented = named((ROOT / "docs" / "operations.md").read_text())
    assert there <= documented, sorted(there - documented)


def test_every_alert_says_what_to_do() -> None:
    alerts = re.findall(r"- alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text())
    assert len(alerts) > 5
    told = re.findall(r"^\| `(Esrgan\w+)`", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(alerts)


def accepted(*command: str) -> None:
    """Check that a tool, if it is installed, accepts its files."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *(("check", "config", "--syntax-only", str(path)) for path in sorted(PROMETHEUS.glob("prometheus*.yml"))),
        ("test", "rules", str(PROMETHEUS / "alerts.test.yml")),
    ],
)
def test_prometheus_accepts_its_files(arguments: tuple[str, ...]) -> None:
    accepted("promtool", *arguments)
