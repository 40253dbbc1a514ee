"""The lines of an output are written whole and in order, whatever happens at the same moment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import pytest

from np6_async.cli import _output
from np6_async.cli._output import Output

LINE = b"x" * 1023 + b"\n"
BLOCK = LINE * 128  # is written at once


class Disk:
    """Writes that end when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.writes: list[asyncio.Future[None]] = []

    def begin(self, call: Callable[[], None]) -> asyncio.Future[None]:
        self.calls.append(call)
        self.writes.append(asyncio.get_running_loop().create_future())
        return self.writes[-1]

    @property
    def in_progress(self) -> int:
        return sum(not write.done() for write in self.writes)

    def end(self) -> None:
        (write,) = [write for write in self.writes if not write.done()]
        self.calls[self.writes.index(write)]()
        write.set_result(None)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(_output, "in_thread", disk.begin)
    return disk


@pytest.fixture
def fd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    fd = os.open(tmp_path_factory.mktemp("output") / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_write_that_the_timer_begins_is_waited_for(disk: Disk, fd: int) -> None:
    """It may begin between the end of a write and the next step of who waited for that: never two at a time."""
    output = Output(fd)
    await output.add(b"1" * len(BLOCK) + b"\n")
    waiting = asyncio.create_task(output.add(b"2" * len(BLOCK) + b"\n"))
    await turn()
    disk.end()
    output._tick()
    await turn()
    assert disk.in_progress == 1
    await waiting
    following = asyncio.create_task(output.add(b"3" * len(BLOCK) + b"\n"))
    await turn()
    assert disk.in_progress == 1
    disk.end()
    await following
    ending = asyncio.create_task(output.drain())
    await turn()
    disk.end()
    await ending
    written = os.pread(fd, 4 * len(BLOCK), 0)
    assert written == b"".join(digit * len(BLOCK) + b"\n" for digit in (b"1", b"2", b"3"))


async def test_what_the_timer_finds_while_a_write_is_in_progress_is_written_after_it(disk: Disk, fd: int) -> None:
    output = Output(fd)
    await output.add(BLOCK)
    await output.add(LINE)
    output._tick()
    assert disk.in_progress == 1
    disk.end()
    output._tick()
    disk.end()
    await output.drain()
    assert os.pread(fd, 2 * len(BLOCK), 0) == BLOCK + LINE
