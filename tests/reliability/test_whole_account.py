"""I: the events of a whole account in one response, whatever breaks it, and a sync of the account that is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from np6_async import RetryPolicy
from np6_async.testing import FakeNP6, Fault

Figure = Callable[[str, str, str, object], None]

LONG = bool(os.environ.get("NP6_LONG"))
SEED = int(os.environ.get("NP6_SEED", "20261129"))
NOON = 1_767_182_400_000
PATIENT = RetryPolicy(max_attempts=10_000, max_protocol_attempts=10_000, base_delay=0, budget=1e9)


def small(contact: str, at: int, number: int) -> bytes:
    """An event of few bytes, so that a body of many is cut at each of them in little time."""
    receiver = {"type": "id", "value": contact}
    source = {"type": "email", "detail": {"activation": {"id": "000PE4", "receiver": receiver}}}
    return json.dumps({"type": "activation", "id": f"{number:x}", "timestamp": at, "source": source}).encode()


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(contacts=0) as server:
        yield server


@pytest.mark.parametrize("newest_first", [False, True], ids=["oldest first", "newest first"])
async def test_I1_each_event_once_wherever_the_response_is_cut(
    server: FakeNP6, newest_first: bool, figure: Figure
) -> None:
    """12 events of 5 contacts, 5 of them of four contacts in the same second and 3 in another."""
    times = [0, 1, 1, 1, 1, 1, 2, 3, 3, 3, 4, 5]
    owners = [0, 0, 1, 2, 3, 3, 4, 0, 4, 1, 2, 2]
    for contact in range(5):
        events = zip(times, owners, range(12), strict=True)
        server.add_contact(
            f"C{contact}", [small(f"C{contact}", NOON + at * 1000, n) for at, owner, n in events if owner == contact]
        )
    wrong = cuts = 0
    async with server.client(retry=PATIENT) as np6:
        size = 1 + sum(len(event.raw) + 1 for event in await np6.actions.list())
        for how in ("chunked", "eof"):
            for place in range(size + 1):
                server.script(Fault.cut(after=place, how=how))
                events = await np6.actions.list(newest_first=newest_first)
                ordered = [event.timestamp for event in events]
                cuts += 1
                wrong += Counter(event.id for event in events) != Counter(f"{n:x}" for n in range(12))
                wrong += ordered != sorted(ordered, reverse=newest_first)
    order = "newest" if newest_first else "oldest"
    figure("I1", f"12 events of 5 contacts with ties, {order} first, cut at each byte: lost or doubled", "0", wrong)
    figure("I1", f"... cuts, {order} first", "each byte, two ways", cuts)
    assert not wrong
    assert cuts > 3_000


async def test_I2_a_tie_of_50_000_events_is_told_apart_wherever_it_is_cut(server: FakeNP6, figure: Figure) -> None:
    """In one second, as an action goes to so many contacts. The server gives ties in another order each time."""
    rng = random.Random(SEED)
    for contact in range(1_000):
        server.add_contact(
            f"C{contact:04}", [small(f"C{contact:04}", NOON, contact * 50 + number) for number in range(50)]
        )
    server.add_contact("BEFORE", [small("BEFORE", NOON - 1000, 60_000)])
    server.add_contact("AFTER", [small("AFTER", NOON + 1000, 60_001)])
    async with server.client(retry=PATIENT) as np6:
        for _ in range(8):
            server.script(Fault.cut(after=rng.randrange(9_000_000)))
        seen: Counter[str | None] = Counter()
        stream = np6.actions.stream()
        async for batch in stream.batches():
            seen.update(event.id for event in batch)
    doubled, lost = sum(count - 1 for count in seen.values()), 50_002 - len(seen)
    figure("I2", f"a tie of 50,000 events cut {stream.stats.retries} times: lost/doubled", "0/0", f"{lost}/{doubled}")
    assert (lost, doubled) == (0, 0)
    assert stream.stats.retries >= 5


# -- a sync that is killed ---------------------------------------------------------------------------


class Runs:
    """Runs of `np6 sync --account` into files of `folder`."""

    def __init__(self, server: FakeNP6, folder: Path, part_size: str) -> None:
        self.folder = folder
        self._command = [sys.executable, "-m", "np6_async.cli", "sync", "--account", "--state", str(folder / "s.db")]
        self._command += ["--output", str(folder / "out"), "--part-size", part_size, "--part-time", "1"]
        self._command += ["--timeout", "1", "--base-url", server.url]
        self._environment = os.environ | {"NP6_API_KEY": server.api_key}
        self.kills = self.failed = 0
        self.peaks: list[int] = []  # KiB

    def baseline(self) -> int:
        """The peak of a run that fetches nothing, in KiB."""
        command = [*self._command, "--action", "NONE", "--missing", "empty"]
        command.remove("--account")
        command[command.index("--state") + 1] = str(self.folder / "other.db")
        assert self._run(command) == 0
        return self.peaks.pop()

    def kill_after(self, size: int) -> None:
        """A run that is killed when it has written so many bytes; or it ends before."""
        self._run(self._command, self._written() + size)

    def finish(self) -> None:
        for _ in range(50):
            if self._run(self._command) == 0:
                return
            self.failed += 1
        raise AssertionError("it does not come to an end")

    def ids(self) -> Iterator[str]:
        """Of the events in the files."""
        for file in (self.folder / "out").iterdir():
            with file.open("rb") as lines:
                for line in lines:
                    yield json.loads(line)["event"]["id"]

    def _written(self) -> int:
        sizes = 0
        for file in self.folder.glob("out*/*"):
            with suppress(FileNotFoundError):  # it has got its name
                sizes += file.stat().st_size
        return sizes

    def _run(self, command: list[str], kill_at: float = float("inf")) -> int:
        """Its exit code. `kill_at`: the number of bytes in the folder at which it is killed."""
        peak = 0
        with subprocess.Popen(command, env=self._environment, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and self._written() < kill_at:
                peak = _peak(process.pid) or peak
                time.sleep(0.005)
            process.kill()
        self.peaks.append(peak)
        self.kills += process.returncode == -signal.SIGKILL
        return process.returncode


def _peak(pid: int) -> int:
    """The most memory that a process had, in KiB; 0 if it has ended. (That of `wait4` includes its parent's.)"""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])
    return 0


def test_I3_a_sync_of_the_account_killed_20_times_loses_and_doubles_nothing(figure: Figure, tmp_path: Path) -> None:
    """With faults on 35 % of the requests. With NP6_LONG=1 it is of a million events of 200,000 contacts."""
    contacts = 200_000 if LONG else 20_000
    rng = random.Random(SEED)
    with FakeNP6(contacts, 5, sends=40, seed=SEED) as server:
        total = sum(1 for _ in server.account_events())
        runs = Runs(server, tmp_path, "16M" if LONG else "1M")
        base = runs.baseline()
        server.reset()
        server.fault_rate(0.35)
        for _ in range(200):
            if runs.kills >= 20:
                break
            runs.kill_after(rng.randrange(2 * 600 * total // 25))
        runs.finish()
        requests, faults = server.request_count, server.faults_consumed.total()
        seen = Counter(runs.ids())
        truth = {event["id"] for event in server.account_events()}
    doubled, lost = sum(seen.values()) - len(seen), len(truth - seen.keys())
    growth = (max(runs.peaks) - base) / 1024
    figure("I3", f"{total:,} events, {runs.kills} kills, {faults} faults: lost/doubled", "0/0", f"{lost}/{doubled}")
    figure("I3", "... growth of memory beyond a run that fetches nothing, MiB", "<= 16", growth)
    figure("I3", f"... requests, of one for each of {contacts:,} contacts", "<= 1 %", f"{requests / contacts:.2%}")
    assert (lost, doubled) == (0, 0)
    assert runs.kills >= 20
    assert growth <= 16
    assert requests <= contacts / 100
