"""The page at /docs in a browser: everything comes from the service, and requests can be tried out."""

import pytest

from tests.app.live import Live
from tests.browser.conftest import Tab

pytestmark = pytest.mark.anyio


async def test_the_page_loads_nothing_from_elsewhere(tab: Tab, live: Live) -> None:
    await tab.page.goto(f"{live.address}/docs")
    await tab.page.locator("#operations-upscale-upscale_v1_upscale_post").wait_for()
    assert tab.complaints == []
    assert tab.origins == {live.address}
