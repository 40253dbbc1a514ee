"""Folders in an object store: what a name means, and that nothing is lost or there twice whatever call fails.

The store is in memory, and fails where it is told to; `tests/lake` has a real one.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import exported
from support.executors import Threads
from support.memory_store import Gone, MemoryStore

from np6_async import InvalidInput, NP6Client
from np6_async.export import Export, ExportError, ExportReport, FolderError, SyncWriter, _location, read_report
from np6_async.export._location import storage_of
from np6_async.export._storage import LocalStorage
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6

URL = "s3://lake/events/january"
PARTS, BESIDE = "lake/events/january", "lake/events/january.np6"
CONTACTS = 6


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    with FakeNP6(CONTACTS, (1, 5)) as running:
        monkeypatch.setenv("NP6_API_KEY", running.api_key)  # that of workers
        yield running


@pytest.fixture
async def np6(server: FakeNP6) -> Any:
    async with server.client() as client:
        yield client


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryStore:
    made = MemoryStore()
    made.use(monkeypatch)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return made


# Names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ftp://host/january", "ftp://; use s3://, gs://, abfs://, az:// or file://, or a path"),
        ("http://host/january", "http://; use"),
        ("s3:///january", "names no bucket; use s3://BUCKET/FOLDER"),
        ("s3://", "names no bucket"),
        ("gs://lake", "is a whole bucket; name a folder in it: gs://lake/FOLDER"),
        ("abfs://container@account.dfs.core.windows.net/", "is a whole bucket"),
        ("s3://lake//january", "is not the name of a folder"),
        ("s3://lake/../january", "is not the name of a folder"),
        ("s3://lake/january.np6", "is not the name of a folder"),
        ("s3:/lake/january", "is half a URL"),
        (Path("s3://lake/january"), "is half a URL"),
        ("file://elsewhere/data/january", "is not the URL of a folder of this machine"),
        ("file://", "is not the URL of a folder of this machine"),
    ],
)
@pytest.mark.usefixtures("store")
async def test_a_name_that_means_nothing_is_refused(name: Any, said: str, np6: NP6Client) -> None:
    """Before any I/O."""
    calls: list[Callable[[], object]] = [lambda: Export(np6, name, ["A"]), lambda: SyncWriter(name)]
    for call in [*calls, lambda: read_report(name)]:
        with pytest.raises(InvalidInput) as caught:
            call()
        assert said in str(caught.value)


@pytest.mark.parametrize("name", ["s3://KEY:CANARY@lake/january", "abfs://c/january?sig=CANARY", "gs://CANARY@lake/j"])
@pytest.mark.usefixtures("store")
def test_credentials_in_a_name_are_refused_and_not_shown(name: str) -> None:
    with pytest.raises(InvalidInput, match="has neither credentials nor a query") as caught:
        storage_of(name)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs"), ("abfs", "azure"), ("az", "azure")])
def test_what_is_not_installed_is_named(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_location, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=rf"pip install 'np6_async\[{extra}\]'"):
        storage_of(f"{scheme}://lake/january")


def test_file_urls_and_paths_are_folders_of_this_machine(tmp_path: Path) -> None:
    for name in (f"file://{tmp_path}/a%20b", f"FILE://localhost{tmp_path}/a%20b", tmp_path / "a b", f"{tmp_path}/a b"):
        storage = storage_of(name)
        assert isinstance(storage, LocalStorage)
        assert storage.path == tmp_path / "a b"


# What is where


async def test_an_export_leaves_parts_alone_in_the_folder(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, tmp_path: Path
) -> None:
    """Beside it one manifest and the contacts that failed, and nothing on this machine. No call is made by the thread
    of the event loop."""
    ids = ["NOBODY", *server.contact_ids, "NOONE"]
    report = await Export(np6, URL, ids, part_bytes=1, concurrency=1).run()
    assert store.events(PARTS, tmp_path) == exported.truth(server, server.contact_ids)
    assert [f"{PARTS}/{name}" for name in store.names(PARTS)] == sorted(
        str(part).removeprefix("s3://") for part in report.parts
    )
    manifest, failures = sorted(store.names(BESIDE), reverse=True)
    assert (manifest[:9], failures[:8]) == ("manifest-", "failures")
    (failed,) = report.failures
    assert failed.file == f"s3://{BESIDE}/{failures}"
    assert store.objects[f"{BESIDE}/{failures}"] == b"NOBODY\nNOONE\n"
    assert await asyncio.to_thread(read_report, URL) == report
    assert os.listdir(tmp_path / "scratch") == []
    assert threading.main_thread() not in store.threads


async def test_contacts_that_failed_are_taken_up_again(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, tmp_path: Path
) -> None:
    ids = [*server.contact_ids, "LATER"]
    assert (await Export(np6, URL, ids, every="52w", start="2025-01-01", end="2026-06-01").run()).failed == 2
    server.add_contact("LATER", server.events(server.contact_ids[0]))
    report = await Export(np6, URL, ids, every="52w", start="2025-01-01", end="2026-06-01").run(retry_failed=True)
    assert (report.complete, report.failed, report.failures) == (True, 0, [])
    assert len(store.names(BESIDE)) == 1
    assert report.events == store.events(PARTS, tmp_path).total() > 0


async def test_what_came_to_nothing_is_forgotten(np6: NP6Client, store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        await Export(np6, URL, []).run()
    assert store.objects == {}
    assert os.listdir(tmp_path / "scratch") == []


async def test_parts_that_are_gone_are_missed(np6: NP6Client, server: FakeNP6, store: MemoryStore) -> None:
    await Export(np6, URL, server.contact_ids).run()
    for name in store.names(PARTS):
        del store.objects[f"{PARTS}/{name}"]
    with pytest.raises(FolderError, match=r"are gone, and 's3://lake/events/january\.np6' still counts them"):
        await Export(np6, URL, server.contact_ids).run()


# Failures and kills


async def exported_once(np6: NP6Client, server: FakeNP6, **options: Any) -> ExportReport:
    return await Export(np6, URL, [*server.contact_ids, "NOBODY"], part_bytes=200, concurrency=2, **options).run()


async def synced_once(np6: NP6Client, server: FakeNP6, state: Path, **options: Any) -> None:
    sync = Sync(np6, SQLiteStore(state), server.contact_ids)
    async with sync.run(autocommit=False) as run:
        await SyncWriter(URL, part_bytes=200, **options).write(run)


@pytest.mark.slow
@pytest.mark.parametrize("partition_by", [(), ("kind",)])
@pytest.mark.parametrize("moment", ["before", "after", "killed"])
@pytest.mark.parametrize("what", ["export", "sync", "sync by a worker"])
async def test_whatever_call_fails_the_next_run_makes_it_whole(
    what: str, moment: str, partition_by: Any, np6: NP6Client, server: FakeNP6, store: MemoryStore, tmp_path: Path
) -> None:
    """Each of them once: without effect, with its effect and the response lost, and as the last of a killed process."""

    async def run() -> None:
        if what == "export":
            await exported_once(np6, server, partition_by=partition_by)
        else:
            # One at a time: nobody writes on when the run was killed.
            executor = Threads(1) if what == "sync by a worker" else None
            await synced_once(np6, server, tmp_path / "state.db", partition_by=partition_by, executor=executor)

    truth = exported.truth(server, server.contact_ids)
    await run()
    whole, number, failed = store.calls, 0, 0
    said: list[str] = []
    assert whole > 10
    while number < whole:
        number += 1
        store.objects.clear()
        (tmp_path / "state.db").unlink(missing_ok=True)
        store.calls = 0

        def fail(call: int, when: str, number: int = number) -> None:
            if moment == "killed" and (call > number or (call == number and when == "after")):
                raise Gone
            if call == number and when == moment:
                raise OSError("CANARY")

        store.fail = fail
        try:
            await run()
        except (Gone, OSError, FolderError) as error:
            failed += 1
            said.append(str(error))
        store.fail = lambda call, when: None
        assert not store.events(PARTS, tmp_path) - truth
        await run()
        assert store.events(PARTS, tmp_path) == truth, (moment, number)
        assert len(store.names(BESIDE)) == (2 if what == "export" else 0)
    assert failed > whole // 3
    assert "CANARY" not in " ".join(said)


async def test_the_run_that_began_last_has_the_folder(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, tmp_path: Path
) -> None:
    """The one before ends at its next commit, with an error that says so, and takes nothing away that counts."""
    second: list[asyncio.Task[ExportReport]] = []
    options: dict[str, Any] = {"part_bytes": 1, "end": "2026-06-01T00:00Z"}

    async def overtaking() -> Any:
        for number, contact in enumerate(server.contact_ids):
            if number == 4:
                second.append(asyncio.create_task(Export(np6, URL, server.contact_ids, **options).run()))
                await asyncio.wait(second)
            yield contact

    first = Export(np6, URL, overtaking(), concurrency=1, **options)
    with pytest.raises(FolderError, match="another run has begun to write to 's3://lake/events/january' after this"):
        await first.run()
    report = await second[0]
    assert report.complete
    assert await asyncio.to_thread(read_report, URL) == report
    assert store.events(PARTS, tmp_path) == exported.truth(server, server.contact_ids)


async def test_a_commit_that_comes_late_leaves_nothing(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, tmp_path: Path
) -> None:
    """Another run begins and completes between a part and its manifest, and has removed the one of the number that the
    first run then creates: its part is not in the folder afterwards."""
    options: dict[str, Any] = {"part_bytes": 1, "end": "2026-06-01T00:00Z"}

    async def other() -> None:
        async with server.client() as client:
            assert (await Export(client, URL, server.contact_ids, **options).run()).complete

    def fail(call: int, when: str) -> None:
        if "manifest-00000003" in "".join(store.paths):
            store.fail = lambda call, when: None
            asyncio.run(other())

    store.fail = fail
    with pytest.raises(FolderError, match="another run has begun"):
        await Export(np6, URL, server.contact_ids, concurrency=1, **options).run()
    assert store.events(PARTS, tmp_path) == exported.truth(server, server.contact_ids)


async def test_two_syncs_may_share_a_folder(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, tmp_path: Path
) -> None:
    """At the same time as well: no file has the name of another."""
    await asyncio.gather(*(synced_once(np6, server, tmp_path / f"{number}.db") for number in range(3)))
    once = exported.truth(server, server.contact_ids)
    assert store.events(PARTS, tmp_path) == once + once + once
    assert store.names(BESIDE) == []


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
async def test_what_a_killed_run_has_left_on_this_machine_is_removed(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, tmp_path: Path
) -> None:
    """And not that of one which goes on."""
    left = tmp_path / "scratch" / "np6-scratch-left"
    left.mkdir()
    (left / "part-000001.ndjson.tmp").write_text("personal data")
    going_on = storage_of("s3://lake/other")
    going_on.open()
    await Export(np6, URL, server.contact_ids).run()
    assert os.listdir(tmp_path / "scratch") == [going_on.scratch.name]
    going_on.close()
    assert os.listdir(tmp_path / "scratch") == []


# Errors


def named(name: str, **members: Any) -> Exception:
    error = type(name, (Exception,), {})("CANARY")
    for member, value in members.items():
        setattr(error, member, value)
    return error


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


DENIED = named("ClientError", response={"Error": {"Code": "SignatureDoesNotMatch", "Message": "CANARY"}})
SAID: list[tuple[Exception, type[Exception], str]] = [
    (named("NoCredentialsError"), FolderError, "no usable credentials (NoCredentialsError): set AWS_ACCESS_KEY_ID"),
    (ValueError("CANARY"), FolderError, "no usable credentials (ValueError)"),
    (named("ProfileNotFound"), FolderError, "no usable credentials (ProfileNotFound)"),
    (PermissionError("CANARY"), FolderError, "access is denied (PermissionError): the credentials must be valid"),
    (caused(PermissionError("CANARY"), DENIED), FolderError, "access is denied (SignatureDoesNotMatch)"),
    (OSError("Forbidden: CANARY"), FolderError, "access is denied"),
    (named("HttpError", code=401), FolderError, "access is denied (HttpError)"),
    (named("HttpResponseError", status_code=403), FolderError, "access is denied (HttpResponseError)"),
    (named("EndpointConnectionError"), OSError, "the object store failed (EndpointConnectionError)"),
    (OSError(5, "CANARY"), OSError, "the object store failed (OSError)"),
]


@pytest.mark.parametrize(("error", "type", "said"), SAID, ids=lambda value: getattr(value, "__name__", None))
async def test_what_the_store_refuses_is_said_in_one_line(
    error: Exception, type: Any, said: str, np6: NP6Client, server: FakeNP6, store: MemoryStore, tmp_path: Path
) -> None:
    """Before anything is requested, and without what the store has said."""

    def fail(call: int, when: str) -> None:
        raise error

    store.fail = fail
    for run in (exported_once(np6, server), synced_once(np6, server, tmp_path / "state.db")):
        with pytest.raises(type) as caught:
            await run
        assert said in str(caught.value)
        assert "CANARY" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    assert server.request_count == 0


async def test_a_bucket_that_is_not_there_is_named(
    np6: NP6Client, server: FakeNP6, store: MemoryStore, tmp_path: Path
) -> None:
    store.buckets.clear()
    for run in (exported_once(np6, server), synced_once(np6, server, tmp_path / "state.db")):
        with pytest.raises(FolderError, match="there is no such bucket or container; create it first"):
            await run
    assert server.request_count == 0


def test_nothing_of_a_store_is_imported_before_it_is_used() -> None:
    code = "import sys, np6_async.export, np6_async.cli; print('fsspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"
