"""What writing to a disk takes: blocking calls, in threads of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from .._http.lifetime import ended

T = TypeVar("T")


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


def in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """The result of `call`, which runs in its own thread.

    It is a daemon thread, unlike those of `asyncio.to_thread`: a read from a terminal, a write to a pipe that nobody
    reads or a disk that hangs must not keep the process from ending.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # no cancellation reaches the thread

    def target() -> None:
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=target, name="np6 i/o", daemon=True).start()
    return asyncio.wrap_future(future)


def make_folder(path: Path, made: list[Path]) -> None:
    """Make the folder and those that it lies in, unless they exist; those that this has made are added to `made`."""
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            with suppress(FileExistsError):
                folder.mkdir()
                made.append(folder)


def remove_folders(made: list[Path]) -> None:
    """Remove what `make_folder` has made, as far as there is nothing in it."""
    with suppress(OSError):
        while made:
            made.pop().rmdir()


async def acquired(call: Callable[[], C]) -> C:
    """The result of `call`, which runs in its own thread and to its end; closed where this is cancelled meanwhile."""

    async def called() -> C:
        return await in_thread(call)

    task = asyncio.create_task(called())
    try:
        return await ended(task)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is None:
            task.result().close()
        raise


class Commits:
    """Calls that commit, one after the other, each in its own thread and to its end, however often it is cancelled."""

    def __init__(self) -> None:
        self._last: asyncio.Task[None] | None = None

    async def run(self, call: Callable[[], None]) -> None:
        """Make `call`; raises what it raises or, once it has ended, the cancellation that came meanwhile."""

        async def called() -> None:
            await in_thread(call)

        self._last = asyncio.create_task(called())
        await ended(self._last)

    async def check(self) -> None:
        """Raise what the last call has raised: what it was to commit is lost."""
        if self._last is not None:
            await self._last
