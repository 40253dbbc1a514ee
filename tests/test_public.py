"""What `import np6_async` offers, name by name: a change here is a change of the public API."""

from __future__ import annotations

import importlib.metadata
import inspect
import pickle

import pytest

import np6_async
import np6_async.blocking
import np6_async.export
import np6_async.report
import np6_async.sync

NAMES = """
APIError ActionStream Actions Activation ActivationDetail AuthError BadRequest Bounce BounceAnalysis BounceCode
BounceDetail BounceStatus BounceSubject Bound BulkError BulkStats BulkStream CampaignEvents Campaigns Cancellation
CancellationDetail CancellationValue ClientClosed Complaint ConfigError ConnectError Contact ContactDone ContactFailed
ContactIds ContactRecord ContactRef Contacts Creation Cursor DecodeError DecodeLimits Detail Done EndpointNotFound Event
EventKind EventList EventStream Events Execution ExecutionDetail Failure FetchFinished FetchStarted Hit Hook Identity
Impression InvalidBound InvalidContact InvalidInput LimitExceeded Link LoggingHook Modification NP6Client NP6Error
NotFound Observation Optout OrderError OutageEnded OutageWait Page Pages ProtocolError ProxyError RateLimitStatus
RateLimitWait RateLimited Reactivities RedList RedListEntries RedListEntry RedListOrigin Reply RequestFinished
RequestStarted Resumed RetryPolicy RetryScheduled Segment Segments ServerError ServiceUnavailable Source Stamp
StoreError StreamInterrupted StreamStats Suppression TLSError Timeout TimeoutExceeded TransportError UnexpectedRedirect
UnknownEvent UsageError Window __version__ structure unstructure
"""

BLOCKING_NAMES = """
ActionStream Actions BulkStream CampaignEvents Campaigns ContactIds Contacts EventStream Events NP6Client Pages
Reactivities RedList RedListEntries Segments
"""

EXPORT_NAMES = """
COLUMNS COLUMNS_VERSION Column Counts CsvDialect Executor Export ExportError ExportReport FailedContacts FolderError
Format InputChanged Job NoContacts NoteError OnlyIds OtherQuery Personal SyncWriter WorkersLost Writer make_writer
ndjson read_report
"""


def test_the_exported_names_are_these() -> None:
    assert np6_async.__all__ == NAMES.split()
    assert sorted(np6_async.__all__) == np6_async.__all__


def test_nothing_public_is_left_out_of_all() -> None:
    public = {
        name for name in vars(np6_async) if not name.startswith("_") and not inspect.ismodule(getattr(np6_async, name))
    }
    assert public <= set(np6_async.__all__)


def test_the_names_of_sync_are_these() -> None:
    assert np6_async.sync.__all__ == ["SQLiteStore", "Store", "Sync", "SyncRun"]


def test_the_names_of_blocking_are_these() -> None:
    assert np6_async.blocking.__all__ == BLOCKING_NAMES.split()
    for name in BLOCKING_NAMES.split():
        cls = getattr(np6_async.blocking, name)
        methods = [value for key, value in vars(cls).items() if not key.startswith("_") and callable(value)]
        assert all(value.__doc__ for value in (cls, *methods))


def test_the_names_of_export_are_these() -> None:
    assert np6_async.export.__all__ == EXPORT_NAMES.split()
    values = {"COLUMNS", "COLUMNS_VERSION", "CsvDialect", "Format", "Personal"}
    assert all(getattr(np6_async.export, name).__doc__ for name in EXPORT_NAMES.split() if name not in values)


def test_the_names_of_report_are_these() -> None:
    assert np6_async.report.__all__ == ["Report", "Totals"]


@pytest.mark.parametrize("name", NAMES.split())
def test_every_public_class_and_function_has_a_docstring(name: str) -> None:
    value = getattr(np6_async, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__


@pytest.mark.parametrize(
    "cls",
    [
        np6_async.NP6Client,
        np6_async.Events,
        np6_async.EventStream,
        np6_async.BulkStream,
        np6_async.Segments,
        np6_async.Contacts,
        np6_async.Campaigns,
        np6_async.CampaignEvents,
        np6_async.RedList,
        np6_async.export.Export,
        np6_async.export.ExportReport,
        np6_async.export.SyncWriter,
        np6_async.export.Writer,
        np6_async.report.Report,
        np6_async.sync.SQLiteStore,
        np6_async.sync.Store,
        np6_async.sync.Sync,
        np6_async.sync.SyncRun,
    ],
)
def test_every_public_method_has_a_docstring(cls: type) -> None:
    for name, value in vars(cls).items():
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            assert value.__doc__, f"{cls.__name__}.{name}"


def test_the_version_is_the_one_that_is_installed() -> None:
    assert np6_async.__version__ == importlib.metadata.version("np6_async")


def test_a_client_is_not_pickled() -> None:
    """Its key must not travel, and its connections cannot."""
    with pytest.raises(TypeError):
        pickle.dumps(np6_async.NP6Client("key"))
