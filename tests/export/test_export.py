"""`Export` and `SyncWriter` as a program uses them. What every format and signal does is tested with the command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support import exported, synced

from np6_async import (
    AuthError,
    Contact,
    Failure,
    InvalidContact,
    InvalidInput,
    NP6Client,
    NP6Error,
    RetryPolicy,
    ServiceUnavailable,
)
from np6_async.export import (
    Counts,
    Export,
    ExportError,
    FolderError,
    InputChanged,
    NoContacts,
    NoteError,
    OtherQuery,
    SyncWriter,
    make_writer,
    read_report,
)
from np6_async.export._storage import LocalStorage
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6, Fault, make_event

SPAN = {"start": "2025-01-01", "end": "2026-06-01"}


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(40, (0, 12)) as running:
        yield running


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client() as client:
        yield client


async def test_an_export_in_one_call(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    """The report counts what the folder holds, and so does `read_report`, at any time."""
    assert read_report(tmp_path / "out") is None
    progress: list[Counts] = []
    export = Export(np6, tmp_path / "out", server.contact_ids, format="parquet", on_progress=progress.append)
    report = await export.run()
    truth = exported.truth(server, server.contact_ids)
    assert exported.events(tmp_path / "out") == truth
    assert (report.complete, report.done, report.failed, report.events) == (True, 40, 0, truth.total())
    assert report.parts == exported.files(tmp_path / "out")
    assert report == export.report == read_report(tmp_path / "out")
    assert len(progress) == 40
    assert progress[-1] == Counts(40, 0, truth.total())


@pytest.mark.parametrize("end", ["error", "cancellation", "stop"])
async def test_the_next_run_resumes_whatever_ended_one(
    end: str, np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    """With what was done committed, and a relative bound that means the same time."""

    def make(*, hang: bool = False) -> Export:
        def progress(counts: Counts) -> None:
            if hang and counts.done == 20:
                match end:
                    case "error":
                        raise ZeroDivisionError
                    case "cancellation":
                        running.cancel()
                    case "stop":
                        export.stop()

        start = timedelta(days=4000) if not hang else timedelta(hours=4000 * 24)
        export = Export(np6, tmp_path, server.contact_ids, start=start, concurrency=1, on_progress=progress)
        return export

    running = asyncio.ensure_future(make(hang=True).run())
    with suppress(ZeroDivisionError, asyncio.CancelledError):
        assert not (await running).complete
    exported.check_whole(tmp_path)
    report = read_report(tmp_path)
    assert report is not None
    assert report.begun
    assert 20 <= report.done <= 22
    server.reset()
    assert (await make().run()).complete
    assert server.request_count == 40 - report.done
    assert exported.events(tmp_path) == exported.truth(server, server.contact_ids)


async def test_contacts_come_in_any_form(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    """As texts or contacts, the same object twice, from a generator; what is not a contact is reported."""
    one = Contact.by_unicity(server.unicity(server.contact_ids[1]))
    two = server.unicity(server.contact_ids[2])
    failures: list[Failure] = []

    def given() -> Iterator[Any]:
        yield from (one, two, one, "", 7)

    export = Export(np6, tmp_path, given(), by="unicity", on_failure=failures.append)
    report = await export.run()
    assert (report.done, report.failed, report.invalid) == (3, 0, 2)
    assert all(isinstance(failure.error, InvalidContact) for failure in failures)
    names = exported.events(tmp_path)
    once = server.events(server.contact_ids[1])
    assert sum(count for key, count in names.items() if key[0] == one.value) == 2 * len(once)
    assert {key[0] for key in names} <= {one.value, two}
    assert (
        await Export(np6, tmp_path, given(), by="unicity").run()
        == await Export(np6, tmp_path, [one, two, one], by="unicity").run()
    )


async def test_contacts_of_another_kind_end_the_run(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="by unicity is among"):
        await Export(np6, tmp_path, [server.contact_ids[0], Contact.by_unicity("a@b")]).run()


async def test_failures_are_in_a_file_with_their_bounds(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    failures: list[Failure] = []
    ids = [*server.contact_ids, "NOBODY"]
    export = Export(np6, tmp_path, ids, every=timedelta(weeks=40), on_failure=failures.append, **SPAN)
    assert export.windows == 2
    report = await export.run()
    assert (report.done, report.failed, len(failures)) == (80, 2, 2)
    assert [failed.file.read_text() for failed in report.failures] == ["NOBODY\n"] * 2
    first, second = report.failures
    assert (first.start, first.end) == ("2025-01-01T00:00:00.000Z", "2025-10-08T00:00:00.000Z")
    assert (second.start, second.end, second.contacts) == (first.end, "2026-06-01T00:00:00.000Z", 1)


async def test_what_a_folder_is_refused_for(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    """Each by its own error, all of them an `ExportError` and an `NP6Error`."""
    ids = server.contact_ids
    await Export(np6, tmp_path / "out", ids, "hits", **SPAN).run()
    requests = server.request_count
    with pytest.raises(OtherQuery, match="begun with kind='hits', not 'bounces'") as other:
        await Export(np6, tmp_path / "out", ids, "bounces", **SPAN).run()
    assert (other.value.name, other.value.found, other.value.given) == ("kind", "hits", "bounces")
    with pytest.raises(OtherQuery, match=r"every=None, not datetime.timedelta\(days=7\)"):
        await Export(np6, tmp_path / "out", ids, "hits", every=timedelta(weeks=1), **SPAN).run()
    with pytest.raises(FolderError, match="holds an export already"):
        await Export(np6, tmp_path / "out", ids, "hits", **SPAN).run(resume=False)
    with pytest.raises(InputChanged, match="there are 39 and not the 40"):
        await Export(np6, tmp_path / "out", ids[:39], "hits", **SPAN).run()
    with pytest.raises(NoContacts):
        await Export(np6, tmp_path / "none", []).run()
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="is not a folder"):
        await Export(np6, tmp_path / "file" / "out", ids).run()
    assert server.request_count == requests
    assert issubclass(FolderError, ExportError)
    assert issubclass(ExportError, NP6Error)


async def test_an_error_for_all_contacts_leaves_nothing(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    server.script(Fault.status(401), times=None)
    export = Export(np6, tmp_path / "out", server.contact_ids)
    with pytest.raises(AuthError):
        await export.run()
    assert not (tmp_path / "out").exists()
    assert export.report is not None
    assert not export.report.begun


async def test_those_that_fail_again_stay_failed_whatever_the_window_is_called(
    server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    """Windows may begin at a fraction of a second: their failures are retried, too, and more than once."""
    ids = list(server.contact_ids)[:3]
    for contact, times in ((ids[0], 1), (ids[1], 2), (ids[2], 3)):
        server.script(Fault.status(400), contact=contact, times=times)
    options: Any = {"start": "2026-01-01T00:00:00.500Z", "end": "2026-01-02", "every": timedelta(days=1)}
    for failed in (3, 2, 1, 0):
        report = await Export(np6, tmp_path, ids, **options).run(retry_failed=True)
        assert (report.complete, report.failed, report.done) == (True, failed, 3 - failed)
        assert [entry.contacts for entry in report.failures] == [failed] * (failed > 0)


async def test_an_outage_is_one_error(server: FakeNP6, tmp_path: Path) -> None:
    """After which no contact has failed, and those that were done count."""
    server.script(Fault.status(502), times=None, skip=5)
    async with server.client(retry=RetryPolicy(base_delay=0, outage=0)) as np6:
        with pytest.raises(ServiceUnavailable):
            await Export(np6, tmp_path, server.contact_ids, concurrency=1).run()
    report = read_report(tmp_path)
    assert report is not None
    assert (report.done, report.failed) == (5, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"format": "xml"}, "format='xml' is not known"),
        ({"format": "parquet", "gzip": True}, "compressed already"),
        ({"part_bytes": 0}, "part_bytes must be"),
        ({"part_seconds": 0}, "part_seconds a number above 0"),
        ({"by": "name"}, "by='name' is not known"),
        ({"contacts": 7}, "must be a contact or an iterable of them, not int"),
        ({"start": "soon"}, "start='soon' is not an ISO 8601"),
        ({"kind": "opens"}, "opens"),
        ({"classification": "mpp"}, "goes with the kinds of hits"),
        ({"missing": "skip"}, "missing='skip' is not known"),
        ({"concurrency": 0}, "concurrency"),
        ({"every": timedelta(days=1)}, "every= needs start="),
        ({"every": timedelta(), "start": "2026-01-01"}, "of a millisecond or more"),
        ({"every": timedelta(seconds=1), "start": "2026-01-01"}, "windows of this time"),
        ({"every": timedelta(days=1), "start": "2026-01-01", "contacts": iter(())}, "iterator"),
    ],
)
async def test_bad_arguments_are_refused_before_any_io(
    arguments: dict[str, Any], words: str, np6: NP6Client, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=words):
        Export(np6, tmp_path / "out", **{"contacts": ["A"], **arguments})
    assert os.listdir(tmp_path) == []


async def test_windows_of_the_calendar_are_resumed_in_their_zone(
    np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    """Which the manifest names; in another zone they would be other windows."""
    ids = server.contact_ids
    for tz in (ZoneInfo("Europe/Paris"), timezone(timedelta(hours=-3)), timezone(timedelta(hours=1), "CET"), None):
        out = tmp_path / str(tz).replace("/", "-")
        async with server.client(tz=tz) as local:
            export = Export(local, out, ids, start="2025-12-30", end="2026-02-01", every="1mo")
            assert export.windows == 2
            stopped: list[Export] = []
            stopped.append(
                Export(
                    local,
                    out,
                    ids,
                    start="2025-12-30",
                    end="2026-02-01",
                    every="1mo",
                    on_progress=lambda _, stopped=stopped: stopped[0].stop(),  # type: ignore[misc]
                )
            )
            await stopped[0].run()
            report = read_report(out)
            assert report is not None
            assert not report.complete
            report = await export.run()
        assert report.complete
        january = datetime(2026, 1, 1, tzinfo=tz or UTC).timestamp() * 1000
        windows = [{row["event"]["timestamp"] >= january for row in exported.rows(part)} for part in report.parts]
        assert sorted(map(sorted, windows)) == [[False]] * windows.count({False}) + [[True]] * windows.count({True})
        async with server.client(tz=ZoneInfo("Asia/Tokyo")) as other:
            with pytest.raises(OtherQuery, match=r"begun with (start|tz)="):
                await Export(other, out, ids, start="2025-12-30", end="2026-02-01", every="1mo").run()


async def test_windows_of_24_hours_that_were_begun_are_resumed_as_days(
    np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    """As an earlier version has written them, and as they were: 7d and 1w were the same."""
    arguments: dict[str, Any] = {"start": "2025-12-01T06:00Z", "end": "2026-01-20", "every": timedelta(days=7)}
    begun = Export(np6, tmp_path / "out", server.contact_ids, on_progress=lambda _: begun.stop(), **arguments)
    await begun.run()
    manifest = tmp_path / "out.np6" / "manifest.json"
    old = json.loads(manifest.read_text())
    del old["query"]["tz"]
    manifest.write_text(json.dumps(old))
    with pytest.raises(OtherQuery, match=r"every=datetime.timedelta\(days=7\), not '8d'"):
        await Export(np6, tmp_path / "out", server.contact_ids, **{**arguments, "every": "8d"}).run()
    for every in ("1w", "7d"):
        report = await Export(np6, tmp_path / "out", server.contact_ids, **{**arguments, "every": every}).run()
    assert report.complete
    assert {part.name[5:20] for part in report.parts} <= {f"202512{day:02}T060000" for day in (1, 8, 15, 22, 29)} | {
        f"202601{day:02}T060000" for day in (5, 12, 19)
    }
    assert exported.events(tmp_path / "out").total() > 0


async def test_a_manifest_of_a_zone_that_this_machine_does_not_know_says_so(
    np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    await Export(np6, out, server.contact_ids, start="2026-01-01", end="2026-01-03", every="1d").run()
    manifest = exported.beside(out) / "manifest.json"
    good = manifest.read_text()
    for old, new, words in (
        ('"tz": "UTC"', '"tz": "Mars/Olympus"', "does not know its time zone, 'Mars/Olympus'"),
        ('"tz": "UTC"', '"tz": "../../etc/passwd"', "does not know its time zone"),
        ('"every": "1d"', '"every": "1aeon"', "windows are of an unknown length, '1aeon'"),
    ):
        assert old in good
        manifest.write_text(good.replace(old, new))
        with pytest.raises(FolderError, match=words):
            read_report(out)


async def test_days_of_a_zone_without_a_name_cannot_be_resumed(server: FakeNP6, tmp_path: Path) -> None:
    class Nameless(tzinfo):
        def utcoffset(self, _: Any) -> timedelta:
            return timedelta(hours=1)

    async with server.client(tz=Nameless()) as np6:
        with pytest.raises(InvalidInput, match=r"has no name to resume by: pass a zoneinfo\.ZoneInfo"):
            Export(np6, tmp_path / "out", ["A"], start="2026-01-01", every="1d")


# Sync


def sync(np6: NP6Client, server: FakeNP6, path: Path) -> Sync[Any]:
    return Sync(np6, SQLiteStore(path / "state.db"), server.contact_ids, safety=timedelta())


async def test_a_sync_is_written_in_one_call(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    out = tmp_path / "new"
    progress: list[Counts] = []
    writer = SyncWriter(out, "hits/open", format="csv", part_bytes=10_000, on_progress=progress.append)
    async with sync(np6, server, tmp_path).run(autocommit=False) as run:
        files = await writer.write(run)
    assert files == writer.files == synced.files(out)
    assert len(files) > 1
    assert all(file.name.startswith("hits-open-") for file in files)
    assert progress[-1].events == synced.events(out).total()
    server.add_events(server.contact_ids[0], [make_event(at=datetime.now(UTC).isoformat())])
    await asyncio.sleep(0.01)
    async with sync(np6, server, tmp_path).run(autocommit=False) as run:
        await SyncWriter(out, format="csv").write(run)
    assert synced.events(out) == exported.truth(server, server.contact_ids)


async def test_a_sync_that_was_cancelled_keeps_what_arrived(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    out = tmp_path / "new"

    async def write() -> None:
        async with sync(np6, server, tmp_path).run(autocommit=False) as run:
            await SyncWriter(out, on_progress=lambda counts: counts.events > 100 and running.cancel()).write(run)

    running = asyncio.ensure_future(write())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert synced.events(out).total() > 100
    async with sync(np6, server, tmp_path).run(autocommit=False) as run:
        await SyncWriter(out).write(run)
    assert synced.events(out) == exported.truth(server, server.contact_ids)


async def test_a_state_with_notes_of_another_program_is_refused(
    np6: NP6Client, server: FakeNP6, tmp_path: Path
) -> None:
    async with sync(np6, server, tmp_path).run() as run:
        await run.commit("mine")
    async with sync(np6, server, tmp_path).run(autocommit=False) as run:
        with pytest.raises(NoteError, match="belongs to another program"):
            await SyncWriter(tmp_path / "new").write(run)
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
async def test_a_folder_in_use_is_refused(np6: NP6Client, server: FakeNP6, tmp_path: Path) -> None:
    with closing(LocalStorage(tmp_path / "out")) as other:
        other.open()
        async with sync(np6, server, tmp_path).run(autocommit=False) as run:
            with pytest.raises(FolderError, match="another process writes to"):
                await SyncWriter(tmp_path / "out").write(run)
        with pytest.raises(FolderError, match="another process writes to"):
            await Export(np6, tmp_path / "out", server.contact_ids).run()


def test_a_writer_of_another_format_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as file, pytest.raises(InvalidInput, match="'xml' is not known"):
        make_writer("xml", file)  # type: ignore[arg-type]
