"""The errors of a folder of events, below `NP6Error`."""

from __future__ import annotations

from .._errors import NP6Error


class ExportError(NP6Error):
    """The root of what can go wrong with a folder of events, but for an OSError of its disk."""


class FolderError(ExportError):
    """The folder cannot be used: it is in use by another process, holds something else, is damaged, or is read-only.

    Of an object store: there is no such bucket, or credentials are missing or not accepted.
    """


class Overtaken(FolderError):
    """Another run has committed since this one last did: this one ends, or reads again where it was about to begin."""


class OtherQuery(FolderError):
    """The folder holds an export with other arguments.

    `name` is the first argument that differs, `found` its value in the folder and `given` the one passed now: bounds
    as ISO 8601 texts, `every` as a timedelta.
    """

    name: str
    found: object
    given: object


class InputChanged(ExportError):
    """The contacts are not those that the export began with, in the same order."""


class NoContacts(ExportError):
    """There is no contact to export."""


class NoteError(ExportError):
    """The state of a sync was written by another program, or names a file that is missing."""


class WorkersLost(ExportError):
    """The processes that were to fetch cannot be reached, or die. What was committed counts; run again to resume."""
