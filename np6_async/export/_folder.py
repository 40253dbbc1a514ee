"""The folder of an export: parts, failed contacts, and the manifest that says which of them count."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attrs import evolve

from ._disk import LockedFolder, reason
from ._errors import FolderError
from ._manifest import VERSION, Asked, BadManifest, FailuresEntry, Manifest, PartEntry, Place, Query, decode, encode
from ._part import Part, replace_file, sync_folder
from ._writers import suffix

MANIFEST: Final = "manifest.json"
HELD: Final = ".held-"  # begins the name of a file that should have none, on systems where it must have one
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
            self.close()
            raise

    def begin(self, query: Query, asked: Asked, window: str | None) -> None:
        """Begin a new export, where there is none or nothing of it was committed."""
        manifest = Manifest(VERSION, query, asked, window)
        if self.found is None:
            foreign = next((name for name in sorted(os.listdir(self.path)) if _is_ours(name, hidden=False)), None)
            if foreign is not None:
                raise FolderError(f"{str(self.path)!r} holds {foreign} and no {MANIFEST}; export to another folder")
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
            (self.path / MANIFEST).unlink(missing_ok=True)
            if self.created:
                self.path.rmdir()

    def _tidy(self, manifest: Manifest) -> None:
        """Remove what an export wrote and `manifest` does not know."""
        names = set(os.listdir(self.path))
        sizes = {part.file: part.bytes for part in manifest.parts}
        failures = {entry.file: entry.bytes for entry in manifest.failures}
        for name, size in (sizes | failures).items():
            there = (self.path / name).stat().st_size if name in names else None
            # More failures than were committed are cut off below.
            if there is None or (there < size if name in failures else there != size):
                what = "missing" if there is None else "not as it was written"
                raise FolderError(f"{str(self.path / name)!r} is {what}; put it back, or export to another folder")
        for name in names - set(sizes):
            if name in failures:
                os.truncate(self.path / name, failures[name])
            elif _is_ours(name):
                (self.path / name).unlink()
        sync_folder(self.path)

    # The run

    def new_part(self, window: str | None) -> Part:
        """The part that comes next in this window."""
        manifest, query = self.manifest, self.manifest.query
        number = 1 + sum(part.window == window for part in manifest.parts)
        name = f"part-{_stem(window)}{number:06d}{suffix(query.format, gzip=query.gzip)}"
        return Part(self.path / name, query.format, gzip=query.gzip)

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
        content = (self.path / entry.file).read_bytes()[: entry.bytes]
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
                replace_file(self.path / after.file, content)
                now.failures[now.failures.index(before)] = after
            else:
                now.failures.remove(before)
            self._replace(now)
        with suppress(OSError):
            (self.path / before.file).unlink()

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
        replace_file(self.path / MANIFEST, encode(manifest))
        self.manifest = manifest

    def _add_failures(self, manifest: Manifest, failed: list[str]) -> None:
        if not failed:
            return
        if not manifest.failures or manifest.failures[-1].window != manifest.window:
            name = f"failures{'-' * (manifest.window is not None)}{_stem(manifest.window).rstrip('-')}.txt"
            manifest.failures.append(FailuresEntry(name, manifest.window, 0, 0))
        entry = manifest.failures[-1]
        # Truncated first: what a failed commit left here does not count.
        with open(self.path / entry.file, "r+b" if entry.bytes else "wb") as file:
            file.truncate(entry.bytes)
            file.seek(entry.bytes)
            file.write("".join(f"{contact}\n" for contact in failed).encode())
            file.flush()
            os.fsync(file.fileno())
            entry.bytes = file.tell()
        entry.contacts += len(failed)
        manifest.failed += len(failed)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in the folder at `path`, if there is one; raises `FolderError`."""
    try:
        return decode((path / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except BadManifest as error:
        raise FolderError(f"{str(path / MANIFEST)!r} is not a manifest: {error}; export to another folder") from None
    except (OSError, ValueError) as error:
        raise FolderError(reason(path, error)) from None


def _stem(window: str | None) -> str:
    """A window as a part of a file's name: 20260101T000000Z-."""
    return "" if window is None else re.sub(r"\.000(?=Z)|[-:]", "", window) + "-"


def _is_ours(name: str, *, hidden: bool = True) -> bool:
    """Whether an export gives a file this name once it is complete or, where `hidden`, before."""
    if name.startswith("."):
        visible = name[1:].removesuffix(".tmp")
        return hidden and (name.startswith(HELD) or visible == MANIFEST or _is_ours(visible, hidden=False))
    return bool(_PART.fullmatch(name) or _FAILURES.fullmatch(name))
