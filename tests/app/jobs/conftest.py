"""Databases of jobs with a manual clock: SQLite, and PostgreSQL if it is installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from app.jobs.database import Database, Session
from app.jobs.sqlite import SqliteDatabase
from tests.app.jobs.peer import Peer, listening
from tests.clock import ManualClock

Result = TypeVar("Result")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with listening(Peer()) as it:
        yield it


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a PostgreSQL server for this run; its tests are skipped if PostgreSQL is not installed."""
    pytest.importorskip("psycopg")
    programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    initdb = programs / "initdb" if programs else shutil.which("initdb")
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="esrgan-postgres-"))
    if user:
        shutil.chown(folder, user)
    run = partial(
        subprocess.run, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    control = Path(initdb).with_name("pg_ctl")
    try:
        run([initdb, "--pgdata", folder / "data", "--auth", "trust", "--username", "esrgan", "--no-sync"])
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run([control, "--pgdata", folder / "data", "--wait", "-o", options, "start"])
        yield f"postgresql://esrgan@/postgres?host={folder}"
        run([control, "--pgdata", folder / "data", "--mode", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a bucket on an S3 server of this process; the environment names the server to the service."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    credentials = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
    for name, value in {**credentials, "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    # All servers of a process share their buckets.
    httpx.post(f"{endpoint}/moto-api/reset", timeout=60).raise_for_status()
    httpx.put(f"{endpoint}/esrgan", timeout=60).raise_for_status()
    yield "s3://esrgan/jobs"
    server.stop()


class ShiftedSession:
    """A session with the clock of the test."""

    def __init__(self, session: Session, clock: ManualClock) -> None:
        self._session = session
        self.rows = session.rows
        self.now = clock


class ShiftedDatabase(Database):
    """A database with the clock of the test."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        super().__init__(database._writer, database._reader)
        self._clock = clock

    async def write(self, call: Callable[[Session], Result]) -> Result:
        return await super().write(lambda session: call(ShiftedSession(session, self._clock)))

    async def read(self, call: Callable[[Session], Result]) -> Result:
        return await super().read(lambda session: call(ShiftedSession(session, self._clock)))


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Database]:
    opened: Database
    if request.param == "sqlite":
        opened = SqliteDatabase(tmp_path / "jobs.sqlite", clock)
    else:
        address = request.getfixturevalue("postgres")
        from app.jobs.postgres import PostgresDatabase

        opened = ShiftedDatabase(PostgresDatabase(address), clock)
        await opened.write(_empty)
    yield opened
    await opened.close()


def _empty(session: Session) -> None:
    for table in ("jobs", "pictures", "deliveries"):
        session.rows(f"delete from {table}")
