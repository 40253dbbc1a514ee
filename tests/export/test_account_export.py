"""`Export(account=True)` and `Export(action=...)`: one response in many parts, resumed in its middle."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from np6_async import InvalidInput, NotFound, NP6Client, RetryPolicy, StreamInterrupted
from np6_async.export import Counts, Export, ExportReport, FolderError, OtherQuery, SyncWriter, read_report
from np6_async.export._part import PartFile, Sealed
from np6_async.sync import SQLiteStore, Sync
from np6_async.testing import FakeNP6, Fault, make_activation, make_hit

NOON = 1_767_182_400_000


@pytest.fixture
async def server() -> AsyncIterator[FakeNP6]:
    async with FakeNP6(40, (0, 20)) as server:
        for number in range(3):
            server.add_contact(f"T{number}", [make_activation(at=NOON) for _ in range(50)])  # a tie of 150
        yield server


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with server.client(retry=RetryPolicy(max_attempts=1)) as np6:
        yield np6


def truth(server: FakeNP6) -> Counter[str]:
    return Counter(event["id"] for contact in server.contact_ids for event in server.events(contact))


def written(report: ExportReport | None) -> Counter[str]:
    assert report is not None
    lines = [json.loads(line) for part in report.parts for line in part.read_text().splitlines()]
    assert report.events == len(lines)
    return Counter(line["event"]["id"] for line in lines)


async def test_all_events_of_the_account_are_in_the_parts_in_the_order_of_time(
    server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    seen: list[Counts] = []
    report = await Export(np6, tmp_path / "out", account=True, part_bytes=20_000, on_progress=seen.append).run()
    assert report.complete
    assert written(report) == truth(server)
    assert len(report.parts) > 5
    times = [json.loads(line)["event"]["timestamp"] for part in report.parts for line in part.read_text().splitlines()]
    assert times == sorted(times)
    assert (report.done, report.failed) == (0, 0)
    assert seen[-1] == Counts(0, 0, report.events, times[-1])
    assert [request.path for request in server.requests] == ["/actions/events"]
    assert await Export(np6, tmp_path / "out", account=True).run() == report
    assert server.request_count == 1


async def test_requests_that_are_sent_again_are_counted(server: FakeNP6, tmp_path: Path) -> None:
    seen: list[Counts] = []
    server.script(Fault.cut(after=60_000))
    async with server.client(retry=RetryPolicy(base_delay=0.001)) as np6:
        await Export(np6, tmp_path / "out", account=True, on_progress=seen.append).run()
    assert [counts.retries for counts in (seen[0], seen[-1])] == [0, 1]


async def test_an_action_is_exported_by_itself(server: FakeNP6, np6: NP6Client, tmp_path: Path) -> None:
    hit = make_hit(at=NOON)
    hit["source"]["detail"]["activation"]["id"] = "ONLY01"
    server.add_contact("H", [hit, make_hit(at=NOON)])
    report = await Export(np6, tmp_path / "out", action="ONLY01", kind="hits", format="csv").run()
    assert report.events == 1
    with pytest.raises(NotFound):
        await Export(np6, tmp_path / "none", action="NOSUCH").run()
    assert not (tmp_path / "none").exists()
    empty = await Export(np6, tmp_path / "empty", action="NOSUCH", missing="empty").run()
    assert empty.complete
    assert [part.stat().st_size for part in empty.parts] == [0]


async def test_a_response_that_breaks_is_resumed_in_its_middle_by_the_next_run(
    server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    """Also in the middle of a tie, whichever order the server gives it next time."""
    size = sum(len(json.dumps(event)) for contact in server.contact_ids for event in server.events(contact))
    runs = 0
    for after in (0, size // 10, size // 3, size // 3, size // 8):
        server.script(Fault.cut(after=after))
        with pytest.raises(StreamInterrupted, match=r"^the account: "):
            await Export(np6, tmp_path / "out", account=True, part_bytes=15_000).run()
        runs += 1
        if after:
            report = read_report(tmp_path / "out")
            assert report is not None
            assert not report.complete
            assert written(report) <= truth(server)
    report = await Export(np6, tmp_path / "out", account=True).run()
    assert written(report) == truth(server)
    assert "start" in server.requests[-1].query
    assert server.request_count == runs + 1


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
async def test_what_was_written_counts_when_a_run_is(how: str, server: FakeNP6, np6: NP6Client, tmp_path: Path) -> None:
    server.script(Fault.stall(after=60_000))
    arrived = asyncio.Event()
    export = Export(np6, tmp_path / "out", account=True, part_seconds=1e-6, on_progress=lambda _: arrived.set())
    task = asyncio.create_task(export.run())
    await arrived.wait()
    if how == "stopped":
        export.stop()
    task.cancel() if how == "cancelled" else None
    if how == "cancelled":
        with pytest.raises(asyncio.CancelledError):
            await task
        report = export.report
    else:
        report = await task
    assert report is not None
    assert not report.complete
    assert 0 < report.events < truth(server).total()
    server.reset()
    assert written(await Export(np6, tmp_path / "out", account=True).run()) == truth(server)


@pytest.mark.parametrize("how", ["ends by itself", "is cancelled"])
async def test_a_commit_that_fails_as_the_run_ends_does_not_count(
    how: str, server: FakeNP6, np6: NP6Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events were in the part that is gone: the next run fetches them."""
    error = OSError(errno.ENOSPC, "No space left") if how == "is cancelled" else ValueError("No space left")
    committing, cancelled = threading.Event(), threading.Event()
    seal = PartFile.seal

    def fill(part: PartFile) -> list[Sealed]:
        monkeypatch.setattr(PartFile, "seal", seal)
        committing.set()
        cancelled.wait()
        part.discard()
        raise error

    monkeypatch.setattr(PartFile, "seal", fill)
    export = Export(np6, tmp_path / "out", account=True, part_bytes=20_000)
    task = asyncio.create_task(export.run())
    await asyncio.to_thread(committing.wait)
    if how == "is cancelled":
        task.cancel()
    asyncio.get_running_loop().call_soon(cancelled.set)
    with pytest.raises(type(error), match="No space"):
        await task
    assert written(await Export(np6, tmp_path / "out", account=True).run()) == truth(server)


