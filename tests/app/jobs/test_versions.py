"""Two versions of the service on the same jobs: during an update, and after a rollback."""

import json
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter

from app.http.parameters import Parameters
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

NOT_RULES = {"default", "description", "title"}


def test_a_request_is_restored_from_its_json() -> None:
    options = UpscaleOptions(size=Size(width=30, height=20), formats=[FORMATS["jpeg"]], quality=80, ensemble=True)
    request = UpscaleRequest(model="tiny", fidelity=0.5, options=options)
    assert UpscaleRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_options_at_their_defaults_are_not_written_so_that_older_versions_need_not_know_them() -> None:
    assert UpscaleRequest().to_json() == {"model": None, "fidelity": None, "formats": ["png"]}


@pytest.mark.parametrize(
    ("newer", "named"),
    [
        ({"sharpen": 0.5}, "sharpen"),
        ({"formats": ["tiff9", "png"]}, "formats=['tiff9', 'png']"),
        ({"formats": []}, "formats=[]"),
        ({"edges": "mirror"}, "edges=mirror"),
        ({"metadata": "no-gps"}, "metadata=no-gps"),
        ({"frames": "last"}, "frames=last"),
        ({"compression": "best"}, "compression=best"),
        ({"colour_lock": "strong"}, "colour_lock=strong"),
        ({"ensemble": 16}, "ensemble=16"),
        ({"same_format": 1}, "same_format=1"),
        ({"bits": 32}, "bits=32"),
        ({"quality": "auto"}, "quality=auto"),
        ({"quality": 101}, "quality=101"),
        ({"fidelity": 1.5}, "fidelity=1.5"),
        ({"model": ["a", "b"]}, "model=['a', 'b']"),
        ({"scale": 32}, "scale=32"),
        ({"scale": True}, "scale=True"),
        ({"width": 0.5}, "width=0.5"),
        ({"megapixels": 0}, "megapixels=0"),
        ({"max_side": 10**7, "edges": "mirror"}, "edges=mirror, max_side=10000000"),
        ({"scale": 2, "width": 30}, "scale=2 with width=30"),
        ({"colour_lock": True, "edges": "wrap"}, "colour_lock=True with edges=wrap"),
    ],
)
def test_what_only_a_newer_version_knows_is_named(newer: dict[str, object], named: str) -> None:
    with pytest.raises(OtherVersion) as caught:
        UpscaleRequest.from_json(UpscaleRequest().to_json() | newer)
    assert f"does not know {named};" in caught.value.detail


def schema_of(hint: Any) -> dict[str, object]:
    return {name: value for name, value in TypeAdapter(hint).json_schema().items() if name not in NOT_RULES}


def test_a_stored_value_is_checked_by_the_rule_that_admitted_it() -> None:
    admitted = Parameters.model_json_schema()["properties"]
    stored = get_type_hints(UpscaleOptions, include_extras=True) | get_type_hints(Size, include_extras=True)
    stored |= {"model": str | None, "fidelity": get_type_hints(UpscaleRequest, include_extras=True)["fidelity"]}
    rules = {name: {key: it for key, it in rule.items() if key not in NOT_RULES} for name, rule in admitted.items()}
    shared = stored.keys() & rules.keys()
    assert rules.keys() - shared == {"format"}  # stored as the formats that it allows
    assert {name: schema_of(stored[name]) for name in shared} == {name: rules[name] for name in shared}


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
