"""The parts that the runs of a sync write into a folder, one after the other.

A part is complete and on the disk, under a hidden name, when the state of the sync takes note of it; then it gets its
own. So the state says of each part whether it counts, at whatever instant the process is killed.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

from ._formats import FormatName, suffix
from ._locked import LockedFolder
from ._part import Part, sync_folder

_ODD: Final = re.compile(r"[^a-z0-9]+")


class Series:
    """A series in the folder at `path`, of the sync whose state is in the file `state`, of events of `kind`.

    Several syncs may share the folder, one at a time. Every method blocks, and raises OSError where the disk does.
    Raises `BadFolder`.
    """

    def __init__(self, path: Path, state: Path, kind: str, format: FormatName, *, gzip: bool) -> None:
        self._path = path.absolute()
        self._locked = LockedFolder(path)
        # In hidden names: what another sync has not put in its place yet is that one's business.
        self._tag = blake2b(os.fsencode(state.absolute()), digest_size=6).hexdigest()
        self._kind = _ODD.sub("-", kind)
        self._format: FormatName = format
        self._gzip = gzip
        self._number = 0

    def recover(self, note: str | None) -> None:
        """Finish what a run before was killed in; `note` is the part that its state took note of last."""
        if note is not None:
            noted = Path(note)
            for target in (noted, self._path / noted.name):  # the folder may have been moved
                with suppress(FileNotFoundError):
                    os.replace(self._hidden(target), target)
                    sync_folder(target.parent)
        for name in os.listdir(self._path):
            if name.startswith(".") and name.endswith(f".{self._tag}.tmp"):
                (self._path / name).unlink()

    def next_part(self, end: str) -> Part:
        """The next part of the run that asks for the events before `end`, an ISO 8601 time."""
        self._number += 1
        stem = re.sub(r"[-:]", "", end)
        target = self._path / f"{self._kind}-{stem}-{self._number:06d}{suffix(self._format, gzip=self._gzip)}"
        return Part(target, self._format, gzip=self._gzip, temporary=self._hidden(target))

    def close(self) -> None:
        """Let other processes in."""
        self._locked.close()

    def _hidden(self, target: Path) -> Path:
        return target.with_name(f".{target.name}.{self._tag}.tmp")
