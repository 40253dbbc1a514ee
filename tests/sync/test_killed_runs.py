"""kill -9 in the middle of a sync into files: nothing lost, nothing doubled. More of it: tests/reliability."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.killed_sync import Killer

from np6_async.testing import FakeNP6

pytestmark = pytest.mark.slow


def test_a_sync_that_is_killed_anywhere_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """At random points of its work, inside of SQLite too, while new and late events come."""
    with FakeNP6(contacts=60, events_per_contact=(0, 8), now=1_767_225_600_000) as server:
        killer = Killer(server, tmp_path, seed=5)
        for _ in range(6):
            killer.kill_at_a_tick(most=40)
            killer.publish()
        killer.finish()
        assert killer.difference() == (0, 0)
        assert killer.killed["SIGKILL"] >= 4
