"""Where the files of a folder of events lie: what every kind of place can do, and the folders of this machine.

To the folder ``january``, in which there is nothing but parts, belongs ``january.np6``, for whatever is no part.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, TypeAlias

from ._disk import make_folder, remove_folders
from ._errors import FolderError

Location: TypeAlias = Path | str

BESIDE: Final = ".np6"  # ends the name of the folder that lies beside one of parts
TEMPORARY: Final = ".tmp"  # ends the name of a file that is not complete
MANIFEST: Final = "manifest.json"


class Storage(ABC):
    """A folder of parts, and the one beside it. Names are relative to one or the other, with ``/`` in any case.

    Every method blocks. They raise `FolderError` where the place cannot be used, and OSError where it fails.
    """

    place: str  # the folder of the parts, as it was given
    where: str  # the same, whatever the working directory of the process
    beside: str  # the other one
    scratch: Path  # the local folder of files that are being written; since `open`
    run: str  # by which this run knows again what it has written, where another run may write there too
    unsure: bool = False  # whether the manifest that was last written may count, or may not
    appends: bool  # whether a file can become longer; if not, there is another one in its place

    @abstractmethod
    def open(self) -> None:
        """Make sure that files can be put here. Until `close`, one process at a time."""

    @abstractmethod
    def join(self) -> None:
        """Write here, until `close`, for the run in another process that has it open: use `scratch` and `hold`."""

    @abstractmethod
    def close(self) -> None:
        """Let others in."""

    @abstractmethod
    def remove(self) -> None:
        """Remove what `open` has created, if it is empty."""

    @abstractmethod
    def failed(self, error: OSError) -> Exception:
        """What to raise where the first writing of a run has failed with `error`."""

    @abstractmethod
    def own(self, name: str) -> str:
        """The name that this run gives to a file, so that no other run has one of this name."""

    @abstractmethod
    def owns(self, name: str) -> bool:
        """Whether this run may have put the file."""

    # Parts

    @abstractmethod
    def part(self, name: str) -> Location:
        """Where a part is, for those who read it."""

    @abstractmethod
    def has_part(self, name: str) -> bool:
        """Whether there is one of this name."""

    @abstractmethod
    def parts(self) -> dict[str, int]:
        """The files among which the parts are, with their sizes in bytes."""

    @abstractmethod
    def put(self, file: Path, name: str) -> None:
        """Make a part of a local file, of all of it or not at all; the file is then gone."""

    @abstractmethod
    def hold(self, file: Path, held: str) -> None:
        """Keep a complete file beside the parts, for good, from where `release` makes a part of it."""

    @abstractmethod
    def release(self, held: str, name: str) -> bool:
        """Make a part of what is held. False: there is no such part, neither held nor released before.

        Raises `FolderError` where another run has begun meanwhile, and this one must end.
        """

    @abstractmethod
    def remove_part(self, name: str) -> None:
        """Remove a part, if it is there."""

    # What lies beside them

    @abstractmethod
    def other(self, name: str) -> Location:
        """Where a file beside the parts is."""

    @abstractmethod
    def has_other(self, name: str) -> bool:
        """Whether there is one of this name."""

    @abstractmethod
    def others(self) -> dict[str, int]:
        """The files beside the parts, with their sizes in bytes."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file beside the parts."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Replace it: at any instant it is either the old or the new."""

    @abstractmethod
    def extend(self, name: str, size: int, content: bytes) -> None:
        """Let `content` follow on its first `size` bytes. Only where it `appends`."""

    @abstractmethod
    def remove_other(self, name: str) -> None:
        """Remove it, if it is there."""

    # The manifest

    @abstractmethod
    def read_manifest(self) -> bytes | None:
        """The one that counts; None: there is none."""

    @abstractmethod
    def claim(self, manifest: bytes) -> None:
        """Write the manifest again, where that is what keeps an earlier run from going on."""

    @abstractmethod
    def write_manifest(self, content: bytes) -> None:
        """Let this one count. Raises `FolderError` where another run has begun meanwhile, and this one must end."""

    @abstractmethod
    def remove_manifest(self) -> None:
        """Remove it, if it is there."""


class Opened:
    """What has a storage open, until it is closed or left."""

    storage: Storage

    def close(self) -> None:
        """Let other processes in."""
        self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LocalStorage(Storage):
    """The folder at `path` and the one `beside` it, both created if they do not exist; other processes are kept out
    until `close`, or this one ends."""

    run = ""
    appends = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = str(path)
        self.where = os.path.abspath(path)
        self.scratch = beside(path)
        self.beside = str(self.scratch)
        self._created: list[Path] = []
        self._lock: int | None = None

    def open(self) -> None:
        path, at = self.path, self.path
        try:
            for at in (path, self.scratch):
                make_folder(at, self._created)
                if not at.is_dir():
                    raise NotADirectoryError
            if path.stat().st_dev != self.scratch.stat().st_dev:
                raise FolderError(
                    f"{self.place!r} is the root of a disk, and {self.beside!r} would lie on another; use a folder in "
                    f"it, such as {str(path / 'events')!r}"
                )
            if sys.platform != "win32":
                self._lock = _lock(self.scratch, path)
        except (OSError, ValueError, FolderError) as error:
            self.remove()
            raise error if isinstance(error, FolderError) else FolderError(reason(at, error)) from None

    def join(self) -> None:
        if not self.scratch.is_dir():
            raise FolderError(
                f"{self.beside!r} does not exist where a worker runs: all workers must see the same folder; export to "
                "one of an object store"
            )

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        remove_folders(self._created)

    def failed(self, error: OSError) -> Exception:
        return FolderError(f"{self.place!r} cannot be written to: {error.strerror}")

    def own(self, name: str) -> str:
        return name

    def owns(self, name: str) -> bool:
        return True

    def part(self, name: str) -> Path:
        return self.path / name

    def has_part(self, name: str) -> bool:
        return (self.path / name).exists()

    def parts(self) -> dict[str, int]:
        return _sizes((file.relative_to(self.path).as_posix(), file) for file in _files(self.path))

    def put(self, file: Path, name: str) -> None:
        target = self.path / name
        if not target.parent.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            for folder in target.parents:
                sync_folder(folder)
                if folder == self.path:
                    break
        move(file, target)

    def hold(self, file: Path, held: str) -> None:
        if file != self.scratch / held:
            move(file, self.scratch / held)

    def release(self, held: str, name: str) -> bool:
        if not self.path.is_dir():
            return False
        with suppress(FileNotFoundError, NotADirectoryError):
            self.put(self.scratch / held, name)
        return (self.path / name).exists()

    def remove_part(self, name: str) -> None:
        file = self.path / name
        file.unlink(missing_ok=True)
        with suppress(OSError):  # there is something in it
            for folder in file.parents:
                if folder == self.path:
                    break
                folder.rmdir()
        sync_folder(self.path)

    def other(self, name: str) -> Path:
        return self.scratch / name

    def has_other(self, name: str) -> bool:
        return (self.scratch / name).exists()

    def others(self) -> dict[str, int]:
        return _sizes((file.name, file) for file in self.scratch.iterdir())

    def read(self, name: str) -> bytes:
        return (self.scratch / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        replace_file(self.scratch / name, content)

    def extend(self, name: str, size: int, content: bytes) -> None:
        with open(self.scratch / name, "r+b" if size else "wb") as file:
            file.truncate(size)
            file.seek(size)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def remove_other(self, name: str) -> None:
        (self.scratch / name).unlink(missing_ok=True)
        sync_folder(self.scratch)

    def read_manifest(self) -> bytes | None:
        try:
            return self.read(MANIFEST)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise FolderError(reason(self.path, error)) from None

    def claim(self, manifest: bytes) -> None:
        """There is a lock."""

    def write_manifest(self, content: bytes) -> None:
        self.write(MANIFEST, content)

    def remove_manifest(self) -> None:
        self.remove_other(MANIFEST)


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


def _files(folder: Path) -> Iterator[Path]:
    """Those in it, and in its folders of partitions."""
    for file in folder.iterdir():
        if not file.is_dir():
            yield file
        elif "=" in file.name and not file.is_symlink():
            yield from _files(file)


def _sizes(files: Iterable[tuple[str, Path]]) -> dict[str, int]:
    """Their sizes in bytes, by their names."""
    sizes = {}
    for name, file in files:
        with suppress(FileNotFoundError):  # a worker that was thought dead has removed it, or given it another name
            sizes[name] = file.stat().st_size
    return sizes


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
        case _:
            return f"{str(path)!r} cannot be written to: {getattr(error, 'strerror', None) or error}"


def move(file: Path, target: Path) -> None:
    """Give a file another name on its disk, for good."""
    os.replace(file, target)
    sync_folder(target.parent)
    sync_folder(file.parent)


def replace_file(target: Path, content: bytes) -> None:
    """Replace the content of `target`: at any instant, and after a crash, it has either the old or the new."""
    temporary = target.with_name(target.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can; never fails."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
