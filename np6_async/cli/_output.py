"""Where the lines go: standard output, or a file that appears only when it is complete.

Lines are handed on in blocks and written by a thread, so that neither a slow disk nor a reader that has
paused stops the event loop, which has answers to read and time-outs to keep.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import select
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from ._threads import in_thread

_BLOCK: Final = 128 * 1024
# A line waits no longer than this for others to be written with.
_PATIENCE: Final = 0.2


class Output:
    """Lines of bytes to a file descriptor, in the order given, each of them whole."""

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
        if self._size >= _BLOCK:
            await self._written()
            self._write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._tick)

    async def drain(self) -> None:
        """Return when all is written."""
        await self._written()
        self._write()
        await self._written()

    async def complete(self) -> str | None:
        """Write the rest: the run is complete. Returns what is to be said about it."""
        await self.drain()
        return None

    async def abandon(self) -> str | None:
        """Write the rest: the run was stopped. Returns what is to be said about it."""
        await self.drain()
        return None

    def _tick(self) -> None:
        self._timer = None
        if self._writing is None or self._writing.done():
            self._write()
        else:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._tick)

    def _write(self) -> None:
        if self._writing is not None and self._writing.done() and self._writing.exception() is not None:
            return  # for `_written` to raise
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
                except BlockingIOError:  # whoever shares this pipe or terminal made it non-blocking
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

    Stopped before, the lines are kept as ``<target>.partial`` and `target` stays as it was.
    """

    def __init__(self, target: Path) -> None:
        # Through links: the link must stay one.
        self._target = target.resolve()
        self._temporary = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}.tmp")
        fd = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):
            os.chmod(self._temporary, stat.S_IMODE(self._target.stat().st_mode))
        super().__init__(fd)

    async def complete(self) -> str | None:
        """Write the rest and put the file in its place."""
        await self.drain()
        await in_thread(lambda: os.fsync(self._fd))
        self._place(self._target)
        return None

    async def abandon(self) -> str | None:
        """Write the rest and keep it beside the target."""
        problem: OSError | None = None
        try:
            await self.drain()
        except OSError as error:
            problem = error  # what was written before is still worth keeping
        if os.fstat(self._fd).st_size:
            partial = self._target.with_name(f"{self._target.name}.partial")
            self._place(partial)
            said = f"the events fetched so far are in {partial}"
        else:
            os.close(self._fd)
            self._temporary.unlink()
            said = "nothing was written"
        if self._target.exists():
            said += f"; {self._target} is as it was before"
        return f"{said} ({problem.strerror})" if problem else said

    def _place(self, path: Path) -> None:
        os.close(self._fd)
        os.replace(self._temporary, path)


def open_output(path: str) -> Output:
    """The output of this name; raises OSError where it cannot be written to."""
    if path == "-":
        if sys.stdout is None:
            raise OSError(9, "standard output is closed")
        sys.stdout.flush()
        return Output(1)
    target = Path(path)
    # A device or a pipe, such as /dev/stdout, is written to: replacing one would break the machine.
    if target.exists() and not target.is_file():
        return Output(os.open(target, os.O_WRONLY))
    return FileOutput(target)
