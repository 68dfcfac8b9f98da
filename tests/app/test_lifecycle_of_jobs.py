"""Jobs while the service starts and stops: given back when it stops, and done by the next one."""

import asyncio
import errno
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from app.build import build_service
from app.errors import Unavailable
from app.http.application import create_app
from app.jobs.database import Database, DatabaseDown, Session
from app.jobs.opening import open_database, open_store, open_webhook_secrets
from app.lifecycle import Lifecycle
from app.lists import hosts_of
from app.settings import Settings, SettingsError
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise, problem
from tests.app.http.endpoints.test_jobs import create, ended
from tests.app.in_process import started
from tests.app.live import Live, calling, until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("settings", [{"drain_s": 0, "job_lease_s": 1000}], indirect=True)
async def test_what_runs_at_a_stop_is_given_back_and_done_by_the_next_process(
    live: Live, caller: httpx.AsyncClient, settings: Settings, blocked: BlockedDevice
) -> None:
    sent = [(await create(caller, seed))["id"] for seed in range(6)]
    await blocked.at_work()
    await until(lambda: len(live.life.jobs.parts.runner._running) == settings.jobs_running)  # no claim is on its way
    live.signal()
    await until(live.running.done)
    blocked.gate.set()
    async with started(create_app(Lifecycle.of(build_service(settings)))) as client:
        jobs = [await ended(client, job_id) for job_id in sent]
    assert [job["state"] for job in jobs] == ["done"] * 6
    assert max(picture["attempts"] for job in jobs for picture in job["pictures"]) == 2


async def test_a_watcher_does_not_hold_up_the_end_of_the_service(live: Live, blocked: BlockedDevice) -> None:
    async with calling(live) as caller:
        job = await create(caller)
        await blocked.at_work()
        async with caller.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
            lines = events.aiter_lines()
            assert (await anext(lines)).startswith("retry:")
            live.signal()
            blocked.gate.set()
            async for _ in lines:
                pass
        await until(live.running.done)


@pytest.mark.parametrize("settings", [{"max_queued_px": 1000, "jobs_running": 2}], indirect=True)
async def test_jobs_that_run_take_no_place_in_the_queue_of_requests(
    client: httpx.AsyncClient, blocked: BlockedDevice
) -> None:
    pictures = [("image", encoded(noise(30, 30, seed=seed))) for seed in range(50)]
    job = (await client.post("/v1/jobs", files=pictures)).raise_for_status().json()
    await blocked.at_work()
    blocked.gate.set()
    for _ in range(3):
        assert (await client.post("/v1/upscale", content=encoded(noise(30, 30)))).status_code == 200
    await client.delete(f"/v1/jobs/{job['id']}")


@pytest.mark.parametrize(
    "settings", [{"jobs_store": "file:///tmp", "jobs_database": "postgresql://nobody@/"}], indirect=True
)
async def test_an_address_of_a_database_that_cannot_be_read_stops_the_start(settings: Settings) -> None:
    pytest.importorskip("psycopg")
    for password in ("S3cret%word", "S3c/ret", "S3c@ret"):
        address = f"postgresql://esrgan:{password}@127.0.0.1/esrgan"
        life = Lifecycle(settings.model_copy(update={"jobs_database": address}), lambda: build_service(settings))
        with pytest.raises(SettingsError, match="ESRGAN_JOBS_DATABASE: it cannot be read") as caught:
            life.jobs.open()
        assert "ret" not in str(caught.value)


async def test_jobs_begin_when_a_database_that_was_away_at_the_start_is_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away, attempts = True, 0

    def opened(settings: Settings, folder: Path) -> Database:
        nonlocal attempts
        attempts += 1
        if away:
            raise DatabaseDown("no route to host")
        return open_database(settings, folder)

    monkeypatch.setattr("app.jobs.parts.open_database", opened)
    monkeypatch.setattr("app.jobs.service.OPEN_RETRY_S", 0.05)
    async with started(create_app(Lifecycle.of(build_service(settings)))) as client:
        picture = encoded(noise(8, 8))
        assert (await client.post("/v1/upscale", content=picture)).status_code == 200
        refused = await client.post("/v1/jobs", content=picture)
        assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (503, "unavailable")
        assert "storage of the jobs" in refused.json()["detail"]
        await until(lambda: attempts > 3)
        assert caplog.messages.count("cannot open the storage of jobs, which get 503: no route to host") == 1
        away = False
        async with asyncio.timeout(60):
            while (answer := await client.post("/v1/jobs", content=picture)).status_code == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (await ended(client, answer.json()["id"]))["state"] == "done"


