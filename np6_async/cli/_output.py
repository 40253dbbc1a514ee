"""Where the lines go: standard output, or a file that appears only when it is complete.

Lines are written in blocks by a thread, so that neither a slow disk nor a reader that has paused stops the event loop,
which has responses to read and timeouts to keep.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..export._disk import in_thread, make_folder, remove_folders
from ._messages import BadInput

_BLOCK: Final = 128 * 1024
# A line waits no longer than this for others to be written with it.
_LINGER: Final = 0.2


class Output:
    """Lines of bytes to a file descriptor, in the order given, each of them whole.

    `beside` is where a list of the contacts that are not done may go, once the output was abandoned.
    """

    beside: Path | None = None

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._parts: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._regular = stat.S_ISREG(os.fstat(fd).st_mode)

    async def add(self, lines: bytes) -> None:
        """Write `lines`, soon; waits while too much is unwritten. Raises the OSError of an earlier write."""
        self._parts.append(lines)
        self._size += len(lines)
        while self._size >= _BLOCK:  # the timer may begin a write when the last one has just ended
            await self._written()
            self._write()
        if self._parts and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LINGER, self._tick)

    async def drain(self) -> None:
        """Return when all is written."""
        await self._written()
        while self._parts:
            self._write()
            await self._written()

    async def complete(self) -> str | None:
        """Write the rest: the run is complete. Returns what the user is to know."""
        await self.drain()
        return None

    async def abandon(self) -> str | None:
        """Write the rest: the run was stopped. Returns what the user is to know."""
        await self.drain()
        return None

    def _tick(self) -> None:
        self._timer = None
        if self._writing is None or self._writing.done():
            self._write()
        else:
            self._timer = asyncio.get_running_loop().call_later(_LINGER, self._tick)

    def _write(self) -> None:
        """Begin to write, unless a write is in progress: two at a time would tear each other's lines."""
        if self._writing is not None and (not self._writing.done() or self._writing.exception() is not None):
            return  # the latter is for `_written` to raise
        block, self._parts, self._size = b"".join(self._parts), [], 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writing = in_thread(lambda: self._write_block(block)) if block else None

    async def _written(self) -> None:
        if self._writing is not None:
            # Shielded: cancelled half-way, the write goes on, and the next call must wait for it.
            await asyncio.shield(self._writing)

    def _write_block(self, block: bytes) -> None:
        sent = 0
        try:
            while sent < len(block):
                try:
                    sent += os.write(self._fd, memoryview(block)[sent:])
                except BlockingIOError:  # a program that shares this pipe or terminal made it non-blocking
                    select.select([], [self._fd], [])
        except OSError:
            if self._regular:  # the disk is full: leave no torn line
                with suppress(OSError):
                    torn = sent - (block.rfind(b"\n", 0, sent) + 1)
                    end = os.lseek(self._fd, 0, os.SEEK_CUR) - torn
                    os.ftruncate(self._fd, end)
            raise


class FileOutput(Output):
    """Lines to a file beside `target`, which takes its place when complete.

    When stopped before, the lines are kept as ``<target>.partial`` and `target` stays as it was. Where there is such
    a file or a ``<target>.remaining`` already, both names get the first number that is free for both.
    """

    def __init__(self, target: Path) -> None:
        # Through links: the link must stay one.
        self._target = target.resolve()
        self._made: list[Path] = []
        make_folder(self._target.parent, self._made)
        self._temporary = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}.tmp")
        fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):
            os.chmod(self._temporary, stat.S_IMODE(self._target.stat().st_mode))
        super().__init__(fd)

    async def complete(self) -> str | None:
        """Write the rest and put the file in its place."""
        await self.drain()
        await in_thread(lambda: os.fsync(self._fd))
        os.close(self._fd)
        os.replace(self._temporary, self._target)
        return None

    async def abandon(self) -> str | None:
        """Write the rest and keep the file beside the target."""
        problem: OSError | None = None
        try:
            await self.drain()
        except OSError as error:
            problem = error  # what was written before is still worth keeping
        said = self._keep()
        if self._target.exists():
            said += f"; {self._target} is as it was before"
        if problem is not None:
            self.beside = None  # nobody knows whose events were not written
            said += f" ({problem.strerror})"
        return said

    def _keep(self) -> str:
        partial, self.beside = _free_names(self._target)
        empty = not os.fstat(self._fd).st_size
        os.close(self._fd)
        if empty:
            self._temporary.unlink()
            remove_folders(self._made)
            return "nothing was written"
        return f"the events fetched so far are in {place(self._temporary, partial)}"


def place(temporary: Path, wanted: Path) -> Path:
    """Give `temporary` the name `wanted`, with a number where there is such a file; returns the name."""
    for name in _numbered(wanted):
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL, 0o666))  # reserves it: a rename replaces any file
        except FileExistsError:
            continue
        os.replace(temporary, name)
        return name
    raise AssertionError("unreachable")


def _free_names(target: Path) -> tuple[Path, Path]:
    pairs = zip(
        _numbered(target.with_name(f"{target.name}.partial")),
        _numbered(target.with_name(f"{target.name}.remaining")),
        strict=True,
    )
    return next((partial, left) for partial, left in pairs if not partial.exists() and not left.exists())


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in itertools.count(1):
        yield path.with_name(f"{path.name}.{number}")


def open_output(path: str) -> Output:
    """The output of this name; raises `BadInput` where it cannot be written to."""
    if path == "-":
        if sys.stdout is None:
            raise BadInput("standard output is closed")
        sys.stdout.flush()
        return Output(1)
    if not path:
        raise BadInput("--output: the name of the file is empty")
    target = Path(path)
    try:
        # A device or a pipe, such as /dev/stdout, is written to: replacing one would break the machine.
        if target.exists() and not target.is_file():
            return Output(os.open(target, os.O_WRONLY))
        return FileOutput(target)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"--output {path!r} cannot be written: {reason}") from None
