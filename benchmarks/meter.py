"""What a process measures about itself: peak memory, the worst stall of its event loop, tasks alive."""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_STATUS = Path("/proc/self/status")


def _status(member: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(member))
    return int(line.split()[1]) * 1024


class Memory:
    """Growth of the resident memory's high-water mark, in bytes, since `start`."""

    def start(self) -> None:
        """Start here. Linux can reset the mark; elsewhere a fresh process is needed."""
        gc.collect()
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._before = _status("VmRSS")
        except OSError:
            self._before = self._peak()

    def growth(self) -> int:
        """The most by which the memory was above its start."""
        return self._peak() - self._before

    def grown(self) -> int:
        """By how much the memory is above its start now."""
        return (_status("VmRSS") if _STATUS.exists() else self._peak()) - self._before

    def _peak(self) -> int:
        if _STATUS.exists():
            return _status("VmHWM")
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Heartbeat:
    """A task that is due every millisecond; `worst` is the longest delay beyond that."""

    _EVERY = 0.001

    def __init__(self) -> None:
        self.worst = 0.0

    async def __aenter__(self) -> Heartbeat:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _beat(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(self._EVERY)
            now = time.perf_counter()
            self.worst = max(self.worst, now - before - self._EVERY)
            before = now


class TaskCount:
    """Counts the tasks four times a second, and keeps the maximum."""

    _EVERY = 0.25

    def __init__(self) -> None:
        self.most = 0
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_later(self._EVERY, self._look)

    def stop(self) -> None:
        """Stop counting."""
        self._next.cancel()

    def _look(self) -> None:
        self.most = max(self.most, len(asyncio.all_tasks()))
        self._next = self._loop.call_later(self._EVERY, self._look)


def ids(shape: str, count: int) -> Iterator[str]:
    """Contact ids, made one by one."""
    return (f"{shape}{number:07d}" for number in range(count))
