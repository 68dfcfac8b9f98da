"""`python -m app cluster`: its requirements, its number of replicas, and, marked `slow`, a real Ray."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec

import httpx
import pytest
import yaml

from app.settings import Settings, SettingsError
from tests.app.conftest import encoded, noise, write_tiny_model
from tests.app.live import until
from tests.app.processes import ROOT, becomes_ready, free_port, refusal, variables
from tests.app.test_replicas import under_load

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `cluster` is not installed")


def variables_of_ray() -> dict[str, str]:
    """Return the variables of docker/cluster.env."""
    lines = (ROOT / "docker" / "cluster.env").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value.strip('"') for name, value in pairs}


@pytest.mark.skipif(find_spec("ray") is not None, reason="the extra `cluster` is installed")
def test_without_ray_the_command_names_the_extra() -> None:
    assert "the extra `cluster`" in refusal("cluster")


def test_pods_of_kuberay_have_the_variables_of_other_nodes() -> None:
    manifest = yaml.safe_load((ROOT / "deploy" / "kuberay" / "kustomization.yaml").read_text(encoding="utf-8"))
    (generated,) = manifest["configMapGenerator"]
    assert variables_of_ray().items() <= dict(line.split("=", 1) for line in generated["literals"]).items()


@needs_ray
@pytest.mark.parametrize("missing", ["RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD"])
def test_the_start_demands_what_keeps_streams_out_of_memory(missing: str) -> None:
    from app.cluster import check_variables

    check_variables(variables_of_ray())
    with pytest.raises(SettingsError, match=rf"{missing}=\d must be set on every node"):
        check_variables({name: value for name, value in variables_of_ray().items() if name != missing})


@needs_ray
def test_a_number_of_replicas_is_fixed_or_a_range() -> None:
    from app.cluster import Size

    assert Size.parse("3") == Size(least=3, most=3)
    assert Size.parse("1-4") == Size(least=1, most=4)
    for text in ("0", "4-1", "many", "1-", "-1"):
        with pytest.raises(SettingsError, match="is not a number of replicas"):
            Size.parse(text)


@needs_ray
def test_without_keys_a_cluster_does_not_start_since_rays_ports_are_open() -> None:
    from app.cluster import Size, application

    with pytest.raises(SettingsError, match="there are no keys"):
        application(Settings(), Size(least=1, most=1), gpus=0)


@needs_ray
def test_replicas_on_a_processor_share_it_and_count_no_caller_as_local(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.cluster import Size, application

    monkeypatch.setattr("ray.nodes", lambda: ["one"])
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    made = application(Settings(allow_anonymous=True), Size(least=1, most=4), gpus=0)._bound_deployment
    assert made.ray_actor_options is not None
    assert made.ray_actor_options["num_cpus"] == 2
    (settings,) = made.init_args
    assert (settings.threads, settings.is_local) == (2, False)


@needs_ray
def test_jobs_of_two_machines_need_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.cluster import Size, application

    monkeypatch.setattr("ray.nodes", lambda: ["one", "two"])
    with pytest.raises(SettingsError, match="ESRGAN_JOBS_DATABASE"):
        application(Settings(allow_anonymous=True), Size(least=2, most=2), gpus=1)


@dataclass
class Context:
    """The part of Ray's autoscaling context that the policy reads."""

    aggregated_metrics: dict[str, dict[str, float]] | None
    capacity_adjusted_min_replicas: int = 1
    capacity_adjusted_max_replicas: int = 4
    unused: dict[str, str] = field(default_factory=dict)


@needs_ray
@pytest.mark.parametrize(
    ("backlogs", "wanted"),
    [(None, 1), ({}, 1), ({"a": 0.0}, 1), ({"a": 5.0, "b": 0.1}, 2), ({"a": 100.0}, 4)],
)
def test_there_is_a_replica_for_every_five_seconds_of_work(backlogs: dict[str, float] | None, wanted: int) -> None:
    from app.cluster import by_backlog

    context = Context(None if backlogs is None else {"backlog_s": backlogs})
    assert by_backlog(context)[0] == wanted


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run two replicas on a Ray of this machine; yields their address."""
    port, folder = free_port(), tmp_path_factory.mktemp("models")
    write_tiny_model(folder, "tiny")
    settings = variables(models=folder, port=port, precision="float32", threads=1, allow_anonymous="true")
    command = [sys.executable, "-m", "app", "cluster", "2"]
    process = subprocess.Popen(command, cwd=ROOT, env=settings | variables_of_ray())
    try:
        assert becomes_ready(process, port)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.wait()


@needs_ray
@pytest.mark.slow
@pytest.mark.anyio
async def test_a_cluster_answers_as_one_process_and_loses_nothing(cluster: str) -> None:
    async with httpx.AsyncClient(base_url=cluster, timeout=120) as client:
        async with under_load(client) as load:
            await until(lambda: load.answered >= 40, within_s=120)
        assert load.wrong == []
        refused = await client.post("/v1/upscale", content=b"no picture")
        assert refused.status_code == 415
        assert refused.headers["content-type"] == "application/problem+json"
        streamed = await client.post("/v1/upscale", content=encoded(noise(200, 300)))
        assert streamed.status_code == 200
        assert (await client.post("/v1/models/tiny/reload")).status_code in (401, 403)
        for port in (9200, 9201):
            metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            assert "esrgan_ready 1.0" in metrics
