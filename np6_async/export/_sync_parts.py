"""The files of a sync, and the note by which its state says which of them count.

A part is complete and on the disk, in the folder beside that of the parts, when the state of the sync records it; then
it is renamed into its folder, and the state records that too. So the state says of each part whether it counts, at
whatever instant the process is killed.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from attrs import frozen

from ._errors import FolderError, NoteError
from ._location import storage_of
from ._part import Part, Partition, Sealed, new_part, temporary_name
from ._storage import Location, Opened, Storage
from ._writers import FileFormat

_FORM: Final = "np6 sync 2"
_FORMER: Final = "np6 sync 1"
_ODD: Final = re.compile(r"[^a-z0-9]+")


@frozen
class Note:
    """What the state records. `tag` is in the names of all files of its sync that are not complete.

    `pending`: the name of the part that is complete, and may not be in the folder `place` yet; `many`: of the list that
    is held of its files.
    """

    tag: str
    place: str = ""
    pending: str | None = None
    many: bool = False

    def __str__(self) -> str:
        # As ASCII: a path may hold characters that are not Unicode.
        return f"{_FORM} {json.dumps([self.tag, self.place, self.pending, self.many])}"

    @classmethod
    def parse(cls, text: str | None) -> Note:
        """The note that `text` is, or that of a new state; raises `NoteError`."""
        if text is None:
            return cls(secrets.token_hex(6))
        form, _, rest = text.rpartition(" [")
        if form == _FORM:
            with suppress(ValueError, TypeError):
                return cls(*json.loads(f"[{rest}"))
        if form == _FORMER:
            with suppress(ValueError, TypeError):
                tag, pending = json.loads(f"[{rest}")
                if pending is None:
                    return cls(tag)
                raise NoteError("was left by a killed run of an earlier version; let that version finish it")
        raise NoteError("belongs to another program that uses np6_async.sync; give another path")


def _missing(file: Location) -> NoteError:
    return NoteError(
        f"names the file {str(file)!r}, which is neither there nor in the folder; put it back (if it was loaded "
        "already, an empty file of this name will do)"
    )


def stem(name: str, end: str) -> str:
    """What the names of the files begin with, in a run that fetches the events before `end`, an ISO 8601 time."""
    return f"{_ODD.sub('-', name)}-{re.sub('[-:]', '', end)}"


def held_name(name: str, tag: str) -> str:
    """What a file is called beside the parts, as long as it does not count."""
    return temporary_name(name, f".{tag}")


class PartSequence(Opened):
    """The parts in a folder, whose names begin with `name`.

    Several syncs may share a folder of this machine, one at a time. Every method blocks, and raises OSError where the
    disk or the store does. Raises `FolderError`.
    """

    note: Note  # since `recover`

    def __init__(
        self, storage: Storage, name: str, format: FileFormat, *, partition_by: Sequence[Partition] = ()
    ) -> None:
        self.storage = storage
        self._name = name
        self._format = format
        self._partition_by = partition_by
        self._number = 0
        storage.open()

    def recover(self, text: str | None) -> None:
        """Finish what an earlier run was killed in; `text` is the note in its state. Raises `NoteError`."""
        self.note = Note.parse(text)
        pending = self.note.pending
        if pending is not None:
            noted = storage_of(self.note.place)
            for name in self._listed(noted, pending) if self.note.many else [pending]:
                held = self._held(name)
                # The folders may have been moved.
                if not noted.release(held, name) and not self.storage.release(held, name):
                    raise _missing(noted.part(name))
            self.note = Note(self.note.tag)

    def _listed(self, noted: Storage, pending: str) -> list[str]:
        for storage in (noted, self.storage):
            with suppress(FileNotFoundError):
                names: list[str] = json.loads(storage.read(self._held(pending)))
                return names
        raise _missing(noted.other(self._held(pending)))

    def tidy(self) -> None:
        """Remove what an earlier run has not completed."""
        for name in self.storage.others():
            if name.endswith(self._held("")):
                self.storage.remove_other(name)

    def next_part(self, end: str) -> Part:
        """The next part of the run that fetches the events before `end`, an ISO 8601 time."""
        self._number += 1
        name = self.storage.own(f"{stem(self._name, end)}-{self._number:06d}{self._format.suffix}")
        return new_part(self.storage.scratch, name, self._format, self._partition_by, self._held)

    def hold(self, sealed: Sequence[Sealed]) -> Note:
        """Keep the files for good; the note that records them before they are in the folder."""
        names = [each.name for each in sealed]
        try:
            for each in sealed:
                self.storage.hold(each.file, self._held(each.name))
            return self._noted(names)
        except BaseException:
            with suppress(OSError, FolderError):
                self.drop(names, None)
            raise

    def take(self, names: Sequence[str]) -> Note:
        """The note that records files which workers hold."""
        for name in names:
            if not self.storage.has_other(self._held(name)):
                raise FolderError(
                    f"{self.storage.beside!r} does not have what a worker has written there: all of them and this "
                    "process must see the same folder, such as one of an object store"
                )
        return self._noted(names)

    def release(self, names: Sequence[str]) -> None:
        """Put the files into the folder."""
        for name in names:
            if not self.storage.release(self._held(name), name):
                raise _missing(self.storage.part(name))

    def drop(self, names: Sequence[str], note: Note | None) -> None:
        """Remove files that are held, and the list of them."""
        for name in [*names, note.pending] if note is not None and note.many and note.pending else names:
            self.storage.remove_other(self._held(name))

    def _noted(self, names: Sequence[str]) -> Note:
        if len(names) == 1:
            return Note(self.note.tag, self.storage.where, names[0])
        # A note has no room for all names: they are in a list that is held like a file.
        note = Note(self.note.tag, self.storage.where, f"{names[0].rpartition('/')[2]}.list", many=True)
        try:
            self.storage.write(self._held(note.pending or ""), json.dumps(names).encode())
        except BaseException:
            with suppress(OSError, FolderError):
                self.drop([], note)
            raise
        return note

    def remove(self) -> None:
        """Remove the folder, if it was created and is empty."""
        self.storage.remove()

    def _held(self, name: str) -> str:
        return held_name(name, self.note.tag)
