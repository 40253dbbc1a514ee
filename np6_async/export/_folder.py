"""An export in its folder: parts, failed contacts beside them, and the manifest that says which of them count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from shlex import quote
from typing import Final
from urllib.parse import unquote

from attrs import evolve

from ._errors import FolderError, Overtaken
from ._manifest import VERSION, Asked, BadManifest, FailuresEntry, Manifest, PartEntry, Place, Query, decode, encode
from ._part import HELD, HeldFile, HeldPart, Part, Sealed, check_partitions, new_part, temporary_name
from ._storage import MANIFEST, TEMPORARY, Opened, Storage
from ._writers import FileFormat

_PART: Final = re.compile(
    r"((kind|day)=[^/]+/)*part-([0-9TZ.]+-)?[0-9]{6,}(-[0-9a-f]+){0,2}\.(ndjson|csv|parquet)(\.gz)?"
)
_FAILURES: Final = re.compile(r"(failures(?:-[0-9T.]+Z)?)(?:\.([0-9]+))?(?:-[0-9a-f]+)?\.txt")
_FORMERLY_INSIDE: Final = re.compile(rf"{re.escape(MANIFEST)}|{_FAILURES.pattern}|\..+{re.escape(TEMPORARY)}")


class Folder(Opened):
    """What one process at a time exports to. Every method blocks, and raises OSError where the disk or the store does.

    Nothing counts before `commit` has returned: after a kill, at any instant, the next run resumes at the last one.
    `found` is the manifest of the export that the folder holds.
    """

    manifest: Manifest  # of the export that was begun or resumed

    def __init__(self, storage: Storage, format: FileFormat) -> None:
        self.storage = storage
        self.format = format
        storage.open()
        try:
            self.found = read_manifest(storage)
        except BaseException:
            storage.remove()
            storage.close()
            raise

    def begin(self, query: Query, asked: Asked, window: str | None) -> None:
        """Begin a new export, where there is none or nothing of it was committed."""
        storage = self.storage
        if self.found is None:
            foreign = next(filter(_PART.fullmatch, sorted(storage.parts())), None)
            if foreign is not None:
                raise FolderError(
                    f"{storage.place!r} holds {foreign}, and there is no {MANIFEST} in {storage.beside!r}; export to "
                    "another folder"
                )
        self._replace(Manifest(VERSION, query, asked, window))
        self._tidy(self.manifest)

    def resume(self) -> None:
        """Resume the export that was found: remove what was not committed.

        Raises `FolderError` where a file that counts is missing.
        """
        assert self.found is not None
        self.manifest = self.found
        self._check()
        self.storage.claim(self._encoded(self.manifest))
        self._tidy(self.manifest)

    def forget(self) -> None:
        """Leave the folder as if nothing had been begun, where nothing was committed."""
        if self.manifest.blank and not self.storage.unsure:
            self._tidy(self.manifest, own=True)
            self.storage.remove_manifest()
            self.storage.remove()

    def _check(self) -> None:
        """Raise `FolderError` where a file that counts is missing, or another."""
        storage = self.storage
        parts, others = storage.parts(), storage.others()
        entries: list[PartEntry | FailuresEntry] = [*self.manifest.parts, *self.manifest.failures]
        for entry in entries:
            of_failures = isinstance(entry, FailuresEntry)
            found = (others if of_failures else parts).get(entry.file)
            # More failures than were committed are cut off when it is tidied.
            if found is None or (found < entry.bytes if of_failures else found != entry.bytes):
                what = "missing" if found is None else "not as it was written"
                where = storage.other(entry.file) if of_failures else storage.part(entry.file)
                raise FolderError(f"{str(where)!r} is {what}; put it back, or export to another folder")

    def tidy(self) -> None:
        """Remove what this run, with its workers, has written and does not count."""
        self._tidy(self.manifest, own=True)

    def _tidy(self, manifest: Manifest, *, own: bool = False) -> None:
        """Remove what an export wrote and `manifest` does not know; `own`: only what this run wrote."""
        storage = self.storage
        known = {part.file for part in manifest.parts}
        for name in storage.parts():
            if name not in known and _PART.fullmatch(name) and (not own or storage.owns(name)):
                storage.remove_part(name)
        failures = {entry.file: entry.bytes for entry in manifest.failures}
        for name, size in storage.others().items():
            if name in failures:
                if size > failures[name] and storage.appends:
                    storage.extend(name, failures[name], b"")
            elif _is_beside(name) and (not own or storage.owns(name)):
                storage.remove_other(name)

    # The run

    def new_part(self, window: str | None) -> Part:
        """The part that comes next in this window."""
        name = self._next_name(self.manifest, window)
        return new_part(self.storage.scratch, name, self.format, check_partitions(self.manifest.query.partition_by))

    def _next_name(self, manifest: Manifest, window: str | None) -> str:
        number = 1 + sum(part.window == window for part in manifest.parts)
        return self.storage.own(f"part-{_stem(window)}{number:06d}{self.format.suffix}")

    def commit(self, parts: Iterable[Part | HeldPart], place: Place, *, done: int, failed: Iterable[str] = ()) -> None:
        """Let `parts` and the contacts that `failed` count, and the next run begin at `place`; `done` more are done.

        Afterwards each part is complete or gone.
        """
        now = self._copy()
        now.place = place
        now.contacts += done
        with self._all_or_nothing():
            self._add_parts(now, parts, now.window)
            self._add_failures(now, list(failed))
            self._replace(now)

    def failed(self, entry: FailuresEntry) -> list[str]:
        """The contacts of a file of those that failed."""
        return self.storage.read(entry.file)[: entry.bytes].decode().splitlines()

    def commit_retried(
        self, window: str | None, parts: Iterable[Part | HeldPart], *, done: int, failed: Iterable[str]
    ) -> None:
        """Let `parts` count, and `done` contacts of this window as done that had failed; `failed` are those that are
        left. Afterwards each part is complete or gone."""
        now = self._copy()
        now.contacts += done
        now.failed -= done
        (before,) = [entry for entry in now.failures if entry.window == window]
        with self._all_or_nothing():
            self._add_parts(now, parts, window)
            after = self._other_failures(before, list(failed))
            at = now.failures.index(before)
            now.failures[at : at + 1] = [after] if after.contacts else []
            self._replace(now)

    def _add_parts(self, manifest: Manifest, parts: Iterable[Part | HeldPart], window: str | None) -> None:
        for part in parts:
            if isinstance(part, HeldPart):
                self._release(manifest, part, window)
            else:
                self._put(manifest, part, window)

    def _put(self, manifest: Manifest, part: Part, window: str | None) -> None:
        sealed: list[Sealed] = part.seal()
        try:
            while sealed:
                each = sealed[0]
                self.storage.put(each.file, each.name)
                del sealed[0]
                _count(manifest, each.name, window, each)
        finally:
            for each in sealed:  # where that failed
                with suppress(OSError):
                    each.file.unlink()

    def _release(self, manifest: Manifest, part: HeldPart, window: str | None) -> None:
        name = self._next_name(manifest, window)
        for each in part.files:
            folder, _, _ = each.name.rpartition("/")
            full = f"{folder}/{name}" if folder else name
            if not self.storage.release(temporary_name(each.name), full):
                raise FolderError(
                    f"{self.storage.beside!r} does not have what a worker has written there: all of them and this "
                    "process must see the same folder, such as one of an object store"
                )
            _count(manifest, full, window, each)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Remove what was written for a commit that fails, or else what it takes the place of."""
        before = {entry.file for entry in self.manifest.failures}
        try:
            yield
        except BaseException as error:
            with suppress(OSError, FolderError):
                # Of a run that was overtaken, the other one may have read a part in the manifest.
                overtaken = isinstance(error, Overtaken)
                counts = read_manifest(self.storage) if overtaken else None if self.storage.unsure else self.manifest
                if counts is not None:
                    self._tidy(counts, own=True)
            raise
        for file in before - {entry.file for entry in self.manifest.failures}:
            with suppress(OSError):
                self.storage.remove_other(file)

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
        self.storage.write_manifest(self._encoded(manifest))
        self.manifest = manifest

    def _encoded(self, manifest: Manifest) -> bytes:
        manifest.run = self.storage.run
        return encode(manifest)

    def _add_failures(self, manifest: Manifest, failed: list[str]) -> None:
        if not failed:
            return
        manifest.failed += len(failed)
        last = manifest.failures[-1] if manifest.failures else None
        if last is None or last.window != manifest.window:
            name = f"failures{'-' * (manifest.window is not None)}{_stem(manifest.window).rstrip('-')}.txt"
            last = FailuresEntry(self.storage.own(name), manifest.window, 0, 0)
            manifest.failures.append(last)
        elif not self.storage.appends:
            manifest.failures[-1] = self._other_failures(last, [*self.failed(last), *failed])
            return
        content = _lines(failed)
        if self.storage.appends:
            self.storage.extend(last.file, last.bytes, content)  # what a failed commit left there does not count
        else:
            self.storage.write(last.file, content)
        last.bytes += len(content)
        last.contacts += len(failed)

    def _other_failures(self, before: FailuresEntry, failed: list[str]) -> FailuresEntry:
        """A file of these, in place of one that counts: it does so from the moment that the manifest names it."""
        name, number = _FAILURES.fullmatch(before.file).groups()  # type: ignore[union-attr]
        content = _lines(failed)
        after = self.storage.own(f"{name}.{int(number or 1) + 1}.txt")
        if failed:
            self.storage.write(after, content)
        return FailuresEntry(after, before.window, len(failed), len(content))


