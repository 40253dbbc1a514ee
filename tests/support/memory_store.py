"""An object store in memory, as fsspec has them, that fails or goes away at any call; and what is in it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from np6_async.export import _location
from support import exported


class Gone(BaseException):
    """A process was killed: nothing that it does afterwards reaches the store."""


class MemoryStore:
    """What `np6_async.export` calls of a file system of fsspec.

    `fail` is called before and after the effect of each call, with its number and the moment.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls = 0
        self.threads: set[threading.Thread] = set()
        self.paths: tuple[str, ...] = ()  # of the last call
        self.fail: Callable[[int, str], None] = lambda call, moment: None
        self.buckets = {"lake"}

    def _call(self, do: Callable[[], Any], *paths: str) -> Any:
        self.threads.add(threading.current_thread())
        self.calls += 1
        call = self.calls
        self.paths = paths
        for path in paths:
            if path.partition("/")[0] not in self.buckets:
                raise FileNotFoundError("The specified bucket does not exist") from NoSuchBucket()
        self.fail(call, "before")
        done = do()
        self.fail(call, "after")
        return done

    def find(self, root: str, detail: bool) -> dict[str, Any]:
        assert detail
        return self._call(
            lambda: {name: {"size": len(data)} for name, data in self.objects.items() if name.startswith(root)}, root
        )

    def exists(self, path: str) -> bool:
        return self._call(lambda: path in self.objects, path)

    def cat_file(self, path: str) -> bytes:
        return self._call(lambda: self._read(path), path)

    def pipe_file(self, path: str, content: bytes, mode: str = "overwrite") -> None:
        def put() -> None:
            if mode == "create" and path in self.objects:
                raise FileExistsError(path)
            self.objects[path] = content

        self._call(put, path)

    def put_file(self, file: str, path: str) -> None:
        content = Path(file).read_bytes()
        self._call(lambda: self.objects.__setitem__(path, content), path)

    def cp_file(self, path: str, target: str) -> None:
        self._call(lambda: self.objects.__setitem__(target, self._read(path)), path, target)

    def rm_file(self, path: str) -> None:
        self._call(lambda: self.objects.pop(path, None), path)

    def _read(self, path: str) -> bytes:
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    # For tests

    def names(self, folder: str) -> list[str]:
        return sorted(name.removeprefix(f"{folder}/") for name in self.objects if name.startswith(f"{folder}/"))

    def events(self, folder: str, scratch: Path) -> Counter[exported.Key]:
        """Every event of all objects in the folder; raises where one is torn."""
        found: Counter[exported.Key] = Counter()
        for name in self.names(folder):
            file = scratch / name.rpartition("/")[2]
            file.write_bytes(self.objects[f"{folder}/{name}"])
            found.update(map(exported.key, exported.rows(file)))
            file.unlink()
        return found

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every s3:// be this store, whatever is installed."""
        monkeypatch.setattr(_location, "find_spec", lambda name: name)
        monkeypatch.setattr(_location, "_connect", lambda url, store: (self, url.partition("://")[2]))


class NoSuchBucket(Exception):
    """As botocore calls it."""
