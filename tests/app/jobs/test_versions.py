"""Two versions of the service on the same jobs: during an update, and after a rollback."""

import json
from functools import partial
from pathlib import Path

import pytest

from app.jobs import pages
from app.jobs.database import Session
from app.jobs.job import JobState
from app.jobs.sqlite import SqliteDatabase
from app.options import UpscaleOptions
from app.pictures.encode import FORMATS
from app.pictures.size import Size
from app.upscaling import OtherVersion, UpscaleRequest
from tests.app.jobs.rows import added, claimed, ended, new_job, read, taken

pytestmark = pytest.mark.anyio


def test_a_request_is_restored_from_its_json() -> None:
    options = UpscaleOptions(size=Size(width=30, height=20), formats=[FORMATS["jpeg"]], quality=80, ensemble=True)
    request = UpscaleRequest(model="tiny", fidelity=0.5, options=options)
    assert UpscaleRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_options_at_their_defaults_are_not_written_so_that_older_versions_need_not_know_them() -> None:
    assert UpscaleRequest().to_json() == {"model": None, "fidelity": None, "formats": ["png"]}


@pytest.mark.parametrize("newer", [{"sharpen": 0.5}, {"formats": ["tiff9", "png"]}])
def test_what_only_a_newer_version_knows_is_named(newer: dict[str, object]) -> None:
    with pytest.raises(OtherVersion, match=r"sharpen|tiff9"):
        UpscaleRequest.from_json(UpscaleRequest().to_json() | newer)


async def test_columns_and_members_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    def widen(session: Session) -> None:
        for table in ("jobs", "pictures", "deliveries"):
            session.rows(f"alter table {table} add column later text not null default ''")

    def extend(session: Session) -> None:
        session.rows(
            "update pictures set result = json_set(result, '$.later', 1), problem = json_object('status', 500, 'type',"
            " 'internal', 'title', 't', 'detail', 'd', 'later', 1) where result is not null"
        )

    database = SqliteDatabase(tmp_path / "jobs.sqlite")
    await database.write(widen)
    job = await added(database, new_job(pictures=2, webhook="https://example.com/"))
    await ended(database, await taken(database))
    await database.write(extend)
    assert (await read(database, job.id)).pictures[0].result is not None
    held = await claimed(database)
    assert held is not None
    assert held.picture.number == 2
    await ended(database, held)
    assert [it.state for it in (await database.read(partial(pages.page, key_name=None)))[0]] == [JobState.DONE]
    await database.close()
