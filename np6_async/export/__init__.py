"""Files of events that survive a kill: NDJSON, CSV or Parquet, complete or absent.

::

    async with NP6Client() as np6:
        export = Export(np6, "january", ids, "bounces", start="2026-01-01", end="2026-02-01", format="parquet")
        report = await export.run()
        print(report.done, report.failed, report.parts)

`Export` fetches one stretch of time, once; run again after whatever ended it, it resumes. `SyncWriter` writes what the
runs of a `np6_async.sync.Sync` deliver: in each run what is new. ``np6 export`` and ``np6 sync`` are these two on the
command line. `make_writer` and `ndjson` write the same files without a folder. `COLUMNS` are those of CSV and Parquet.
A folder may be one of an object store, such as ``s3://bucket/january``.

What goes wrong is an `NP6Error`, of which the `ExportError`s are those of the folder; except OSError where the disk or
the store fails.
"""

from .._columns.personal import Personal
from .._columns.schema import COLUMNS, Column
from .._columns.schema import VERSION as COLUMNS_VERSION
from ._counts import Counts
from ._errors import ExportError, FolderError, InputChanged, NoContacts, NoteError, OtherQuery, WorkersLost
from ._executor import Executor, Job
from ._export import Export
from ._only_ids import OnlyIds
from ._report import ExportReport, FailedContacts, read_report
from ._sync_writer import SyncWriter
from ._writers import CsvDialect, Format, Writer, make_writer, ndjson

__all__ = [
    "COLUMNS",
    "COLUMNS_VERSION",
    "Column",
    "Counts",
    "CsvDialect",
    "Executor",
    "Export",
    "ExportError",
    "ExportReport",
    "FailedContacts",
    "FolderError",
    "Format",
    "InputChanged",
    "Job",
    "NoContacts",
    "NoteError",
    "OnlyIds",
    "OtherQuery",
    "Personal",
    "SyncWriter",
    "WorkersLost",
    "Writer",
    "make_writer",
    "ndjson",
    "read_report",
]
