"""Manifests for fleets: schemas accept them, their settings are ours, and their times and metrics fit the service.

Set CRDS to a folder of CustomResourceDefinitions (Gateway API, Envoy Gateway, KEDA, Prometheus operator, KubeRay) to
check custom resources, too.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from app.environment import read_settings
from app.settings import Settings
from tests.compose_files import services

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBERNETES_VERSION = "1.33"
OVERLAYS = ("cpu", "gpu", "keys", "jobs")
FOLDERS = ("base", *(f"overlays/{name}" for name in OVERLAYS), "training")
CUSTOM = re.compile(r"gateway\.|keda\.sh|monitoring\.coreos\.com|ray\.io")

Resource = dict[str, Any]


@cache
def built(folder: str) -> list[Resource]:
    """Return the resources of a kustomization."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, which builds kustomizations")
    version = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=False).stdout
    if "Kustomize Version" not in version:
        pytest.skip("kubectl is too old for components of kustomizations: 1.24 or newer has them")
    command = ["kubectl", "kustomize", str(KUBERNETES / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def only(resources: list[Resource], kind: str, name: str = "esrgan") -> Resource:
    (found,) = [it for it in resources if (it["kind"], it["metadata"]["name"]) == (kind, name)]
    return found


def container(resources: list[Resource]) -> Resource:
    (found,) = only(resources, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def settings_of(resources: list[Resource], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings that a container's variables make."""
    for one in container(resources)["env"]:
        monkeypatch.setenv(one["name"], one["value"])
    monkeypatch.setenv("ESRGAN_HOST", "0.0.0.0")  # as in the image
    return read_settings()


@pytest.mark.parametrize("folder", FOLDERS)
def test_kubernetes_accepts_its_own_kinds(folder: str) -> None:
    own = [it for it in built(folder) if not CUSTOM.search(it["apiVersion"])]
    assert own
    for resource in own:
        kubernetes_validate.validate(resource, KUBERNETES_VERSION, strict=True)


def closed(schema: Any) -> Any:
    """Return a schema that allows no properties other than those it names."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(part) for name, part in schema.items()}
    is_open = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    return made if is_open or not isinstance(made.get("properties"), dict) else made | {"additionalProperties": False}


@cache
def custom_schemas() -> dict[tuple[str, str], Any]:
    """Return the schemas of custom resources by `apiVersion` and kind."""
    if not (folder := os.environ.get("CRDS")):
        pytest.skip("CRDS names no folder of CustomResourceDefinitions")
    schemas = {}
    for path in Path(folder).glob("*.yaml"):
        for crd in filter(None, yaml.safe_load_all(path.read_text(encoding="utf-8"))):
            for version in crd["spec"]["versions"]:
                kind = (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
                schema = closed(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                schemas[kind] = schema
    return schemas


def custom_resources() -> Iterator[Resource]:
    for folder in FOLDERS:
        yield from (it for it in built(folder) if CUSTOM.search(it["apiVersion"]))
    yield yaml.safe_load((ROOT / "deploy" / "kuberay" / "rayservice.yaml").read_text(encoding="utf-8"))


def test_the_definitions_of_custom_resources_accept_ours() -> None:
    schemas, kinds = custom_schemas(), set()
    for resource in custom_resources():
        kinds.add(resource["kind"])
        jsonschema.validate(resource, schemas[resource["apiVersion"], resource["kind"]])
    assert kinds == {"Gateway", "HTTPRoute", "BackendTrafficPolicy", "PodMonitor", "ScaledObject", "RayService"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_settings_of_ours_and_time_to_leave(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = built(f"overlays/{overlay}")
    settings, pod = settings_of(resources, monkeypatch), only(resources, "Deployment")["spec"]["template"]["spec"]
    probe = container(resources)["readinessProbe"]
    assert settings.leave_s > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert pod["terminationGracePeriodSeconds"] >= settings.leave_s + settings.drain_s + 5
    assert settings.precision != "fastest"  # replicas answer alike
    assert settings.jobs == (overlay == "jobs")
    assert (settings.keys is not None) == (overlay in ("keys", "jobs"))


@pytest.mark.parametrize("folder", [*(f"overlays/{overlay}" for overlay in OVERLAYS), "training"])
def test_a_pod_cannot_write_to_its_root_or_gain_rights(folder: str) -> None:
    (pod,) = [it["spec"]["template"]["spec"] for it in built(folder) if it["kind"] in ("Deployment", "Job")]
    (one,) = pod["containers"]
    own = one["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]) == (True, False)
    assert own["capabilities"] == {"drop": ["ALL"]}
    # The image has TRITON_CACHE_DIR and CUDA_CACHE_PATH in the latter.
    assert {"/tmp", "/var/cache/esrgan"} <= {mount["mountPath"] for mount in one["volumeMounts"]}


def test_containers_of_ray_gain_no_rights() -> None:
    cluster = yaml.safe_load((ROOT / "deploy" / "kuberay" / "rayservice.yaml").read_text("utf-8"))["spec"]
    groups = [cluster["rayClusterConfig"]["headGroupSpec"], *cluster["rayClusterConfig"]["workerGroupSpecs"]]
    own = [one["securityContext"] for group in groups for one in group["template"]["spec"]["containers"]]
    expected = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert own == [expected, expected]


def test_probes_and_routes_ask_for_paths_that_exist() -> None:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"].keys()
    resources = built("overlays/cpu")
    probes = [part["httpGet"]["path"] for name, part in container(resources).items() if name.endswith("Probe")]
    health = only(resources, "BackendTrafficPolicy")["spec"]["healthCheck"]["active"]["http"]["path"]
    assert len(probes) == 3
    assert {*probes, health} <= paths
    closed_rule, rule = only(resources, "HTTPRoute")["spec"]["rules"]
    assert closed_rule == {"matches": [{"path": {"type": "Exact", "value": "/metrics"}}]}
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert float(rule["timeouts"]["request"].removesuffix("s")) > Settings().max_wait_s


def test_requests_that_make_or_remove_jobs_have_a_route_of_their_own() -> None:
    resources = built("overlays/jobs")
    (once,) = only(resources, "HTTPRoute", "esrgan-once")["spec"]["rules"]
    posted, deleted, preferring = once["matches"]
    jobs = {"type": "PathPrefix", "value": "/v1/jobs"}
    assert (posted, deleted) == ({"path": jobs, "method": "POST"}, {"path": jobs, "method": "DELETE"})
    assert preferring["path"] == {"type": "PathPrefix", "value": "/v1/upscale"}
    (header,) = preferring["headers"]
    assert (header["type"], header["name"]) == ("RegularExpression", "Prefer")
    assert re.fullmatch(header["value"], "wait=10, Respond-Async")
    assert not re.fullmatch(header["value"], "wait=10")
    rule = only(resources, "HTTPRoute")["spec"]["rules"][-1]
    assert once | {"matches": None} == rule | {"matches": None}


def test_such_requests_are_sent_again_only_where_the_connection_fails() -> None:
    resources = built("overlays/jobs")
    policy, once = (only(resources, "BackendTrafficPolicy", name)["spec"] for name in ("esrgan", "esrgan-once"))
    assert [it["targetRefs"][0]["name"] for it in (policy, once)] == ["esrgan", "esrgan-once"]
    assert once["retry"]["retryOn"] == {"triggers": ["connect-failure"]}
    own = {"targetRefs": None, "retry": None}
    assert once | own == policy | own


def test_autoscaling_asks_for_metrics_that_exist() -> None:
    triggers = only(built("overlays/cpu"), "ScaledObject")["spec"]["triggers"]
    named = {name for trigger in triggers for name in re.findall(r"esrgan_\w+", trigger["metadata"]["query"])}
    documented = set(re.findall(r"esrgan_\w+", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")))
    assert {"esrgan_backlog_seconds", "esrgan_refused_pictures_total"} <= named <= documented


def test_only_the_autoscaler_decides_how_many_replicas_there_are() -> None:
    assert "replicas" not in only(built("overlays/cpu"), "Deployment")["spec"]
    assert only(built("base"), "Deployment")["spec"]["replicas"] > 1


def test_pods_of_a_training_run_meet_at_the_first_one() -> None:
    job = only(built("training"), "Job", "esrgan-training")["spec"]
    (trainer,) = job["template"]["spec"]["containers"]
    command = trainer["command"]
    assert f"--nnodes={job['completions']}" in command
    assert job["completions"] == job["parallelism"]
    assert f"--nproc-per-node={trainer['resources']['limits']['nvidia.com/gpu']}" in command
    assert f"--master-addr=esrgan-training-0.{job['template']['spec']['subdomain']}" in command


@pytest.mark.parametrize(
    ("proxy", "line"),
    [
        ("haproxy.cfg", "timeout http-request"),
        ("nginx.conf", "client_header_timeout"),
        ("Caddyfile", "read_header"),
        ("envoy.yaml", "request_headers_timeout:"),
    ],
)
def test_a_proxy_waits_for_headers_no_longer_than_the_service_would(proxy: str, line: str) -> None:
    content = (ROOT / "docker" / "proxy" / proxy).read_text(encoding="utf-8")
    assert re.findall(rf"(?m)^\s*{line} (\w+)", content) == [f"{Settings().head_s:.0f}s"]


def test_the_balancer_knows_every_replica_of_the_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas = {name: part for name, part in services("gpus").items() if name.startswith("gpu")}
    servers = re.findall(
        r"server (\w+) (\w+):8000 ", (ROOT / "docker" / "haproxy" / "gpus.cfg").read_text(encoding="utf-8")
    )
    assert servers == [(name, name) for name in replicas]
    for number, replica in enumerate(replicas.values()):
        (device,) = replica["deploy"]["resources"]["reservations"]["devices"]
        assert device["device_ids"] == [str(number)]
        for name, value in replica["environment"].items():
            if name.startswith("ESRGAN_"):
                monkeypatch.setenv(name, value)
        settings = read_settings()
        assert (settings.leave_s, settings.published) == (2, ("127.0.0.1", 8000))
