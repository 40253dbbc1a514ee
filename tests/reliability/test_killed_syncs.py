"""A8: a sync that is killed again and again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from support.killed_sync import Killer

from np6_async.testing import FakeNP6

Figure = Callable[[str, str, str, object], None]

SEED = int(os.environ.get("NP6_SEED", "20260102"))


def test_A8_a_sync_killed_40_times_loses_doubles_and_tears_nothing(figure: Figure, tmp_path: Path) -> None:
    """SIGKILL and SIGTERM at random moments, while new and late events come; SIGTERM ends it within 2 s."""
    with FakeNP6(contacts=300, events_per_contact=(0, 10), seed=SEED, latency=0.001) as server:
        killer = Killer(server, tmp_path, SEED)
        while killer.killed.total() < 40:
            killer.kill_some_time(signal.SIGTERM if killer.killed.total() % 2 else signal.SIGKILL, most=250)
            killer.publish()
        killer.finish()
        lost, doubled = killer.difference()
    kills = ", ".join(f"{count} {name}" for name, count in sorted(killer.killed.items()))
    figure("A8", f"sync killed ({kills}), {killer.finished} runs finished: lost/doubled", "0/0", f"{lost}/{doubled}")
    figure("A8", "from SIGTERM to the end, at most", "<= 2 s", killer.slowest_drain)
    print(f"\nseed {SEED}")
    assert (lost, doubled) == (0, 0)
    assert killer.killed["SIGKILL"] >= 10
    assert killer.killed["SIGTERM"] >= 5
    assert killer.slowest_drain <= 2.0
