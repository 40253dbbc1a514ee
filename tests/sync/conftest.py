"""What the tests of a sync share; each file has a `server` of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.sync_world import Clock, MemoryStore

from np6_async import NP6Client
from np6_async.sync import SQLiteStore, Store
from np6_async.testing import FakeNP6


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def np6(server: FakeNP6, clock: Clock) -> AsyncIterator[NP6Client]:
    async with clock.client(server) as np6:
        yield np6


@pytest.fixture(params=["memory", "SQLite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "state.db")
