"""The output of /metrics after known requests."""

import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import VERSION
from app.build import build_service
from app.http.application import create_app
from app.lifecycle import Lifecycle
from app.service import UpscaleService
from app.settings import Settings
from model.convolutions.convolver import Convolver
from model.convolutions.fused import FusedConvolver
from model.convolutions.library import OneDnnConvolver, library_convolution
from tests.app.conftest import encoded, noise, problem
from tests.app.http.test_auth import bearer, tokens
from tests.app.in_process import client_of

pytestmark = pytest.mark.anyio

__all__ = ["tokens"]  # a fixture, for the test with keys

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(client: httpx.AsyncClient) -> Samples:
    """Return all samples, by name and labels."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


async def test_a_request_is_counted_by_route_status_outcome_and_model(client: httpx.AsyncClient) -> None:
    await client.post("/v1/upscale", content=encoded(noise(12, 9)))
    await client.post("/v1/upscale", content=b"rubbish")
    await client.get("/%00nothing")
    now = await scraped(client)
    upscale = {"route": "/v1/upscale", "model": "tiny"}
    assert value(now, "esrgan_requests_total", **upscale, status="200", outcome="done") == 1
    assert value(now, "esrgan_requests_total", **upscale, status="415", outcome="unsupported-format") == 1
    assert value(now, "esrgan_requests_total", route="other", model="", status="404", outcome="not-found") == 1
    assert value(now, "esrgan_request_duration_seconds_count", route="/v1/upscale") == 2


async def test_pixels_are_counted_by_state(client: httpx.AsyncClient) -> None:
    await client.post("/v1/upscale", content=encoded(noise(50, 40)))
    now = await scraped(client)
    assert value(now, "esrgan_done_pixels_total") == 2000
    assert value(now, "esrgan_queued_pixels") == value(now, "esrgan_in_flight_pixels") == 0
    assert value(now, "esrgan_batch_pixels_sum") == 2000
    assert value(now, "esrgan_batch_pixels_bucket", le="1023.0") == 0
    assert value(now, "esrgan_batch_pixels_bucket", le="2047.0") == 1
    assert value(now, "esrgan_batch_pixels_bucket", le="+Inf") == 1
    assert value(now, "esrgan_picture_pixels_sum") == 2000
    assert value(now, "esrgan_pictures_total", outcome="done") == 1
    assert value(now, "esrgan_device_busy_seconds_total") > 0


async def test_every_stage_of_a_request_is_measured(client: httpx.AsyncClient) -> None:
    await client.post("/v1/upscale", content=encoded(noise(50, 40)))
    now = await scraped(client)
    for stage in ("read", "decode", "queue", "infer", "encode", "send"):
        assert value(now, "esrgan_stage_duration_seconds_count", stage=stage) == 1


async def test_retried_work_is_counted(client: httpx.AsyncClient, service: UpscaleService) -> None:
    for reason in ("float32", "out_of_memory"):  # shown from the start, so that the first one is an increase
        assert value(await scraped(client), "esrgan_rescues_total", model="tiny", reason=reason) == 0
    service.device.retries["tiny"].update({"float32": 3})  # type: ignore[attr-defined]  # a Counter
    assert value(await scraped(client), "esrgan_rescues_total", model="tiny", reason="float32") == 3


async def test_the_age_of_the_numbers_of_jobs_shows_that_their_database_is_away(
    client: httpx.AsyncClient, life: Lifecycle
) -> None:
    life.jobs.counters.totals_s = time.monotonic() - 500
    assert value(await scraped(client), "esrgan_stored_jobs_age_seconds") >= 500


async def test_the_metrics_say_how_each_model_runs(client: httpx.AsyncClient, service: UpscaleService) -> None:
    (entry,) = service.library.entries()
    assert entry.loaded is not None
    network = entry.loaded.network
    how = {"device": "cpu", "precision": network.info.precision, "convolution": network.upscaler.convolution}
    assert value(await scraped(client), "esrgan_model_info", model="tiny", **how) == 1


@pytest.mark.parametrize(
    ("convolver", "name"),
    [(library_convolution, "library"), (FusedConvolver(), "fused"), (OneDnnConvolver(), "onednn")],
)
def test_a_convolution_has_a_short_name(convolver: Convolver, name: str) -> None:
    assert convolver.name == name


async def test_the_metrics_have_the_version_and_readiness(client: httpx.AsyncClient, service: UpscaleService) -> None:
    now = await scraped(client)
    assert value(now, "esrgan_ready") == 1
    assert value(now, "esrgan_model_state", model="tiny", state="ready") == 1
    assert value(now, "esrgan_model_state", model="tiny", state="failed") == 0
    assert value(now, "esrgan_model_memory_bytes", model="tiny") > 0
    assert value(now, "esrgan_model_loads_total", outcome="loaded") == 1
    assert value(now, "esrgan_model_loads_total", outcome="failed") == 0
    assert any(name == "esrgan_build_info" and ("version", VERSION) in labels for name, labels in now)
    assert value(now, "process_resident_memory_bytes") > 0
    await service.scheduler.stop(drain_s=1)
    assert value(await scraped(client), "esrgan_ready") == 0


async def test_metrics_are_there_while_the_service_loads(settings: Settings) -> None:
    async with client_of(create_app(Lifecycle(settings, lambda: build_service(settings)))) as loading:
        now = await scraped(loading)
    assert ("esrgan_ready", frozenset()) in now
    assert value(now, "esrgan_ready") == 0
    assert not any(name == "esrgan_queued_pixels" for name, _ in now)


async def test_a_scraper_gets_an_answer_whatever_version_it_names(client: httpx.AsyncClient) -> None:
    openmetrics, text = "application/openmetrics-text; version=1.0.0", "text/plain"
    for accept, expected in {
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5": openmetrics,
        "text/plain;q=0.5, Application/OpenMetrics-Text": openmetrics,
        'application/openmetrics-text;version="1.0.0"': openmetrics,
        "application/openmetrics-text;version=abc": text,
        "application/openmetrics-text;version=1.x.0": text,
        "application/openmetrics-text;version=0.0.1, application/openmetrics-text;version=1.0.0": openmetrics,
        "text/plain;version=x": text,
        "application/openmetrics-text;version": text,
        "*/*": text,
        "": text,
    }.items():
        answer = await client.get("/metrics", headers={"Accept": accept})
        assert answer.status_code == 200, accept
        assert answer.headers["content-type"].startswith(expected), accept


async def test_openmetrics_is_sent_on_request(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


class TestWithKeys:
    @pytest.fixture
    def settings(self, settings: Settings, tmp_path: Path, tokens: dict[str, str]) -> Settings:
        return settings.model_copy(update={"keys": tmp_path / "keys"})

    async def test_metrics_need_a_key_and_count_by_its_name(
        self, client: httpx.AsyncClient, tokens: dict[str, str]
    ) -> None:
        problem(await client.get("/metrics"), 401, "unauthorized")
        problem(await client.get("/metrics", headers=bearer(tokens["shop"])), 403, "forbidden")
        await client.post("/v1/upscale", content=encoded(noise(50, 40)), headers=bearer(tokens["shop"]))
        client.headers = httpx.Headers(bearer(tokens["watch"]))
        now = await scraped(client)
        assert value(now, "esrgan_key_requests_total", key="shop", outcome="forbidden") == 1
        assert value(now, "esrgan_key_requests_total", key="shop", outcome="done") == 1
        assert value(now, "esrgan_key_pixels_total", key="shop") == 2000
