"""Cancelling on the page at /, while a picture is between the page and the service."""

import asyncio
from typing import Any

import pytest

from app.jobs.job import JobState
from tests.app.blocked_device import BlockedDevice
from tests.app.conftest import encoded, noise
from tests.app.live import Live, until
from tests.browser.page import Person, jobs_of

pytestmark = pytest.mark.anyio

HELD_ANSWERS = """
    const text = Blob.prototype.text;
    const released = new Promise((resolve) => { window.release = resolve; });
    Blob.prototype.text = async function () {
        window.isReading = true;
        await released;
        return text.call(this);
    };
"""
"""Makes the body of an answer wait to be read."""


async def cancel(person: Person) -> None:
    await person.sees(".card[data-state=waiting]")
    await person.page.wait_for_timeout(600)  # the cross ignores clicks right after its action has changed
    await person[".card .icon:visible"].click()
    await person.sees(".card[data-state=cancelled]")


async def the_only_job_ends_cancelled(live: Live) -> None:
    """Wait for it: a picture that runs already ends shortly after the answer to DELETE."""

    async def is_cancelled() -> bool:
        return [job.state for job in await jobs_of(live)] == [JobState.CANCELLED]

    await until(is_cancelled)


async def test_a_picture_that_is_sent_but_not_answered_leaves_no_job_behind(
    person: Person, live: Live, blocked: BlockedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, gate = live.life.jobs.submit, asyncio.Event()

    async def submit_later(*given: Any) -> Any:
        await gate.wait()
        return await submit(*given)

    monkeypatch.setattr(live.life.jobs, "submit", submit_later)
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.reads(".card .state", "^Waiting$")
    await cancel(person)
    async with person.page.expect_response(lambda it: it.request.method == "DELETE"):
        gate.set()
    await the_only_job_ends_cancelled(live)
    await person.sees(".card[data-state=cancelled]")
    blocked.gate.set()


async def test_a_picture_whose_answer_is_being_read_stays_cancelled(
    person: Person, live: Live, blocked: BlockedDevice
) -> None:
    await person.page.add_init_script(HELD_ANSWERS)
    await person.open(f"{live.address}/")
    await person.drop(photo=encoded(noise(20, 16)))
    await person.page.wait_for_function("() => window.isReading")
    await cancel(person)
    async with person.page.expect_response(lambda it: it.request.method == "DELETE"):
        await person.page.evaluate("() => window.release()")
    await the_only_job_ends_cancelled(live)
    await person.sees(".card[data-state=cancelled]")
    blocked.gate.set()
