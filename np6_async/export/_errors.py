"""The errors of a folder of events, below `NP6Error`."""

from __future__ import annotations

from typing import Final

from .._errors import NP6Error, ServerError, TransportError

# When this many contacts in a row have failed because no server could be reached, the others are left to a later run.
OUTAGE: Final = 100


class ExportError(NP6Error):
    """The root of what can go wrong with a folder of events, but for an OSError of its disk."""


class FolderError(ExportError):
    """The folder cannot be used: it is in use by another process, holds something else, is damaged, or is read-only."""


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


class Outage(ExportError):
    """One contact after another failed because no server could be reached. They do not count as failed."""


def is_outage(error: NP6Error) -> bool:
    """Whether no server could be reached that knows the contact."""
    return isinstance(error, TransportError) or (isinstance(error, ServerError) and error.status in (502, 503, 504))