@pytest.mark.parametrize("what", ["account", "contacts", "sync"])
async def test_however_often_it_is_cancelled_nothing_goes_on_behind_its_back(
    what: str, server: FakeNP6, np6: NP6Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run has the folder for itself: until a commit has ended, so has not the one that makes it."""
    sealing, go_on = threading.Event(), threading.Event()
    seal = PartFile.seal
    out = tmp_path / "out"
    sync = Sync(np6, SQLiteStore(tmp_path / "state.db"), account=True)

    def slow(part: PartFile) -> list[Sealed]:
        sealing.set()
        go_on.wait()
        return seal(part)

    async def run() -> object:
        if what == "sync":
            async with sync.run(autocommit=False) as run:
                return await SyncWriter(out, part_bytes=20_000).write(run)
        subjects: Any = {"account": True} if what == "account" else {"contacts": server.contact_ids}
        return await Export(np6, out, part_bytes=20_000, **subjects).run()

    monkeypatch.setattr(PartFile, "seal", slow)
    task = asyncio.create_task(run())
    await asyncio.to_thread(sealing.wait)
    for _ in range(3):
        task.cancel()
        await asyncio.wait([task], timeout=0.01)
        assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list((tmp_path / "out.np6").glob("*.tmp"))
    await run()
    parts = sorted(out.glob("*.ndjson"))
    lines = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    assert Counter(line["event"]["id"] for line in lines) == truth(server)


async def test_only_the_events_of_named_contacts_are_written(server: FakeNP6, np6: NP6Client, tmp_path: Path) -> None:
    server.add_contact("MINE", [make_hit(at=NOON, contact="MINE") for _ in range(4)])
    report = await Export(np6, tmp_path / "out", account=True, only={"MINE"}).run()
    assert report.complete
    assert report.events == 4
    assert report.unnamed > 0


@pytest.mark.parametrize(
    "place", [[1], [None, ["a"], [["zz", 1]]], [1, [1], []], [1.5, [], []], [10**30, [], []]], ids=str
)
async def test_a_manifest_that_does_not_say_what_was_delivered_is_refused(
    place: list[Any], server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    server.script(Fault.cut(after=60_000))
    with pytest.raises(StreamInterrupted):
        await Export(np6, tmp_path / "out", account=True, part_bytes=10_000).run()
    file = tmp_path / "out.np6" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["place"]["delivered"] = place
    file.write_text(json.dumps(manifest))
    with pytest.raises(FolderError, match="is damaged: it does not say what was delivered"):
        await Export(np6, tmp_path / "out", account=True).run()
    assert server.request_count == 1


async def test_a_folder_belongs_to_one_export(server: FakeNP6, np6: NP6Client, tmp_path: Path) -> None:
    await Export(np6, tmp_path / "out", account=True).run()
    with pytest.raises(OtherQuery, match="begun with action=None, not 'A'"):
        await Export(np6, tmp_path / "out", action="A").run()
    with pytest.raises(OtherQuery, match="begun with by='action', not 'id'"):
        await Export(np6, tmp_path / "out", server.contact_ids).run()
    with pytest.raises(OtherQuery, match="begun with only=False, not True"):
        await Export(np6, tmp_path / "out", account=True, only={"A"}).run()
    with pytest.raises(FolderError, match="holds an export already"):
        await Export(np6, tmp_path / "out", account=True).run(resume=False)


async def test_what_makes_no_sense_is_refused_before_any_request(
    server: FakeNP6, np6: NP6Client, tmp_path: Path
) -> None:
    for options in ({}, {"account": True, "contacts": ["A"]}, {"account": True, "action": "A"}):
        with pytest.raises(InvalidInput, match="one of them"):
            Export(np6, tmp_path, **options)  # type: ignore[arg-type]
    odd: list[tuple[dict[str, Any], str]] = [
        ({"account": True, "every": "1d", "start": NOON}, "every= is for exports of contacts"),
        ({"contacts": ["A"], "only": {"A"}}, "only= is for exports of actions"),
        ({"account": True, "by": "hash"}, "by= is for exports of contacts"),
        ({"account": "000PE4"}, "account must be True or False; for the events of one action pass action="),
        ({"action": "../x"}, "The action id has"),
        ({"contacts": ["A"], "kind": "cancellations"}, "is not among the events of contacts"),
    ]
    for options, message in odd:
        with pytest.raises(InvalidInput, match=message):
            Export(np6, tmp_path, **options)
    assert server.request_count == 0
