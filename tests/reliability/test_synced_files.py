"""`np6 sync` that is killed and started again, over and over, while events keep being published."""

from __future__ import annotations

import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import exported, killing, synced

from np6_async.testing import FakeNP6, Fault, make_event

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

Figure = Callable[[str, str, str, object], None]

_FORMS = ("ndjson", "ndjson --gzip", "csv --partition-by day,kind", "parquet")
_KILLS = 10  # of each form
_REQUESTS = 400  # at most, from one kill to the next


def test_F2_forty_kills_of_np6_sync_lose_and_double_nothing(tmp_path: Path, figure: Figure) -> None:
    """SIGKILL and SIGTERM in turn, at random moments, while the network misbehaves and one contact is stalled: no file
    is torn, no event is there twice, and in the end all are there, also those published between the runs."""
    draw = random.Random(7)
    wrong: Counter[str] = Counter()
    ended = []
    for number, form in enumerate(_FORMS):
        with FakeNP6(2_000, (0, 12)) as server:
            ids = tmp_path / "ids.txt"
            ids.write_text("\n".join(server.contact_ids))
            server.fault_rate(0.05)
            server.script(Fault.hang(), contact=server.contact_ids[100], times=None)
            out, state = tmp_path / f"out{number}", tmp_path / f"state{number}.db"
            command = ["sync", "--ids-from", str(ids), "--output", str(out), "--state", str(state)]
            command += ["--concurrency", "8", "--overlap", "1d", "--safety", "0"]
            command += ["--format", *form.split(), "--part-size", "30K", "--part-time", "0.1"]

            def check(server: FakeNP6 = server, out: Path = out) -> None:
                found = synced.events(out)
                wrong.update(foreign=(found - exported.truth(server, server.contact_ids)).total())
                for contact in draw.sample(list(server.contact_ids), 20):
                    late = datetime.now(UTC) - timedelta(minutes=draw.randint(1, 600))
                    server.add_events(contact, [make_event(at=late)])

            signals = [signal.SIGKILL, signal.SIGTERM] * (_KILLS // 2)
            ended += killing.kill(server, command, signals, requests=_REQUESTS, seed=number, check=check)
            server.reset()
            assert killing.finish(server, command) == 0
            truth, found = exported.truth(server, server.contact_ids), synced.events(out)
            wrong.update(lost=(truth - found).total(), foreign=(found - truth).total())
            assert not list(exported.beside(out).iterdir())
    codes = Counter(code for code, _ in ended)
    slowest = max(seconds for code, seconds in ended if code == 143)
    figure("F2", "events lost / doubled or foreign", "0 / 0", f"{wrong['lost']} / {wrong['foreign']}")
    figure("F2", "runs ended by SIGKILL / by SIGTERM", "20 / 20", f"{codes[-9]} / {codes[143]}")
    figure("F2", "seconds from SIGTERM to the end, at most", "2", slowest)
    assert wrong.total() == 0
    assert codes == {-9: len(_FORMS) * _KILLS // 2, 143: len(_FORMS) * _KILLS // 2}
    assert slowest < 2
