"""A fake engine for each test."""

import pytest

from tests.app.batching.engine import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()
