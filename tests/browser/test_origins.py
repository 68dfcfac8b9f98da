"""Pages of other origins in a browser: those that are named may call the service, others may not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.lists import origins_of
from app.settings import Settings
from tests.app.live import Live
from tests.browser.page import Person

pytestmark = pytest.mark.anyio

SEND = """async (address) => {
    const canvas = new OffscreenCanvas(5, 4);
    canvas.getContext("2d").fillRect(1, 1, 2, 2);
    const headers = {"Prefer": "wait=30", "X-Request-Id": "from-a-page"};
    const answer = await fetch(`${address}/v1/upscale`, {method: "POST", headers, body: await canvas.convertToBlob()});
    const picture = await createImageBitmap(await answer.blob());
    return [answer.status, picture.width, answer.headers.get("X-Request-Id"), answer.headers.get("Preference-Applied")];
}"""

SEND_FORM = """(address) => {
    const form = document.createElement("form");
    Object.assign(form, {method: "POST", enctype: "multipart/form-data", action: `${address}/v1/upscale`});
    document.body.append(form);
    form.submit();
}"""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve an empty page to everyone, under any name."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere"
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def settings(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"cors_origins": origins_of(f"http://named.test:{port}")})


async def test_a_page_of_a_named_origin_sends_a_picture_and_reads_the_answer(
    person: Person, live: Live, port: int
) -> None:
    await person.page.goto(f"http://named.test:{port}/")
    assert await person.page.evaluate(SEND, live.address) == [200, 20, "from-a-page", "wait=30"]


async def test_a_page_of_another_origin_cannot(person: Person, live: Live, port: int) -> None:
    await person.page.goto(f"http://other.test:{port}/")
    refused = await person.page.evaluate(f"address => ({SEND})(address).catch(error => error.name)", live.address)
    assert refused == "TypeError"
    async with person.page.expect_response(f"{live.address}/v1/upscale") as sent:
        await person.page.evaluate(SEND_FORM, live.address)
    assert (await sent.value).status == 403


async def test_a_name_that_means_this_machine_opens_no_page(person: Person, live: Live) -> None:
    answer = await person.page.goto(f"http://rebound.test:{live.port}/docs")
    assert answer is not None
    assert answer.status == 421
