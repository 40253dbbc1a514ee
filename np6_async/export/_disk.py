"""What writing to a disk takes: blocking calls in threads, and a folder that one process at a time writes to."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, TypeVar

from .._http.lifetime import ended
from ._errors import FolderError

T = TypeVar("T")

BESIDE: Final = ".np6"  # ends the name of the folder that lies beside one of parts


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


class LockedFolder:
    """The folder at `path` and the one `beside` it, both created if they do not exist; other processes are kept out
    until `close`, or this one ends.

    Raises `FolderError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.beside = beside(path)
        self._created: list[Path] = []
        self._lock: int | None = None
        at = path
        try:
            for at in (path, self.beside):
                self._create(at)
                if not at.is_dir():
                    raise NotADirectoryError
            if path.stat().st_dev != self.beside.stat().st_dev:
                raise FolderError(
                    f"{str(path)!r} is the root of a disk, and {str(self.beside)!r} would lie on another; use a folder "
                    f"in it, such as {str(path / 'events')!r}"
                )
            if sys.platform != "win32":
                self._lock = _lock(self.beside, path)
        except (OSError, ValueError, FolderError) as error:
            self.remove()
            raise error if isinstance(error, FolderError) else FolderError(reason(at, error)) from None

    def _create(self, folder: Path) -> None:
        with suppress(FileExistsError):
            folder.mkdir()
            self._created.append(folder)

    def remove(self) -> None:
        """Remove those of the two folders that were created, if they are empty."""
        with suppress(OSError):  # there is something in it
            for folder in reversed(self._created):
                folder.rmdir()

    def close(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def beside(path: Path) -> Path:
    """The folder of all that belongs to the folder of parts at `path` and is no part: ``january.np6``.

    It lies beside it, so that parts are renamed from one into the other, and readers of the parts need not know it.
    Raises `FolderError`.
    """
    try:
        if path.is_symlink() or path.name in ("", ".."):
            path = Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise FolderError(reason(path, error)) from None
    if not path.name or path.name.endswith(BESIDE):
        raise FolderError(f"{str(path)!r} cannot hold parts: names that end in {BESIDE} are for what lies beside them")
    return path.with_name(path.name + BESIDE)


def _lock(folder: Path, path: Path) -> int:
    import fcntl

    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(lock), os.stat(folder)):
            raise FileNotFoundError
    except (BlockingIOError, FileNotFoundError):  # the latter: it has just removed the folder
        os.close(lock)
        raise FolderError(f"another process writes to {str(path)!r}; wait for it, or stop it") from None
    except OSError:
        pass  # a file system without locks
    return lock


def reason(path: Path, error: OSError | ValueError) -> str:
    """Why the folder at `path` cannot be used."""
    match error:
        case FileExistsError() | NotADirectoryError():
            return f"{str(path)!r} is not a folder"
        case FileNotFoundError() if not path.parent.exists():
            return f"{str(path)!r} cannot be created: folder {str(path.parent)!r} does not exist"
        case _:
            return f"{str(path)!r} cannot be written to: {getattr(error, 'strerror', None) or error}"
