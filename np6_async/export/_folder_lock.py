"""A folder that one process at a time writes to."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


class BadFolder(Exception):
    """The folder cannot be written to; the message says why and what to do."""


class LockedFolder:
    """The folder at `path`, which is made where there is none; others are kept out until `close`, or this process ends.

    Raises `BadFolder`.
    """

    def __init__(self, path: Path) -> None:
        self.made = False
        self._lock: int | None = None
        try:
            with suppress(FileExistsError):
                path.mkdir()
                self.made = True
            if sys.platform != "win32":
                self._lock = _lock(path)
        except (OSError, ValueError) as error:
            raise BadFolder(reason(path, error)) from None

    def close(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lock(path: Path) -> int:
    import fcntl

    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise BadFolder(f"another process writes to {str(path)!r}; wait for it, or stop it") from None
    except OSError:
        pass  # a file system without locks
    return lock


def reason(path: Path, error: OSError | ValueError) -> str:
    """Why the folder at `path` cannot be used."""
    match error:
        case FileExistsError() | NotADirectoryError():
            return f"{str(path)!r} is no folder"
        case FileNotFoundError():
            return f"{str(path)!r} cannot be made: folder {str(path.parent)!r} does not exist"
        case _:
            return f"{str(path)!r} cannot be written to: {getattr(error, 'strerror', None) or error}"
