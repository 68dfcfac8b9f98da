"""Jobs over HTTP: accepted, watched, cancelled, fetched; the same bytes as the synchronous answer."""

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.http.submission import MAX_JSON_BYTES
from app.jobs.store import StoreDown
from app.jobs.view import JobView, QueueView
from app.lifecycle import Lifecycle
from app.lists import hosts_of
from app.settings import Settings
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise, problem
from tests.app.live import until

pytestmark = pytest.mark.anyio


async def create(client: httpx.AsyncClient, *seeds: int, **parameters: Any) -> dict[str, Any]:
    """Send a job of pictures of noise."""
    pictures = [("image", encoded(noise(20, 16, seed=seed))) for seed in seeds or (0,)]
    answer = await client.post("/v1/jobs", files=pictures, params=parameters)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    return job


async def ended(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """Wait for the end of a job."""
    async with asyncio.timeout(60):
        while True:
            job: dict[str, Any] = (await client.get(f"/v1/jobs/{job_id}")).raise_for_status().json()
            if job["state"] not in ("waiting", "running"):
                return job
            await asyncio.sleep(0.02)


def events_of(text: str) -> list[tuple[int, str, Any]]:
    """Id, name and data of the server-sent events in a text."""
    found = re.findall(r"id: (\d+)\nevent: (\w+)\ndata: (.*)\n\n", text)
    return [(int(number), name, json.loads(data)) for number, name, data in found]


@pytest.mark.parametrize("parameters", [{}, {"scale": 2, "format": "webp"}, {"format": "jpeg", "quality": 60}])
async def test_the_result_has_the_bytes_of_the_synchronous_answer(
    client: httpx.AsyncClient, parameters: dict[str, Any]
) -> None:
    picture = encoded(noise(20, 16))
    answer = (await client.post("/v1/upscale", content=picture, params=parameters)).raise_for_status()
    job = await ended(client, (await create(client, 0, **parameters))["id"])
    result = (await client.get(job["result"]["href"])).raise_for_status()
    assert result.content == answer.content
    for header in ("content-type", "etag", "x-model", "content-length"):
        assert result.headers[header] == answer.headers[header]
    assert (job["state"], job["progress"], job["problem"]) == ("done", 1, None)


NAMES = [
    ("photo.jpg", {}, 'attachment; filename="photo_x4.png"'),
    ("photo.old.jpg", {"width": 50, "format": "jpeg"}, 'attachment; filename="photo.old_50x40.jpg"'),
    ("photo.png", {"scale": 1.5, "format": "webp"}, 'attachment; filename="photo_x1.5.webp"'),
    (
        "Größe 100%.png",
        {},
        "attachment; filename=\"Gr__e 100__x4.png\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20100%25_x4.png",
    ),
    ("../../etc/passwd", {}, 'attachment; filename="passwd_x4.png"'),
    ("a:b*c.png", {}, 'attachment; filename="a_b_c_x4.png"'),
]


@pytest.mark.parametrize(("name", "parameters", "disposition"), NAMES)
async def test_results_and_answers_are_saved_under_the_name_of_the_upload(
    client: httpx.AsyncClient, name: str, parameters: dict[str, Any], disposition: str
) -> None:
    picture = (name, encoded(noise(20, 16)))
    created = await client.post("/v1/jobs", files={"image": picture}, params=parameters)
    job = await ended(client, created.raise_for_status().json()["id"])
    result = (await client.get(job["result"]["href"])).raise_for_status()
    assert result.headers["content-disposition"] == disposition
    answer = await client.post("/v1/upscale", files={"image": picture}, params=parameters)
    assert answer.headers["content-disposition"] == disposition.replace("attachment", "inline")


async def test_a_result_whose_upload_has_no_name_is_saved_under_the_id_of_its_job(client: httpx.AsyncClient) -> None:
    created = await client.post("/v1/jobs", content=encoded(noise(20, 16)))
    job = await ended(client, created.raise_for_status().json()["id"])
    result = (await client.get(job["result"]["href"])).raise_for_status()
    assert result.headers["content-disposition"] == f'attachment; filename="{job["id"]}-1.png"'


async def test_a_stream_of_bands_has_the_bytes_of_the_synchronous_answer_and_rising_progress(
    client: httpx.AsyncClient,
) -> None:
    picture = encoded(noise(60, 400))
    answer = (await client.post("/v1/upscale", content=picture)).raise_for_status()
    created = (await client.post("/v1/jobs", content=picture)).json()
    watched = await client.get(f"/v1/jobs/{created['id']}/events")
    assert (await client.get(f"/v1/jobs/{created['id']}/result")).content == answer.content
    events = events_of(watched.text)
    progress = [data["progress"] for _, _, data in events]
    assert progress == sorted(progress)
    assert progress[-1] == 1
    assert events[-1][1:] == ("state", (await client.get(f"/v1/jobs/{created['id']}")).json())


async def test_prefer_respond_async_makes_a_job_of_an_upscale_request(client: httpx.AsyncClient) -> None:
    picture = encoded(noise(20, 16))
    answer = await client.post("/v1/upscale?scale=2", content=picture, headers={"Prefer": "respond-async, wait=10"})
    assert answer.status_code == 202
    assert "respond-async" in answer.headers["preference-applied"]
    job = await ended(client, answer.json()["id"])
    assert job["state"] == "done"


async def test_an_upscale_request_sent_again_is_accepted_again(client: httpx.AsyncClient) -> None:
    headers = {"Prefer": "respond-async", "Idempotency-Key": "order-3"}
    sent = [await client.post("/v1/upscale", content=encoded(noise(20, 16)), headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in sent] == [202, 202]
    assert sent[0].json()["id"] == sent[1].json()["id"]


@pytest.mark.parametrize("place", ["params", "data"])
async def test_an_upscale_request_has_a_webhook_where_it_becomes_a_job(client: httpx.AsyncClient, place: str) -> None:
    given: dict[str, Any] = {place: {"webhook": "https://a.example/hook"}}
    picture = {"image": encoded(noise(20, 16))}
    refused = await client.post("/v1/upscale", files=picture, headers={"Prefer": "respond-async"}, **given)
    assert "ESRGAN_WEBHOOK_HOSTS" in problem(refused, 422, "source-refused")
    waits = await client.post("/v1/upscale", files=picture, **given)
    assert "only jobs have webhooks" in problem(waits, 422, "unprocessable")


async def test_an_upscale_request_has_one_picture_also_where_it_becomes_a_job(client: httpx.AsyncClient) -> None:
    headers, picture = {"Prefer": "respond-async"}, encoded(noise(20, 16))
    several = await client.post("/v1/upscale", files=[("image", picture)] * 2, headers=headers)
    assert "'image' more than once" in problem(several, 400, "bad-request")
    problem(
        await client.post("/v1/upscale", json={"source": "https://a.example"}, headers=headers),
        415,
        "unsupported-format",
    )


async def test_several_pictures_are_fetched_one_by_one_or_as_a_zip_file(client: httpx.AsyncClient) -> None:
    job = await ended(client, (await create(client, 1, 2, 3))["id"])
    singles = [(await client.get(picture["result"]["href"])).content for picture in job["pictures"]]
    assert len(set(singles)) == 3
    answer = (await client.get(job["result"]["href"])).raise_for_status()
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert [archive.read(name) for name in archive.namelist()] == singles


async def test_files_in_a_zip_file_have_the_names_of_their_uploads_and_numbers(client: httpx.AsyncClient) -> None:
    names = ["photo.jpg", "photo.jpg", "../Größe.png", None, f"{'🐘' * 99}.png"]
    files = [("image", (name, encoded(noise(5, 5, seed=seed)))) for seed, name in enumerate(names)]
    sent = await client.post("/v1/jobs?scale=2", files=files)
    job = await ended(client, sent.raise_for_status().json()["id"])
    answer = (await client.get(job["result"]["href"])).raise_for_status()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        long = f"5_{'🐘' * 50}_x2.png"  # 200 of 255 bytes, so that every number, size and suffix fits
        assert archive.namelist() == ["1_photo_x2.png", "2_photo_x2.png", "3_Größe_x2.png", "4.png", long]


async def test_one_broken_picture_leaves_the_others_their_results(client: httpx.AsyncClient) -> None:
    cut_off = encoded(noise(64, 64), "JPEG")[:-1500]  # its header is sound
    files = [("image", encoded(noise(20, 16))), ("image", cut_off)]
    sent = await client.post("/v1/jobs", files=files)
    job = await ended(client, sent.raise_for_status().json()["id"])
    assert job["state"] == "failed"
    assert [picture["state"] for picture in job["pictures"]] == ["done", "failed"]
    assert job["problem"]["status"] == 422
    assert job["problem"]["type"] == "urn:esrgan-serve:problem:unprocessable"
    assert (await client.get(job["pictures"][0]["result"]["href"])).status_code == 200
    refused = await client.get(f"/v1/jobs/{job['id']}/results/2")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:esrgan-serve:problem:not-ready")


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=5-999999999", 206, slice(5, None)),
        ("bytes=999999999-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-3", 200, slice(None)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
async def test_parts_of_a_result_are_those_asked_for(
    client: httpx.AsyncClient, asked: str, status: int, expected: slice | None
) -> None:
    job = await ended(client, (await create(client))["id"])
    whole = (await client.get(job["result"]["href"])).content
    part = await client.get(job["result"]["href"], headers={"Range": asked})
    assert part.status_code == status
    if expected is None:
        assert part.headers["content-range"] == f"bytes */{len(whole)}"
        assert part.json()["type"] == "urn:esrgan-serve:problem:range-not-satisfiable"
        return
    assert part.content == whole[expected]
    if status == 206:
        first = expected.indices(len(whole))[0]
        assert part.headers["content-range"] == f"bytes {first}-{first + len(part.content) - 1}/{len(whole)}"


async def test_a_result_that_the_caller_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    job = await ended(client, (await create(client))["id"])
    href, etag = job["result"]["href"], job["result"]["etag"]
    assert (await client.get(href, headers={"If-None-Match": f'"other", {etag}'})).status_code == 304
    assert (await client.get(href, headers={"Range": "bytes=0-1", "If-Range": etag})).status_code == 206
    assert (await client.get(href, headers={"Range": "bytes=0-1", "If-Range": '"other"'})).status_code == 200


async def test_a_request_about_another_version_than_what_is_there_is_refused(client: httpx.AsyncClient) -> None:
    job = await ended(client, (await create(client))["id"])
    href, etag = job["result"]["href"], job["result"]["etag"]
    for other in ('"other"', f"W/{etag}", "", "nonsense"):
        for headers in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": etag}):
            answer = await client.get(href, headers={"If-Match": other, **headers})
            assert etag in problem(answer, 412, "precondition-failed")
    for same in ("*", etag, f'"other", {etag}'):
        assert (await client.get(href, headers={"If-Match": same})).status_code == 200
    several = await ended(client, (await create(client, 1, 2))["id"])
    problem(await client.get(several["result"]["href"], headers={"If-Match": etag}), 412, "precondition-failed")


async def test_a_job_whose_condition_is_false_is_not_deleted(client: httpx.AsyncClient) -> None:
    address = f"/v1/jobs/{(await create(client))['id']}"
    problem(await client.delete(address, headers={"If-Match": '"other"'}), 412, "precondition-failed")
    assert (await client.get(address)).status_code == 200
    ignored = {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}  # answers have no Last-Modified
    assert (await client.delete(address, headers={"If-Match": "*", **ignored})).status_code == 204
    problem(await client.delete("/v1/jobs/none", headers={"If-Match": '"other"'}), 404, "no-such-job")


async def test_a_zip_file_that_the_caller_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    address = f"/v1/jobs/{(await ended(client, (await create(client, 1, 2))['id']))['id']}/result"
    whole = (await client.get(address)).raise_for_status()
    same = await client.get(address, headers={"If-None-Match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")


async def test_head_describes_the_whole_result_whatever_part_is_asked_for(client: httpx.AsyncClient) -> None:
    href = (await ended(client, (await create(client))["id"]))["result"]["href"]
    whole = await client.head(href)
    for asked in ("bytes=0-9", "bytes=99999999-"):
        answer = await client.head(href, headers={"Range": asked})
        assert answer.status_code == 200
        assert {**answer.headers, "x-request-id": ""} == {**whole.headers, "x-request-id": ""}


async def test_a_wait_that_nothing_waits_for_is_not_said_to_be_applied(client: httpx.AsyncClient) -> None:
    job = await ended(client, (await create(client))["id"])
    addresses = [f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/events", job["result"]["href"]]
    answers = [await client.get(address, headers={"Prefer": "wait=9"}) for address in addresses]
    assert [answer.headers.get("preference-applied") for answer in answers] == ["wait=9", None, None]


async def test_head_of_a_job_that_waits_has_an_end(client: httpx.AsyncClient, blocked: BlockedDevice) -> None:
    job = await create(client)
    async with asyncio.timeout(60):
        answer = await client.head(f"/v1/jobs/{job['id']}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_a_job_that_runs_is_cancelled_and_leaves_the_device(
    client: httpx.AsyncClient, blocked: BlockedDevice
) -> None:
    first, second = await create(client, 1), await create(client, 2)
    await blocked.at_work()
    for job in (first, second):
        assert (await client.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    blocked.gate.set()
    for job in (first, second):
        assert (await ended(client, job["id"]))["state"] == "cancelled"
        assert (await client.get(f"/v1/jobs/{job['id']}/result")).status_code == 409
    third = await ended(client, (await create(client, 3))["id"])
    assert third["state"] == "done"


async def test_a_job_is_cancelled_though_its_files_cannot_be_deleted_now(
    client: httpx.AsyncClient, life: Lifecycle, blocked: BlockedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await create(client, 1), await create(client, 2, 3)
    await blocked.at_work()

    async def away(names: Iterable[str]) -> None:
        raise StoreDown("away")

    with monkeypatch.context() as patch:
        patch.setattr(life.jobs.parts.store, "delete", away)
        assert (await client.delete(f"/v1/jobs/{second['id']}")).status_code == 204
        assert (await client.get(f"/v1/jobs/{second['id']}")).status_code == 200
    blocked.gate.set()
    assert (await ended(client, first["id"]))["state"] == "done"
    assert (await ended(client, second["id"]))["state"] == "cancelled"


async def test_deleting_an_ended_job_removes_it(client: httpx.AsyncClient, settings: Settings) -> None:
    job = await ended(client, (await create(client))["id"])
    assert settings.jobs_folder is not None
    assert list((settings.jobs_folder / "files").rglob("result*"))
    assert (await client.delete(f"/v1/jobs/{job['id']}")).status_code == 204
    gone = await client.get(f"/v1/jobs/{job['id']}")
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:esrgan-serve:problem:no-such-job")
    assert not list((settings.jobs_folder / "files").rglob("*"))


@pytest.mark.parametrize("pictures", [1, 3])
async def test_a_result_whose_file_is_gone_is_an_error_and_no_broken_answer(
    client: httpx.AsyncClient, settings: Settings, caplog: pytest.LogCaptureFixture, pictures: int
) -> None:
    job = await ended(client, (await create(client, *range(pictures)))["id"])
    assert settings.jobs_folder is not None
    files = settings.jobs_folder / "files"
    await until(lambda: not [*files.rglob("upload-*")])  # else their folder might go while it is looked through
    for file in files.rglob(f"result-{pictures}-*"):
        file.unlink()
    for address in (job["result"]["href"], job["pictures"][-1]["result"]["href"]):
        assert "send the picture again" in problem(await client.get(address), 404, "no-such-job")
    assert f"job {job['id']}: the file of a result is gone" in caplog.text


@pytest.mark.parametrize("pictures", [1, 2])
async def test_a_result_whose_store_is_away_may_be_fetched_later(
    client: httpx.AsyncClient, life: Lifecycle, monkeypatch: pytest.MonkeyPatch, pictures: int
) -> None:
    job = await ended(client, (await create(client, *range(pictures)))["id"])

    errors = [StoreDown("away")]

    async def away(*_: object) -> AsyncIterator[bytes]:
        for error in errors:
            raise error
        yield b""

    with monkeypatch.context() as patch:
        patch.setattr(life.jobs.parts.store, "read", away)
        refused = await client.get(job["result"]["href"])
    problem(refused, 503, "unavailable")
    assert "retry-after" in refused.headers
    assert (await client.get(job["result"]["href"])).is_success


async def test_a_result_is_opened_once_for_each_answer(
    client: httpx.AsyncClient, life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, opened = await ended(client, (await create(client))["id"]), list[object]()
    read = life.jobs.parts.store.read

    def counted(*arguments: Any) -> AsyncIterator[bytes]:
        opened.append(arguments)
        return read(*arguments)

    monkeypatch.setattr(life.jobs.parts.store, "read", counted)
    assert (await client.get(job["result"]["href"])).is_success
    assert len(opened) == 1


async def test_a_waiting_job_tells_its_place_and_its_predicted_end(
    client: httpx.AsyncClient, blocked: BlockedDevice
) -> None:
    await create(client, *range(4))
    await blocked.at_work()
    last = await create(client, 5)
    assert last["queue"]["position"] == 4
    assert last["queue"]["predicted_end"] is not None
    blocked.gate.set()
    assert (await ended(client, last["id"]))["queue"] is None


async def test_an_idempotency_key_returns_the_first_job(client: httpx.AsyncClient) -> None:
    picture, headers = encoded(noise(20, 16)), {"Idempotency-Key": "order-1"}
    first = await client.post("/v1/jobs?scale=2", content=picture, headers=headers)
    again = await client.post("/v1/jobs?scale=2", content=picture, headers=headers)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    other = await client.post("/v1/jobs?scale=3", content=picture, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "urn:esrgan-serve:problem:idempotency-mismatch")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/json", "image/png"),
        ("application/json, text/plain, */*", "image/png"),
        ("application/json, image/webp", "image/webp"),
        ("image/webp", "image/webp"),
    ],
)
async def test_a_caller_who_accepts_only_json_says_nothing_of_the_result(
    client: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    answer = await client.post("/v1/jobs", content=encoded(noise(20, 16)), headers={"Accept": accept})
    assert answer.status_code == 202
    job = await ended(client, answer.json()["id"])
    assert (await client.get(job["result"]["href"])).headers["content-type"] == media_type


async def test_a_caller_who_accepts_neither_json_nor_a_picture_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", content=encoded(noise(20, 16)), headers={"Accept": "text/html"})
    problem(answer, 406, "not-acceptable")


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ('{"\\ud800": 1, "source": "https://a.example/b"}', "the document = "),
        ('{"source": ""}', "source = : String should have at least 1 character"),
        ('{"source": ["https://a.example/b", 5]}', "source = 5: Input should be a valid string"),
        ('{"source": 5}', "source = 5: Input should be a valid list"),
    ],
)
async def test_an_error_in_a_document_names_the_field(client: httpx.AsyncClient, document: str, complaint: str) -> None:
    answer = await client.post("/v1/jobs", content=document, headers={"Content-Type": "application/json"})
    text = problem(answer, 422, "unprocessable")
    assert text.startswith(complaint)
    assert "constrained" not in text


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"source": []}, "source has 0 URLs; send 1 to 100"),
        ({"source": 101 * [""]}, "source has 101 URLs; send 1 to 100"),
        ({"source": "https://a.example/b", "target": 101 * [""]}, "target has 101 URLs; send 0 to 100"),
        ({str(number): 1 for number in range(101)}, "the JSON document has 101 members; the limit is 100"),
    ],
)
async def test_a_document_that_is_too_long_is_refused_before_its_members_are_checked(
    client: httpx.AsyncClient, document: dict[str, object], complaint: str
) -> None:
    assert complaint in problem(await client.post("/v1/jobs", json=document), 400, "bad-request")


async def test_a_document_that_is_too_large_is_not_read_to_its_end(client: httpx.AsyncClient) -> None:
    sent_bytes = 0

    async def spaces() -> AsyncIterator[bytes]:
        nonlocal sent_bytes
        for _ in range(100):
            sent_bytes += 2**16
            yield b" " * 2**16

    answer = await client.post("/v1/jobs", content=spaces(), headers={"Content-Type": "application/json"})
    assert f"more than {MAX_JSON_BYTES} bytes" in problem(answer, 413, "too-large")
    assert sent_bytes <= MAX_JSON_BYTES + 2**16


async def test_a_job_sent_again_says_how_long_it_takes_from_now_on(
    client: httpx.AsyncClient, life: Lifecycle, blocked: BlockedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Idempotency-Key": "order-2"}
    await client.post("/v1/jobs", content=encoded(noise(20, 16)), headers=headers)
    await blocked.at_work()
    view = life.jobs.view

    async def of_an_hour_ago(*arguments: Any) -> JobView:
        now = datetime.now(UTC)
        queue = QueueView(position=0, predicted_end=now + timedelta(seconds=20))
        return (await view(*arguments)).model_copy(update={"created": now - timedelta(hours=1), "queue": queue})

    monkeypatch.setattr(life.jobs, "view", of_an_hour_ago)
    again = await client.post("/v1/jobs", content=encoded(noise(20, 16)), headers=headers)
    blocked.gate.set()
    assert again.status_code == 200
    assert 15 <= int(again.headers["Retry-After"]) <= 20


@pytest.mark.parametrize("path", ["/v1/jobs/%00", "/v1/jobs?before=%00", "/v1/jobs/job_1/webhooks/%00/redeliver"])
async def test_an_id_with_a_control_character_is_refused(client: httpx.AsyncClient, path: str) -> None:
    answer = await (client.post if "redeliver" in path else client.get)(path)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("parameters", "body", "status"),
    [
        ({"model": "none"}, b"", 404),
        ({"format": "png", "quality": 200}, b"", 422),
        ({"scale": 17}, b"", 422),
        ({"fidelity": 0.5}, b"", 422),
        ({"webhook_events": "job.none"}, b"", 400),
        ({"webhook": "https://example.com/hook"}, b"", 422),
        ({}, b"no picture", 415),
        ({}, encoded(noise(300, 300)), 413),
    ],
)
async def test_what_cannot_be_done_is_refused_before_it_is_accepted(
    client: httpx.AsyncClient, settings: Settings, parameters: dict[str, Any], body: bytes, status: int
) -> None:
    answer = await client.post("/v1/jobs", content=body or encoded(noise(20, 16)), params=parameters)
    assert answer.status_code == status, answer.text
    assert (await client.get("/v1/jobs")).json() == {"jobs": [], "next": None}
    assert settings.jobs_folder is not None
    assert not list((settings.jobs_folder / "files").rglob("*"))


@pytest.mark.parametrize("settings", [{"fetch_hosts": hosts_of("*")}], indirect=True)
@pytest.mark.parametrize(("parameters", "status"), [({"model": "none"}, 404), ({"fidelity": 0.5}, 422)])
async def test_what_cannot_be_done_with_a_picture_from_a_url_is_refused_before_it_is_accepted(
    client: httpx.AsyncClient, parameters: dict[str, Any], status: int
) -> None:
    answer = await client.post("/v1/jobs", json={"source": "https://a.example/b.png"} | parameters)
    assert answer.status_code == status, answer.text
    assert (await client.get("/v1/jobs")).json() == {"jobs": [], "next": None}


async def test_a_full_disk_refuses_before_anything_is_accepted(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await ended(client, (await create(client))["id"])
    with monkeypatch.context() as full:
        full.setattr("app.jobs.folder.shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
        refused = await client.post("/v1/jobs", content=encoded(noise(20, 16)))
    assert (refused.status_code, refused.json()["type"]) == (507, "urn:esrgan-serve:problem:storage-full")
    assert [job["id"] for job in (await client.get("/v1/jobs")).json()["jobs"]] == [kept["id"]]
    assert (await client.get(kept["result"]["href"])).is_success


@pytest.fixture
def small_disk(settings: Settings) -> Iterator[Path]:
    """The folder of the jobs, on a disk of 16 MiB."""
    folder = settings.jobs_folder
    assert folder is not None
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("settings", [{"jobs_min_free_bytes": 4_000_000}], indirect=True)
async def test_jobs_on_a_disk_that_runs_full_wait_for_room_and_none_is_lost(
    small_disk: Path,
    client: httpx.AsyncClient,
    blocked: BlockedDevice,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("app.jobs.worker.FULL_WAIT_S", 0.1)
    accepted = [await create(client) for _ in range(4)]
    filler = small_disk / "files" / "filler"
    free_bytes = shutil.disk_usage(small_disk).free
    filler.write_bytes(bytes(free_bytes - 2_000_000 - 20_000))  # room for one result
    refused = await client.post("/v1/jobs", content=encoded(noise(20, 16)))
    assert (refused.status_code, refused.json()["type"]) == (507, "urn:esrgan-serve:problem:storage-full")
    blocked.gate.set()
    await until(lambda: "waits for the store" in caplog.text)
    filler.unlink()
    synchronous = await client.post("/v1/upscale", content=encoded(noise(20, 16)))
    for job in accepted:
        done = await ended(client, job["id"])
        assert (await client.get(done["result"]["href"])).content == synchronous.content


async def test_pages_list_all_jobs(client: httpx.AsyncClient) -> None:
    created = [(await create(client, seed))["id"] for seed in range(3)]
    page = (await client.get("/v1/jobs?limit=2")).json()
    rest = (await client.get(page["next"])).json()
    assert [job["id"] for job in [*page["jobs"], *rest["jobs"]]] == created[::-1]
    assert rest["next"] is None
    whole = (await client.get("/v1/jobs?limit=3")).json()
    assert (len(whole["jobs"]), whole["next"]) == (3, None)


@pytest.mark.parametrize(
    ("query", "status"), [("sate=done", 422), ("limit=2&limit=3", 400), ("limit=0", 422), ("state=", 422)]
)
async def test_a_page_that_was_not_asked_for_is_not_sent(client: httpx.AsyncClient, query: str, status: int) -> None:
    assert (await client.get(f"/v1/jobs?{query}")).status_code == status


async def test_a_watcher_that_has_seen_the_end_is_asked_to_stop(client: httpx.AsyncClient) -> None:
    job = await ended(client, (await create(client))["id"])
    (number, name, data), *more = events_of((await client.get(f"/v1/jobs/{job['id']}/events")).text)
    assert (name, data, more) == ("state", job, [])
    again = await client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": str(number)})
    assert again.status_code == 204
    missed = await client.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "1"})
    assert events_of(missed.text)[-1][0] == number


@pytest.mark.parametrize("settings", [{"jobs": False}], indirect=True)
async def test_without_jobs_there_is_a_clear_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", content=encoded(noise(20, 16)))
    assert (answer.status_code, answer.json()["type"]) == (501, "urn:esrgan-serve:problem:jobs-off")
    assert (await client.post("/v1/upscale", content=encoded(noise(20, 16)))).status_code == 200


async def test_a_page_of_another_site_cannot_send_jobs(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", content=encoded(noise(20, 16)), headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:esrgan-serve:problem:cross-site")
