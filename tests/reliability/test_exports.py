"""An export that is killed and started again, over and over."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support import exported, killing

from np6_async.testing import FakeNP6, Fault

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

Figure = Callable[[str, str, str, object], None]

_FORMS = ("ndjson", "ndjson --gzip", "csv --partition-by day,kind", "parquet")
_KILLS = 10  # of each form
_REQUESTS = 400  # at most, from one kill to the next


def test_F1_forty_kills_of_an_export_lose_and_double_nothing(tmp_path: Path, figure: Figure) -> None:
    """SIGKILL and SIGTERM in turn, at random moments, while the network misbehaves and one contact is stalled: what
    the manifest names is whole after each of them, and in the end it is what the server holds."""
    difference: Counter[str] = Counter()
    ended = []
    with FakeNP6(5_000, (0, 12)) as server:
        ids = tmp_path / "ids.txt"
        ids.write_text("\n".join(server.contact_ids))
        truth = exported.truth(server, server.contact_ids)
        for number, form in enumerate(_FORMS):
            server.reset()
            server.fault_rate(0.05)
            server.script(Fault.hang(), contact=server.contact_ids[100], times=None)
            out = tmp_path / str(number)
            command = ["export", "--ids-from", str(ids), "--output", str(out), "--resume", "--concurrency", "8"]
            command += ["--format", *form.split(), "--part-size", "30K", "--part-time", "0.1"]

            def check(out: Path = out) -> None:
                found = exported.events(out) if exported.begun(out) else Counter()
                difference.update(foreign=(found - truth).total())

            signals = [signal.SIGKILL, signal.SIGTERM] * (_KILLS // 2)
            ended += killing.kill(server, command, signals, requests=_REQUESTS, seed=number, check=check)
            server.reset()
            assert killing.finish(server, command) == 0
            found = exported.events(out)
            difference.update(lost=(truth - found).total(), foreign=(found - truth).total())
            exported.check_whole(out)
    codes = Counter(code for code, _ in ended)
    slowest = max(seconds for code, seconds in ended if code == 143)
    figure("F1", "events lost / doubled or foreign", "0 / 0", f"{difference['lost']} / {difference['foreign']}")
    figure("F1", "runs ended by SIGKILL / by SIGTERM", "20 / 20", f"{codes[-9]} / {codes[143]}")
    figure("F1", "seconds from SIGTERM to the end, at most", "2", slowest)
    assert difference.total() == 0
    assert codes == {-9: len(_FORMS) * _KILLS // 2, 143: len(_FORMS) * _KILLS // 2}
    assert slowest < 2