def _count(manifest: Manifest, name: str, window: str | None, file: Sealed | HeldFile) -> None:
    manifest.parts.append(PartEntry(name, window, file.contacts, file.rows, file.bytes))
    manifest.rows += file.rows


def read_manifest(storage: Storage) -> Manifest | None:
    """The manifest of the folder, if there is one; raises `FolderError`."""
    content = storage.read_manifest()
    if content is None:
        _check_layout(storage)
        return None
    try:
        manifest = decode(content)
    except BadManifest as error:
        file = str(storage.other(MANIFEST))
        raise FolderError(f"{file!r} is not a manifest: {error}; export to another folder") from None
    if manifest.parts and not _there(storage, manifest):
        raise FolderError(
            f"{storage.place!r}: its parts are gone, and {storage.beside!r} still counts them; put them back, or "
            f"delete {storage.beside!r} as well to export again"
        )
    return manifest


def _there(storage: Storage, manifest: Manifest) -> bool:
    """Whether any of the parts is."""
    try:
        if storage.has_part(manifest.parts[0].file):
            return True
        files = storage.parts()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage.failed(error) from None
    return any(part.file in files for part in manifest.parts)


def _check_layout(storage: Storage) -> None:
    """Raise `FolderError` for a folder in which the manifest lies among the parts, as the first versions had it."""
    try:
        ours = [name for name in sorted(storage.parts()) if _FORMERLY_INSIDE.fullmatch(name)]
    except (OSError, ValueError):
        return
    if MANIFEST in ours:
        there = quote(storage.beside)
        raise FolderError(
            f"{storage.place!r} was written by a version that kept {MANIFEST} in it; move that beside it and go on: "
            f"mkdir -p {there} && mv {' '.join(quote(str(storage.part(name))) for name in ours)} {there}"
        )


def _lines(contacts: list[str]) -> bytes:
    return "".join(f"{contact}\n" for contact in contacts).encode()


def _stem(window: str | None) -> str:
    """A window as a part of a file's name: 20260101T000000Z-."""
    return "" if window is None else re.sub(r"\.000(?=Z)|[-:]", "", window) + "-"


def _is_beside(name: str) -> bool:
    """Whether an export gives a file this name in the folder beside that of the parts, but for the manifest."""
    complete = name.removesuffix(TEMPORARY)
    unfinished = complete != name and (complete == MANIFEST or _PART.fullmatch(unquote(complete)))
    return bool(name.startswith(HELD) or unfinished or _FAILURES.fullmatch(complete))
