"""A sync into files of parts that is killed, started again, and compared with the truth.

This file is also the program that is killed: it does what `np6 sync` does, the smallest way.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from np6_async import NP6Client, RetryPolicy
from np6_async.sync import SQLiteStore, Sync, SyncRun
from np6_async.testing import FakeNP6, make_hit

ANCHOR = 1_767_225_600_000  # before which all generated events of FakeNP6 lie
MINUTE = 60_000
PART = 40  # events


# -- the program ------------------------------------------------------------------------------------


class Parts:
    """Files of events. A part counts when it has its name, which it gets once the note names it."""

    def __init__(self, folder: Path, run: SyncRun[Any], tick: Callable[[], None]) -> None:
        self._folder = folder
        self._run = run
        self._tick = tick
        self._number = int((run.note or "part-0").removeprefix("part-"))
        for temporary in folder.glob("*.tmp"):
            if temporary.stem == run.note:
                temporary.rename(folder / f"{temporary.stem}.ndjson")
            else:
                temporary.unlink()
        self._begin()

    def _begin(self) -> None:
        self._number += 1
        self._name = f"part-{self._number}"
        self._temporary = self._folder / f"{self._name}.tmp"
        self._file = self._temporary.open("w")
        self._count = 0

    async def write(self, contact: str, events: list[Any]) -> None:
        for event in events:
            self._file.write(json.dumps([contact, event.id, event.timestamp]) + "\n")
        self._file.flush()
        self._tick()
        self._count += len(events)
        if self._count >= PART:
            await self.publish()
            self._begin()

    async def publish(self) -> None:
        self._file.flush()
        self._tick()
        os.fsync(self._file.fileno())
        self._file.close()
        self._tick()
        if self._count:
            await self._run.commit(note=self._name)
            self._tick()
            self._temporary.rename(self._folder / f"{self._name}.ndjson")
            self._tick()
        else:
            self._temporary.unlink()


class Ticking(SQLiteStore):
    """Ticks inside of SQLite, too."""

    def __init__(self, path: Path, tick: Callable[[], None]) -> None:
        super().__init__(path)
        self._tick = tick

    def _open(self) -> None:
        self._tick()
        super()._open()
        self._database.set_progress_handler(self._tick, 300)
        self._tick()


async def main(url: str, contacts: list[str], folder: Path, now: int, tick: Callable[[], None]) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    policy = RetryPolicy(wall_clock=lambda: now / 1000)
    async with NP6Client("fake-np6-key", base_url=url, retry=policy, concurrency=4) as np6:
        sync = Sync(np6, Ticking(folder / "state.db", tick), contacts)
        async with sync.run(autocommit=False) as run:
            parts = Parts(folder, run, tick)
            async for contact, events in run.batches():
                await parts.write(str(contact), events)
            await parts.publish()


def program() -> None:
    """`url`, `contacts` (a file), `folder`, `now`, and after how many ticks it kills itself (0: not)."""
    url, contacts, folder, now, kill_at = sys.argv[1:]
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(1, b".")

    try:
        asyncio.run(main(url, Path(contacts).read_text().split(), Path(folder), int(now), tick))
    except asyncio.CancelledError:
        sys.exit(143)


# -- the killer -------------------------------------------------------------------------------------


class Killer:
    """Runs the program against a server whose events grow, and ends it before its end."""

    def __init__(self, server: FakeNP6, folder: Path, seed: int) -> None:
        self._server = server
        self._folder = folder
        self._rng = random.Random(seed)
        self._contacts = folder / "contacts.txt"
        self._contacts.write_text("\n".join(server.contact_ids))
        self._now = ANCHOR
        self.killed: Counter[str] = Counter()
        self.finished = 0
        self.slowest_drain = 0.0  # seconds from SIGTERM to the end

    def publish(self) -> None:
        """Time passes; new events, and late ones."""
        self._now += 3 * MINUTE
        ids = self._server.contact_ids
        for contact in self._rng.sample(range(len(ids)), len(ids) // 8):
            ages = [self._rng.randrange(7 * MINUTE) for _ in range(self._rng.randint(1, 4))]
            self._server.add_events(ids[contact], [make_hit(at=self._now - age) for age in ages])

    def kill_at_a_tick(self, most: int) -> None:
        """Let it kill itself (SIGKILL) at a random point of its work."""
        at = self._rng.randint(1, most)
        code = subprocess.run(self._command(at), stdout=subprocess.DEVNULL, timeout=120).returncode
        self._count({-signal.SIGKILL: "SIGKILL", 0: "finished"}[code])

    def kill_some_time(self, sign: signal.Signals, most: int) -> None:
        """Send it a signal after a random number of ticks: wherever it then is."""
        at = self._rng.randint(1, most)
        with subprocess.Popen(self._command(0), stdout=subprocess.PIPE, bufsize=0) as process:
            assert process.stdout is not None
            got = 0
            while got < at and (ticks := process.stdout.read(1)):
                got += len(ticks)
            process.send_signal(sign)
            began = time.monotonic()
            process.stdout.read()
            code = process.wait(timeout=120)
        if code == 143:
            self.slowest_drain = max(self.slowest_drain, time.monotonic() - began)
        self._count({-signal.SIGKILL: "SIGKILL", -signal.SIGTERM: "SIGTERM early", 143: "SIGTERM", 0: "finished"}[code])

    def finish(self) -> None:
        """Let it come to its end, after all events have come to theirs."""
        self._now += 2 * MINUTE
        subprocess.run(self._command(0), check=True, stdout=subprocess.DEVNULL, timeout=120)

    def difference(self) -> tuple[int, int]:
        """Events lost and doubled in the parts. A line that is torn raises."""
        assert not list(self._folder.glob("*.tmp"))
        got = Counter(
            (contact, id_)
            for part in self._folder.glob("*.ndjson")
            for contact, id_, _ in map(json.loads, part.read_text().splitlines())
        )
        wanted = Counter(
            (contact, event["id"]) for contact in self._server.contact_ids for event in self._server.events(contact)
        )
        return (wanted - got).total(), (got - wanted).total()

    def _command(self, kill_at: int) -> list[str]:
        given = (self._server.url, self._contacts, self._folder, self._now, kill_at)
        return [sys.executable, __file__, *map(str, given)]

    def _count(self, end: str) -> None:
        if end == "finished":
            self.finished += 1
        else:
            self.killed[end] += 1


if __name__ == "__main__":
    program()
