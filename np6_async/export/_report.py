"""What counts in the folder of an export."""

from __future__ import annotations

import os

from attrs import Factory, frozen

from ._folder import read_manifest
from ._location import storage_of
from ._manifest import Manifest
from ._storage import Location, Storage


@frozen
class FailedContacts:
    """A file of contacts that failed, one a line: export them once more into another folder.

    `start` and `end` are the bounds for which they failed, as ISO 8601 texts.
    """

    file: Location
    contacts: int
    start: str | None
    end: str


@frozen
class ExportReport:
    """What counts in the folder of an export: whatever was committed by this run and by those before.

    `done` and `failed` count contacts, once for each window of `every`, and none for actions; `events` are those in
    `parts`, which are paths, or URLs as texts in an object store. `invalid` counts what this run was given that is not
    a contact, `unnamed` the events that it left out because of `only` and because they do not name their contact by
    its id; these are in no file. `complete`: all contacts are done or failed.
    """

    complete: bool
    done: int
    failed: int
    events: int
    parts: list[Location]
    failures: list[FailedContacts] = Factory(list)
    invalid: int = 0
    unnamed: int = 0

    @property
    def begun(self) -> bool:
        """Whether anything was committed."""
        return self.complete or bool(self.parts) or self.done + self.failed > 0


def read_report(folder: str | os.PathLike[str]) -> ExportReport | None:
    """What counts in this folder, at any time, also while an export runs; None where there is no export.

    It blocks: of an object store, call it in a thread. Raises `FolderError` where that cannot be read, and OSError
    where the store fails.
    """
    storage = storage_of(folder)
    manifest = read_manifest(storage)
    return None if manifest is None else report_of(storage, manifest)


def report_of(storage: Storage, manifest: Manifest) -> ExportReport:
    """What counts by this manifest."""
    query = manifest.query
    failures = [
        FailedContacts(
            storage.other(entry.file),
            entry.contacts,
            entry.window or query.start,
            query.following(entry.window) or query.end,
        )
        for entry in manifest.failures
    ]
    return ExportReport(
        complete=manifest.complete,
        done=manifest.contacts,
        failed=manifest.failed,
        events=manifest.rows,
        parts=[storage.part(part.file) for part in manifest.parts],
        failures=failures,
    )
