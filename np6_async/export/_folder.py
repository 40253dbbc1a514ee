"""The folder of an export, which holds parts, and the one beside it: failed contacts, and the manifest that says what
counts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Final

from attrs import evolve

from ._disk import LockedFolder, beside, reason
from ._errors import FolderError
from ._manifest import VERSION, Asked, BadManifest, FailuresEntry, Manifest, PartEntry, Place, Query, decode, encode
from ._part import TEMPORARY, Part, replace_file, sync_folder
from ._writers import suffix

MANIFEST: Final = "manifest.json"
HELD: Final = "held-"  # begins the name of a file that should have none, on systems where it must have one
_PART: Final = re.compile(r"part-([0-9TZ.]+-)?[0-9]{6,}\.(ndjson|csv|parquet)(\.gz)?")
_FAILURES: Final = re.compile(r"(failures(?:-[0-9T.]+Z)?)(?:\.([0-9]+))?\.txt")


class Folder(LockedFolder):
    """A folder that one process at a time exports to. Every method blocks, and raises OSError where the disk does.

    Nothing counts before `commit` has returned: after a kill, at any instant, the next run resumes at the last one. The
    folder is created if it does not exist; `found` is the manifest of the export that it holds.
    """

    manifest: Manifest  # of the export that was begun or resumed

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self.found = read_manifest(path)
        except FolderError:
            self.remove()
            self.close()
            raise

    def begin(self, query: Query, asked: Asked, window: str | None) -> None:
        """Begin a new export, where there is none or nothing of it was committed."""
        manifest = Manifest(VERSION, query, asked, window)
        if self.found is None:
            foreign = next(filter(_PART.fullmatch, sorted(os.listdir(self.path))), None)
            if foreign is not None:
                raise FolderError(
                    f"{str(self.path)!r} holds {foreign}, and there is no {str(self.beside / MANIFEST)!r}; export to "
                    "another folder"
                )
        self._tidy(manifest)
        self._replace(manifest)

    def resume(self) -> None:
        """Resume the export that was found: remove what was not committed.

        Raises `FolderError` where a file that counts is missing.
        """
        assert self.found is not None
        self._tidy(self.found)
        self.manifest = self.found

    def forget(self) -> None:
        """Leave the folder as if nothing had been begun, where nothing was committed."""
        if self.manifest.blank:
            self._tidy(self.manifest)
            (self.beside / MANIFEST).unlink(missing_ok=True)
            self.remove()

    def _tidy(self, manifest: Manifest) -> None:
        """Remove what an export wrote and `manifest` does not know."""
        parts = {self.path / part.file: part.bytes for part in manifest.parts}
        failures = {self.beside / entry.file: entry.bytes for entry in manifest.failures}
        there = {file for folder in (self.path, self.beside) for file in folder.iterdir()}
        for file, size in (parts | failures).items():
            found = file.stat().st_size if file in there else None
            # More failures than were committed are cut off below.
            if found is None or (found < size if file in failures else found != size):
                what = "missing" if found is None else "not as it was written"
                raise FolderError(f"{str(file)!r} is {what}; put it back, or export to another folder")
        for file in there - set(parts):
            if file in failures:
                os.truncate(file, failures[file])
            elif _PART.fullmatch(file.name) if file.parent == self.path else _is_beside(file.name):
                file.unlink()
        for folder in (self.path, self.beside):
            sync_folder(folder)

    # The run

    def new_part(self, window: str | None) -> Part:
        """The part that comes next in this window."""
        manifest, query = self.manifest, self.manifest.query
        number = 1 + sum(part.window == window for part in manifest.parts)
        name = f"part-{_stem(window)}{number:06d}{suffix(query.format, gzip=query.gzip)}"
        return Part(self.path / name, self.beside / f"{name}{TEMPORARY}", query.format, gzip=query.gzip)

    def commit(self, part: Part | None, place: Place, *, done: int, failed: Iterable[str] = ()) -> None:
        """Let `part` and the contacts that `failed` count, and the next run begin at `place`; `done` more are done.

        Afterwards the part is complete or gone.
        """
        now = self._copy()
        now.place = place
        now.contacts += done
        with self._all_or_nothing():
            self._add_part(now, part, now.window)
            self._add_failures(now, list(failed))
            self._replace(now)

    def failed(self, entry: FailuresEntry) -> list[str]:
        """The contacts of a file of those that failed."""
        content = (self.beside / entry.file).read_bytes()[: entry.bytes]
        return content.decode().splitlines()

    def commit_retried(self, window: str | None, part: Part | None, *, done: int, failed: Iterable[str]) -> None:
        """Let `part` count, and `done` contacts of this window as done that had failed; `failed` are those that are
        left. Afterwards the part is complete or gone."""
        now = self._copy()
        now.contacts += done
        now.failed -= done
        (before,) = [entry for entry in now.failures if entry.window == window]
        left = list(failed)
        with self._all_or_nothing():
            self._add_part(now, part, window)
            if left:
                # Another file, which counts from the moment that the manifest names it.
                name, number = _FAILURES.fullmatch(before.file).groups()  # type: ignore[union-attr]
                content = "".join(f"{contact}\n" for contact in left).encode()
                after = FailuresEntry(f"{name}.{int(number or 1) + 1}.txt", window, len(left), len(content))
                replace_file(self.beside / after.file, content)
                now.failures[now.failures.index(before)] = after
            else:
                now.failures.remove(before)
            self._replace(now)
        with suppress(OSError):
            (self.beside / before.file).unlink()

    def _add_part(self, manifest: Manifest, part: Part | None, window: str | None) -> None:
        if part is not None:
            size = part.complete()
            manifest.parts.append(PartEntry(part.target.name, window, part.contacts, part.rows, size))
            manifest.rows += part.rows

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Remove what was written for a commit that fails."""
        try:
            yield
        except BaseException:
            with suppress(OSError, FolderError):
                self._tidy(self.manifest)
            raise

    def next_window(self, window: str | None, whole: Place) -> None:
        """The current window is complete; `whole` is what its pass over the contacts was. None: all of it is."""
        now = self._copy()
        now.complete = window is None
        now.input = whole
        if window is not None:
            now.window, now.place = window, Place()
        self._replace(now)

    def _copy(self) -> Manifest:
        old = self.manifest
        return evolve(old, parts=[*old.parts], failures=[evolve(entry) for entry in old.failures])

    def _replace(self, manifest: Manifest) -> None:
        replace_file(self.beside / MANIFEST, encode(manifest))
        self.manifest = manifest

    def _add_failures(self, manifest: Manifest, failed: list[str]) -> None:
        if not failed:
            return
        if not manifest.failures or manifest.failures[-1].window != manifest.window:
            name = f"failures{'-' * (manifest.window is not None)}{_stem(manifest.window).rstrip('-')}.txt"
            manifest.failures.append(FailuresEntry(name, manifest.window, 0, 0))
        entry = manifest.failures[-1]
        # Truncated first: what a failed commit left here does not count.
        with open(self.beside / entry.file, "r+b" if entry.bytes else "wb") as file:
            file.truncate(entry.bytes)
            file.seek(entry.bytes)
            file.write("".join(f"{contact}\n" for contact in failed).encode())
            file.flush()
            os.fsync(file.fileno())
            entry.bytes = file.tell()
        entry.contacts += len(failed)
        manifest.failed += len(failed)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of the folder at `path`, if there is one; raises `FolderError`."""
    file = beside(path) / MANIFEST
    try:
        manifest = decode(file.read_bytes())
        gone = manifest.parts and not any((path / part.file).exists() for part in manifest.parts)
    except (FileNotFoundError, NotADirectoryError):
        _check_layout(path)
        return None
    except BadManifest as error:
        raise FolderError(f"{str(file)!r} is not a manifest: {error}; export to another folder") from None
    except (OSError, ValueError) as error:
        raise FolderError(reason(path, error)) from None
    if gone:
        raise FolderError(
            f"the parts of {str(path)!r} are gone, and {str(file.parent)!r} still counts them; put them back, or delete"
            f" {str(file.parent)!r} as well to export again"
        )
    return manifest


def _check_layout(path: Path) -> None:
    """Raise `FolderError` for a folder in which the manifest lies among the parts, as the first versions had it."""
    try:
        ours = [name for name in sorted(os.listdir(path)) if name == MANIFEST or _FAILURES.fullmatch(name)]
    except (OSError, ValueError):
        return
    if MANIFEST in ours:
        there = quote(str(beside(path)))
        raise FolderError(
            f"{str(path)!r} was written by a version that kept {MANIFEST} in it; move that beside it and go on: "
            f"mkdir -p {there} && mv {' '.join(quote(str(path / name)) for name in ours)} {there}"
        )


def _stem(window: str | None) -> str:
    """A window as a part of a file's name: 20260101T000000Z-."""
    return "" if window is None else re.sub(r"\.000(?=Z)|[-:]", "", window) + "-"


def _is_beside(name: str) -> bool:
    """Whether an export gives a file this name in the folder beside that of the parts, but for the manifest."""
    complete = name.removesuffix(TEMPORARY)
    unfinished = complete != name and (complete == MANIFEST or _PART.fullmatch(complete))
    return bool(name.startswith(HELD) or unfinished or _FAILURES.fullmatch(complete))