async def test_a_service_ends_while_the_database_of_its_jobs_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(settings: Settings, folder: Path) -> Database:
        raise DatabaseDown("no route to host")

    monkeypatch.setattr("app.jobs.parts.open_database", opened)
    life = Lifecycle.of(build_service(settings))
    life.start()
    life.drain()
    await life.drained()
    await life.stop()


@pytest.mark.parametrize("settings", [{"drain_s": 0}], indirect=True)
async def test_requests_are_aborted_at_the_drain_deadline_while_the_database_of_jobs_is_away(
    live: Live, caller: httpx.AsyncClient, blocked: BlockedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(caller)
    await blocked.at_work()
    waits = asyncio.create_task(caller.post("/v1/upscale", content=encoded(noise(5, 5))))
    await until(lambda: live.life.accepted == 1)
    database, back = live.life.jobs.parts.database, asyncio.Event()
    write = database.write

    async def slow(call: Callable[[Session], object]) -> object:
        await back.wait()
        return await write(call)

    monkeypatch.setattr(database, "write", slow)
    live.signal()
    problem(await asyncio.wait_for(waits, 60), 503, "unavailable")
    assert not live.running.done()
    back.set()
    blocked.gate.set()
    await until(live.running.done)


@pytest.mark.parametrize("settings", [{"drain_s": 0}], indirect=True)
async def test_a_service_ends_soon_after_its_drain_deadline_while_the_database_of_jobs_is_locked(
    live: Live,
    caller: httpx.AsyncClient,
    blocked: BlockedDevice,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("app.jobs.runner.RELEASE_S", 0.2)
    job = await create(caller)
    await blocked.at_work()
    assert settings.jobs_folder is not None
    with closing(sqlite3.connect(settings.jobs_folder / "jobs.sqlite", isolation_level=None)) as other:
        other.execute("begin immediate")
        live.signal()
        blocked.gate.set()
        await until(live.running.done, within_s=8)  # less than a transaction waits for a lock
        assert f"job {job['id']} picture 1 was not recorded: the database does not answer" in caplog.text


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Unavailable),
        (OSError(errno.EIO, "Input/output error"), Unavailable),
        (OSError(errno.EACCES, "Permission denied"), SettingsError),
    ],
)
def test_a_disk_that_is_full_or_fails_may_be_well_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: OSError, raised: type[Exception]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Path, "mkdir", refuse)
    for open_it in (open_store, open_webhook_secrets, open_database):
        with pytest.raises(raised):
            open_it(settings, Path("/nowhere"))


@pytest.mark.parametrize(
    ("named", "complaint"),
    [
        ({"jobs_store": "nonsense://there"}, "ESRGAN_JOBS_STORE: "),
        ({"webhook_secrets": Path("/nowhere/secrets"), "webhook_hosts": hosts_of("*")}, "ESRGAN_WEBHOOK_SECRETS="),
    ],
)
async def test_a_setting_of_jobs_that_was_named_and_is_wrong_stops_the_start(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, object], complaint: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings = settings.model_copy(update={"jobs_folder": None, **named})
    with pytest.raises(SettingsError, match=complaint):
        Lifecycle(settings, lambda: build_service(settings)).jobs.open()


async def test_a_folder_that_was_named_and_cannot_be_made_stops_the_start(settings: Settings) -> None:
    settings = settings.model_copy(update={"jobs_folder": settings.models / "tiny.safetensors" / "jobs"})
    with pytest.raises(SettingsError, match="ESRGAN_JOBS_FOLDER="):
        Lifecycle(settings, lambda: build_service(settings)).jobs.open()
