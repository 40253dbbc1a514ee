"""The files that the runs of a sync write into a folder, one after the other.

A part is complete and on the disk, under a hidden name, when the state of the sync records it; then it gets its own
name, and the state records that too. So the state says of each part whether it counts, at whatever instant the process
is killed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from ._errors import NoteError
from ._folder_lock import LockedFolder
from ._formats import Format, suffix
from ._part import Part, sync_folder

_FORM: Final = "np6 sync 1"
_ODD: Final = re.compile(r"[^a-z0-9]+")


@frozen
class Note:
    """What the state records. `tag` is in the hidden names of all parts of its sync.

    `pending`: the part that is complete, by its path, and may not have its name yet.
    """

    tag: str
    pending: str | None = None

    def __str__(self) -> str:
        # As ASCII: a path may hold characters that are not Unicode.
        return f"{_FORM} {json.dumps([self.tag, self.pending])}"

    @classmethod
    def parse(cls, text: str | None) -> Note:
        """The note that `text` is, or that of a new state; raises `NoteError`."""
        if text is None:
            return cls(secrets.token_hex(6))
        form, _, rest = text.rpartition(" [")
        if form == _FORM:
            with suppress(ValueError):
                tag, pending = json.loads(f"[{rest}")
                return cls(tag, pending)
        raise NoteError("belongs to another program that uses np6_async.sync; give another path")


class PartSequence(LockedFolder):
    """The parts in the folder at `path`, whose names begin with `name`.

    Several syncs may share the folder, one at a time. Every method blocks, and raises OSError where the disk does.
    Raises `FolderError`.
    """

    note: Note  # since `recover`

    def __init__(self, path: Path, name: str, format: Format, *, gzip: bool) -> None:
        super().__init__(path)
        self.path = path.absolute()  # the note may be read in another working directory
        self._name = _ODD.sub("-", name)
        self._format: Format = format
        self._gzip = gzip
        self._number = 0

    def recover(self, text: str | None) -> None:
        """Finish what an earlier run was killed in; `text` is the note in its state. Raises `NoteError`."""
        self.note = Note.parse(text)
        if self.note.pending is not None:
            noted = Path(self.note.pending)
            if not any(map(self._finish, (noted, self.path / noted.name))):  # the folder may have been moved
                raise NoteError(
                    f"names the file {str(noted)!r}, which is neither there nor in the folder; put it back (if it was "
                    "loaded already, an empty file of this name will do)"
                )
            self.note = evolve(self.note, pending=None)
        for file in os.listdir(self.path):
            if file.startswith(".") and file.endswith(f".{self.note.tag}.tmp"):
                (self.path / file).unlink()

    def next_part(self, end: str) -> Part:
        """The next part of the run that fetches the events before `end`, an ISO 8601 time."""
        self._number += 1
        stem = re.sub(r"[-:]", "", end)
        target = self.path / f"{self._name}-{stem}-{self._number:06d}{suffix(self._format, gzip=self._gzip)}"
        return Part(target, self._format, gzip=self._gzip, temporary=self._hidden(target))

    def pending(self, part: Part) -> Note:
        """The note that records a complete part before it gets its name."""
        return evolve(self.note, pending=str(part.target))

    def forget(self) -> None:
        """Remove the folder, if it was created and is empty."""
        if self.created:
            with suppress(OSError):  # there is something in it
                self.path.rmdir()

    def _finish(self, target: Path) -> bool:
        """Give the part its name; whether it has it now."""
        with suppress(FileNotFoundError, NotADirectoryError):
            os.replace(self._hidden(target), target)
            sync_folder(target.parent)
        return target.exists()

    def _hidden(self, target: Path) -> Path:
        return target.with_name(f".{target.name}.{self.note.tag}.tmp")
