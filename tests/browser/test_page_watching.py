"""The page at / follows its jobs: by few connections, and with plain words when nothing answers."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise
from tests.app.live import Live
from tests.browser.page import DONE, Person

if TYPE_CHECKING:
    from playwright.async_api import Route

pytestmark = pytest.mark.anyio

LIMIT = "urn:esrgan-serve:problem:key-limit"

HIDE = """(isHidden) => {
    Object.defineProperty(document, "hidden", { get: () => isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def job_in(state: str, **more: Any) -> dict[str, Any]:
    """Return a job of one picture as the service describes it."""
    picture = {"result": None, "problem": more.get("problem")}
    return {"id": "job_a", "state": state, "progress": 0.5, "queue": None, "pictures": [picture], **more}


def streams(person: Person) -> list[str]:
    return [url for url in person.requested if url.endswith("/events")]


async def test_a_service_that_is_away_is_said_to_be_so(person: Person, live: Live, blocked: BlockedDevice) -> None:
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await blocked.at_work()
    await person.reads("#progress", "%")
    await person.page.route("**/v1/jobs/*", lambda route: route.abort())
    await person.reads(".card .state", "^The service cannot be reached. Trying again.$")
    await person.reads("#progress", "cannot be reached")
    await person.page.unroute("**/v1/jobs/*")
    await person.reads(".card .state", "%")
    blocked.gate.set()
    await person.sees(DONE)


async def test_the_seconds_pass_over_the_picture_too(person: Person, live: Live) -> None:
    asked = asyncio.Event()

    async def answer_once(route: "Route") -> None:
        if route.request.method == "GET" and asked.is_set():
            return  # never answered
        if route.request.method == "GET":
            asked.set()
        ends = (datetime.now(UTC) + timedelta(seconds=19)).isoformat()
        await route.fulfill(json=job_in("running", queue={"position": 0, "predicted_end": ends}))

    await person.page.route("**/v1/jobs/job_a/events", lambda route: asyncio.sleep(0))
    await person.page.route("**/v1/jobs", answer_once)
    await person.page.route("**/v1/jobs/job_a", answer_once)
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.reads("#progress", r"\d s left")
    before = await person["#progress"].text_content()
    passed = "(before) => document.querySelector('#progress').textContent !== before"
    await person.page.wait_for_function(passed, arg=before)


async def test_no_seconds_are_left_while_the_file_is_written(person: Person, live: Live) -> None:
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    running = job_in("running", queue={"position": 0, "predicted_end": ends}) | {"progress": 0.995}
    await person.page.route("**/v1/jobs/job_a/events", lambda route: asyncio.sleep(0))
    await person.page.route("**/v1/jobs", lambda route: route.fulfill(json=running))
    await person.page.route("**/v1/jobs/job_a", lambda route: route.fulfill(json=running))
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.reads(".card .state", "^99 %")
    assert await person[".card .state"].text_content() == "99 %"


async def test_one_tab_follows_events_and_none_that_is_hidden(
    person: Person, live: Live, blocked: BlockedDevice
) -> None:
    await person.open(f"{live.address}/")
    other = Person.of(await person.page.context.new_page())
    await other.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)))
    await blocked.at_work()
    await person.reads(".card .state", "%")
    await other.drop(two=encoded(noise(21, 16)))
    await other.sees(".card[data-state=waiting], .card[data-state=running]")
    async with other.page.expect_response(lambda it: "/v1/jobs/job_" in it.url):
        pass  # the other tab polls
    assert (len(streams(person)), len(streams(other))) == (1, 0)
    async with (
        other.page.expect_request("**/events"),  # at its next poll
        person.page.expect_event("requestfailed", lambda it: it.url.endswith("/events")),
    ):
        await person.page.evaluate(HIDE, True)
    blocked.gate.set()
    await other.sees(DONE)
    await person.page.evaluate(HIDE, False)
    await person.sees(DONE)


async def test_a_limit_of_the_key_is_named_and_waited_for_until_a_picture_ends(
    person: Person, live: Live, blocked: BlockedDevice
) -> None:
    await person.open(f"{live.address}/")
    await person.drop(one=encoded(noise(20, 16)))
    await blocked.at_work()
    full = {"type": LIMIT, "title": "The key has reached its limit", "detail": "concurrent=1"}

    async def refuse(route: "Route") -> None:
        headers = {"Retry-After": "500"}
        await route.fulfill(status=429, headers=headers, content_type="application/json", body=json.dumps(full))

    await person.page.route("**/v1/jobs", refuse, times=1)
    await person.drop(two=encoded(noise(21, 16)))
    await person.reads(".card >> nth=1 >> .state", r"^Your key has reached its limit. Trying again in (500|4\d\d) s.$")
    blocked.gate.set()
    await person.sees(DONE, 2)


async def test_a_key_without_room_is_told_to_remove_pictures(person: Person, live: Live) -> None:
    problem = {"type": LIMIT, "title": "t", "status": 429, "detail": "its limit is job_bytes=100; delete jobs"}
    failed = job_in("failed", problem=problem)
    await person.page.route("**/v1/jobs", lambda route: route.fulfill(json=failed))
    await person.page.route("**/v1/jobs/job_a**", lambda route: route.fulfill(json=failed))
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.reads(".card[data-state=failed] .state", "no room for this picture. Remove finished ones")
