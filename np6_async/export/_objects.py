"""Folders in an object store: S3, Google Cloud Storage, Azure Blob Storage, through fsspec.

A store has no folders, no renames and no locks, but puts of whole objects, and puts that succeed only where there is no
object of that name. So a file is written on this machine and then put as a whole, and the manifest is a sequence:
``manifest-00000007.json`` is created and never replaced, and the highest number counts. Of two runs only one can create
the next number; the other ends. A run begins by creating one, so the run that began last has the folder, and nothing
need be removed by hand when a run was killed. Whatever a run puts has a name that no other run gives.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from ._errors import FolderError, Overtaken
from ._storage import BESIDE, MANIFEST, Storage

T = TypeVar("T")

_NUMBERED: Final = re.compile(r"manifest-([0-9]{8,})\.json")
_SUFFIX: Final = re.compile(r"\.(txt|(ndjson|csv|parquet)(\.gz)?)\Z")
_SCRATCH: Final = "np6-scratch-"
_READS: Final = 5  # of a manifest that is replaced meanwhile
# What is raised for want of credentials, by the libraries of the stores, and for what they do not allow.
_NO_CREDENTIALS: Final = frozenset(
    (
        "CredentialRetrievalError",
        "DefaultCredentialsError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    )
)
_DENIED: Final = (401, 403, "401", "403")


class ObjectStorage(Storage):
    """The folder at `url`. `connect` gives the file system of fsspec, and the path of the folder in it.

    `credentials` says where the library looks for them. What is raised names neither these nor what the store said.
    """

    appends = False

    def __init__(self, url: str, connect: Callable[[], tuple[Any, str]], credentials: str) -> None:
        self.place = self.where = url
        self.beside = url + BESIDE
        self._connect = connect
        self._credentials = credentials
        self._connected: tuple[Any, str] | None = None
        self._lock: int | None = None
        self._number = 0  # of the manifest that was last read or written
        self.unsure = False

    def open(self) -> None:
        self.run = secrets.token_hex(4)
        self._number, self.unsure = 0, False
        self.others()  # it says what is wrong before anything is fetched
        self.scratch, self._lock = _make_scratch()

    def join(self) -> None:
        self.scratch, self._lock = _make_scratch()

    def close(self) -> None:
        if self._lock is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        """A folder that is empty does not exist."""

    def failed(self, error: OSError) -> Exception:
        return error

    def own(self, name: str) -> str:
        return _SUFFIX.sub(rf"-{self.run}\g<0>", name)

    def owns(self, name: str) -> bool:
        return f"-{self.run}." in name

    # Parts

    def part(self, name: str) -> str:
        return f"{self.place}/{name}"

    def has_part(self, name: str) -> bool:
        return bool(self._ask(lambda fs, path: fs.exists(f"{path}/{name}")))

    def parts(self) -> dict[str, int]:
        return self._list("")

    def put(self, file: Path, name: str) -> None:
        self._put(file, f"/{name}")

    def hold(self, file: Path, held: str) -> None:
        self._put(file, f"{BESIDE}/{held}")

    def release(self, held: str, name: str) -> bool:
        try:
            self._ask(lambda fs, path: fs.cp_file(f"{path}{BESIDE}/{held}", f"{path}/{name}"))
        except FileNotFoundError:
            if max(self._numbers(), default=0) > self._number:  # that of another run, which has removed it
                raise self._taken_over() from None
            return self.has_part(name)
        self.remove_other(held)
        return True

    def remove_part(self, name: str) -> None:
        self._remove(f"/{name}")

    # What lies beside them

    def other(self, name: str) -> str:
        return f"{self.beside}/{name}"

    def has_other(self, name: str) -> bool:
        return bool(self._ask(lambda fs, path: fs.exists(f"{path}{BESIDE}/{name}")))

    def others(self) -> dict[str, int]:
        return self._list(BESIDE)

    def read(self, name: str) -> bytes:
        return bytes(self._ask(lambda fs, path: fs.cat_file(f"{path}{BESIDE}/{name}")))

    def write(self, name: str, content: bytes) -> None:
        self._ask(lambda fs, path: fs.pipe_file(f"{path}{BESIDE}/{name}", content), writes=True)

    def extend(self, name: str, size: int, content: bytes) -> None:
        raise NotImplementedError  # it does not append

    def remove_other(self, name: str) -> None:
        self._remove(f"{BESIDE}/{name}")

    # The manifest

    def read_manifest(self) -> bytes | None:
        for _ in range(_READS):
            numbers = self._numbers()
            if not numbers:
                return None
            self._number = max(numbers)
            with suppress(FileNotFoundError):  # there is another by now
                return self.read(numbers[self._number])
        raise OSError(errno.EBUSY, f"its {MANIFEST} is replaced all the time")

    def claim(self, manifest: bytes) -> None:
        self.write_manifest(manifest)

    def write_manifest(self, content: bytes) -> None:
        number = self._number + 1
        self.unsure = True
        self._create(f"manifest-{number:08d}.json", content)
        numbers = self._numbers()
        if max(numbers, default=0) > number:
            raise self._taken_over()
        self._number, self.unsure = number, False
        for other in numbers:
            if other < number:
                with suppress(OSError):  # the next one removes it
                    self.remove_other(numbers[other])

    def remove_manifest(self) -> None:
        for number, name in self._numbers().items():
            if number <= self._number:
                self.remove_other(name)

    def _create(self, name: str, content: bytes) -> None:
        """Put an object where there is none of this name."""
        try:
            self._ask(lambda fs, path: fs.pipe_file(f"{path}{BESIDE}/{name}", content, mode="create"), writes=True)
        except OSError as error:
            # It may have been put, and only the response been lost.
            try:
                there = self.read(name)
            except FileNotFoundError:
                raise (self._taken_over() if isinstance(error, FileExistsError) else error) from None
            if there != content:
                raise self._taken_over() from None

    def _numbers(self) -> dict[int, str]:
        """The manifests, by their numbers."""
        return {int(match[1]): name for name in self.others() if (match := _NUMBERED.fullmatch(name))}

    def _taken_over(self) -> Overtaken:
        return Overtaken(
            f"another run has begun to write to {self.place!r} after this one, which therefore ends; what it had "
            "committed counts, and the other run continues"
        )

    # Calls

    def _list(self, folder: str) -> dict[str, int]:
        def find(fs: Any, path: str) -> dict[str, int]:
            root = f"{path}{folder}/"
            try:
                found: dict[str, Any] = fs.find(root, detail=True)
            except FileNotFoundError as error:
                if _of_bucket(error):
                    raise
                return {}
            return {name.removeprefix(root): info["size"] for name, info in found.items() if name.startswith(root)}

        return self._ask(find)

    def _put(self, file: Path, place: str) -> None:
        self._ask(lambda fs, path: fs.put_file(str(file), f"{path}{place}"), writes=True)
        file.unlink()

    def _remove(self, place: str) -> None:
        with suppress(FileNotFoundError):
            self._ask(lambda fs, path: fs.rm_file(f"{path}{place}"))

    def _ask(self, call: Callable[[Any, str], T], *, writes: bool = False) -> T:
        """The result of `call`. Raises FileNotFoundError, FileExistsError, `FolderError`, or OSError for what may be
        otherwise the next time."""
        try:
            if self._connected is None:
                self._connected = self._connect()
            return call(*self._connected)
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, "it is there already") from None
        except FileNotFoundError as error:
            if not writes and not _of_bucket(error):
                raise FileNotFoundError(errno.ENOENT, "it is not there") from None
            raise FolderError(
                f"{self.place!r} cannot be written to: there is no such bucket or container; create it first"
            ) from None
        except Exception as error:
            raise self._said(error) from None

    def _said(self, error: Exception) -> Exception:
        """What a failure of the store is to its user: the kind of it, and nothing that the store has said."""
        code = _code(error)
        if type(error).__name__ in _NO_CREDENTIALS or isinstance(error, ValueError):  # which settings are that lack
            return FolderError(f"{self.place!r}: no usable credentials ({code}): {self._credentials}")
        denied = isinstance(error, PermissionError) or str(error).startswith("Forbidden")
        if denied or any(getattr(error, name, None) in _DENIED for name in ("code", "status_code", "status")):
            return FolderError(
                f"{self.place!r}: access is denied ({code}): the credentials must be valid, and allow to list, read, "
                f"write and delete there; {self._credentials}"
            )
        return OSError(errno.EIO, f"the object store failed ({code})")


def _code(error: Exception) -> str:
    """A word for the kind of an error: the code of the store, or else its class."""
    response = getattr(error.__cause__ or error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code if isinstance(code, str) and re.fullmatch(r"\w{1,60}", code) else type(error).__name__


def _of_bucket(error: FileNotFoundError) -> bool:
    """Whether it is the bucket, or the container, that is not there."""
    return type(error.__cause__).__name__ == "NoSuchBucket" or "container" in str(error).lower()


def _make_scratch() -> tuple[Path, int]:
    """A folder for temporary files, and what keeps other processes from taking it for that of a killed one."""
    if sys.platform == "win32":
        made = Path(tempfile.mkdtemp(prefix=_SCRATCH))
        return made, os.open(os.devnull, os.O_RDONLY)
    import fcntl

    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)  # nobody has it: its process was killed
            finally:
                os.close(lock)
    while True:
        made = Path(tempfile.mkdtemp(prefix=_SCRATCH))
        with suppress(FileNotFoundError):  # another process has taken it for one that was left
            lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if made.exists():
                return made, lock
            os.close(lock)
