"""`Export` with an `executor`: shards, what becomes of them, and the one folder. The workers are threads here."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import exported
from support.executors import Threads
from support.memory_store import MemoryStore

from np6_async import (
    AuthError,
    ConfigError,
    Contact,
    EndpointNotFound,
    Failure,
    InvalidInput,
    NP6Client,
    RetryPolicy,
    ServiceUnavailable,
)
from np6_async.export import Counts, Export, FolderError, WorkersLost, _worker
from np6_async.export._dispatch import Dispatch
from np6_async.export._manifest import positions, runs
from np6_async.export._shard import Shard
from np6_async.testing import FakeNP6, Fault

OUT = "out"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeNP6]:
    async with FakeNP6(200, (0, 12)) as running:
        monkeypatch.setenv("NP6_API_KEY", running.api_key)  # that of the workers
        yield running


@pytest.fixture
async def np6(server: FakeNP6) -> AsyncIterator[NP6Client]:
    async with NP6Client(base_url=server.url, retry=RetryPolicy(base_delay=0.001)) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def export(np6: NP6Client, folder: Path, contacts: Any, executor: Threads | None = None, **options: Any) -> Export:
    options = {"executor": executor or Threads(), "shard_size": 15, "end": "2027-01-01"} | options
    return Export(np6, folder, contacts, **options)


def only_parts(folder: Path) -> None:
    """Every file in the folder counts, and there is nothing left beside it."""
    files = {file for file in folder.rglob("*") if file.is_file()}
    assert files == set(exported.files(folder))
    assert {name for name in os.listdir(exported.beside(folder)) if not name.startswith("failures")} == {
        "manifest.json"
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"format": "csv", "gzip": True},
        {"format": "parquet"},
        {"partition_by": ("kind",), "format": "parquet"},
        {"part_bytes": 5_000},
        {"start": "2025-12-01", "end": "2026-01-01", "every": "1w"},
        {"by": "unicity"},
    ],
    ids=lambda options: ",".join(options) or "as it is",
)
async def test_many_workers_write_what_one_process_writes(
    options: dict[str, Any], np6: NP6Client, server: FakeNP6, folder: Path, tmp_path: Path
) -> None:
    ids = [server.unicity(c) for c in server.contact_ids] if "by" in options else server.contact_ids
    executor = Threads()
    report = await export(np6, folder, ids, executor, **options).run()
    alone = await export(np6, tmp_path / "alone", ids, **options, executor=None).run()
    assert exported.events(folder) == exported.events(tmp_path / "alone")
    assert (report.complete, report.done, report.events) == (True, alone.done, alone.events)
    assert executor.calls >= 14
    only_parts(folder)


async def test_an_export_of_workers_shows_how_far_they_are(np6: NP6Client, server: FakeNP6, folder: Path) -> None:
    """The counts never fall, and end at what the folder holds."""
    seen: list[Counts] = []
    report = await export(np6, folder, server.contact_ids, on_progress=seen.append).run()
    assert [counts.done for counts in seen] == sorted(counts.done for counts in seen)
    assert (seen[-1].done, seen[-1].events) == (200, report.events)


async def test_contacts_are_read_when_a_worker_is_about_to_need_them(
    np6: NP6Client, server: FakeNP6, folder: Path
) -> None:
    read = done = 0
    ahead = []

    def ids() -> Any:
        nonlocal read
        for contact in server.contact_ids:
            read += 1
            ahead.append(read - done)
            yield contact

    def progress(counts: Counts) -> None:
        nonlocal done
        done = counts.done

    executor = Threads(2)
    await export(np6, folder, ids(), executor, on_progress=progress, shard_size=10).run()
    assert executor.most == 2
    assert max(ahead) <= 10 * 9  # two that are fetched, one that is read, and what is back and being committed


async def test_a_shard_that_is_fetched_twice_counts_once(np6: NP6Client, server: FakeNP6, folder: Path) -> None:
    """As where a worker was thought dead, and goes on."""
    await export(np6, folder, server.contact_ids, Threads(twice=lambda _: True), partition_by=("kind",)).run()
    assert exported.events(folder) == exported.truth(server, server.contact_ids)
    await export(np6, folder, server.contact_ids, partition_by=("kind",)).run()
    only_parts(folder)


@pytest.mark.parametrize("others", ["a fleet", "one process"])
async def test_whoever_goes_on_resumes_what_a_fleet_has_begun(
    others: str, np6: NP6Client, server: FakeNP6, folder: Path
) -> None:
    """Shards are lost at random; each run goes on with what is missing."""
    rng = random.Random(3)
    runs = 0
    while True:
        runs += 1
        executor = Threads(lost=lambda _: rng.random() < 0.4)
        try:
            await export(np6, folder, server.contact_ids, executor, shard_size=rng.choice([4, 15, 70])).run()
            break
        except WorkersLost:
            if others == "one process":
                alone = export(np6, folder, server.contact_ids, executor=None)
                calls = 0

                def stop(_: Counts, alone: Export = alone) -> None:
                    nonlocal calls
                    calls += 1
                    if calls == 10:
                        alone.stop()

                alone._on_progress = stop
                await alone.run()
    assert runs > 2
    assert exported.events(folder) == exported.truth(server, server.contact_ids)
    assert exported.manifest(folder)["contacts"] == 200
    only_parts(folder)


async def test_a_fleet_that_is_stopped_keeps_what_is_whole(np6: NP6Client, server: FakeNP6, folder: Path) -> None:
    """Workers end in the middle of their shards; the rest of each is fetched by the next run."""
    first = export(np6, folder, server.contact_ids, shard_size=60, concurrency=1)
    task = asyncio.create_task(first.run())
    while server.request_count < 30:
        await asyncio.sleep(0)
    first.stop()
    report = await task
    assert not report.complete
    assert 0 < report.done < 200
    only_parts(folder)
    asked = server.request_count
    report = await export(np6, folder, server.contact_ids).run()
    assert (report.complete, report.done) == (True, 200)
    assert exported.events(folder) == exported.truth(server, server.contact_ids)
    assert server.request_count - asked <= 200


async def test_a_cancelled_fleet_can_be_resumed(np6: NP6Client, server: FakeNP6, folder: Path) -> None:
    task = asyncio.create_task(export(np6, folder, server.contact_ids, Threads(1)).run())
    while server.request_count < 50:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await export(np6, folder, server.contact_ids).run()
    assert exported.events(folder) == exported.truth(server, server.contact_ids)
    only_parts(folder)


async def test_contacts_that_fail_in_workers_are_those_that_fail(np6: NP6Client, server: FakeNP6, folder: Path) -> None:
    """Each is reported, is in the file of those that failed, and can be fetched once more by workers."""
    bad = [server.contact_ids[n] for n in (3, 90, 91)]
    for contact in bad:
        server.script(Fault.status(404), contact=contact)
    failures: list[Failure] = []
    report = await export(np6, folder, server.contact_ids, on_failure=failures.append).run()
    assert (report.complete, report.done, report.failed) == (True, 197, 3)
    assert sorted(str(failure.contact) for failure in failures) == sorted(str(Contact("id", each)) for each in bad)
    assert {failure.error.status for failure in failures} == {404}
    (listed,) = report.failures
    assert sorted((exported.contents(folder)[Path(listed.file)]).decode().split()) == sorted(bad)
    report = await export(np6, folder, server.contact_ids).run(retry_failed=True)
    assert (report.done, report.failed) == (200, 0)
    assert exported.events(folder) == exported.truth(server, server.contact_ids)


async def test_unknown_contacts_at_the_beginning_of_a_shard_fail_like_others(
    np6: NP6Client, server: FakeNP6, folder: Path
) -> None:
    unknown = [f"UNKNOWN{number}" for number in range(30)]
    report = await export(np6, folder, [*server.contact_ids, *unknown], shard_size=100).run()
    assert (report.complete, report.done, report.failed) == (True, 200, 30)


async def test_an_address_that_is_wrong_ends_the_run_and_no_contact_has_failed(
    np6: NP6Client, server: FakeNP6, folder: Path
) -> None:
    with pytest.raises(EndpointNotFound):
        await export(np6, folder, [f"UNKNOWN{number}" for number in range(400)], shard_size=100).run()
    assert not exported.begun(folder)


@pytest.mark.parametrize("callback", ["on_failure", "on_progress"])
async def test_what_a_callback_raises_ends_the_run_and_what_is_whole_is_kept(
    callback: str, np6: NP6Client, server: FakeNP6, folder: Path
) -> None:
    server.script(Fault.status(404), contact=server.contact_ids[100])

    def fail(given: Failure | Counts) -> None:
        if isinstance(given, Failure) or given.done > 60:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await export(np6, folder, server.contact_ids, **{callback: fail}).run()
    assert exported.manifest(folder)["contacts"] > 0
    for _ in range(2):  # the contact that fails may have been left to the first of them
        await export(np6, folder, server.contact_ids).run(retry_failed=True)
    assert exported.events(folder) == exported.truth(server, server.contact_ids)
    only_parts(folder)


async def test_what_ends_one_worker_ends_the_run_and_the_others_keep_what_is_whole(
    np6: NP6Client, server: FakeNP6, folder: Path
) -> None:
    server.script(Fault.status(401), contact=server.contact_ids[100])
    with pytest.raises(AuthError):
        await export(np6, folder, server.contact_ids).run()
    assert exported.manifest(folder)["contacts"] > 0
    report = await export(np6, folder, server.contact_ids).run()
    assert (report.complete, report.done) == (True, 200)
    assert exported.events(folder) == exported.truth(server, server.contact_ids)


async def test_an_outage_ends_the_run_and_no_contact_fails(server: FakeNP6, folder: Path) -> None:
    policy = RetryPolicy(base_delay=0.001, outage=0)
    async with NP6Client(base_url=server.url, retry=policy) as np6:
        server.script(Fault.status(503), skip=90, times=None)
        with pytest.raises(ServiceUnavailable):
            await export(np6, folder, server.contact_ids).run()
        assert exported.manifest(folder)["failed"] == 0


async def test_an_end_of_now_is_the_same_for_all_workers(np6: NP6Client, server: FakeNP6, folder: Path) -> None:
    await export(np6, folder, server.contact_ids, end=None).run()
    ends = {request.query["end"] for request in server.requests[1:]}  # the first asks for the server's time
    assert len(ends) == 1
    assert exported.events(folder) == exported.truth(server, server.contact_ids)


async def test_a_worker_with_another_api_key_is_refused(
    np6: NP6Client, server: FakeNP6, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would write the events of another account."""
    monkeypatch.setenv("NP6_API_KEY", "another")
    with pytest.raises(ConfigError, match="a worker has another API key"):
        await export(np6, folder, server.contact_ids).run()
    monkeypatch.delenv("NP6_API_KEY")
    with pytest.raises(ConfigError, match="no API key"):
        await export(np6, folder, server.contact_ids).run()
    assert not exported.begun(folder)


async def test_workers_that_do_not_see_the_folder_are_told_what_to_do(
    np6: NP6Client, server: FakeNP6, folder: Path
) -> None:
    made = export(np6, folder, server.contact_ids)
    made._storage.where = str(folder.with_name("elsewhere"))
    with pytest.raises(FolderError, match="does not exist where a worker runs: all workers must see the same folder"):
        await made.run()


def test_a_shard_shows_neither_contacts_nor_keys() -> None:
    np6 = NP6Client("canary-key", base_url="http://127.0.0.1:1")
    made = export(np6, Path("out"), ["CANARY"], personal="hash", personal_key=b"canary-personal-key")
    fleet = made._fleets(Threads(), made._query, "")(None)  # type: ignore[arg-type]
    shard = fleet.shard
    assert isinstance(shard, Shard)
    assert "canary" not in repr(shard).lower()
    assert "canary" not in next(fleet.names).lower()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"contacts": None, "account": True}, "executor= is for contacts"),
        ({"executor": object()}, "executor must be an Executor"),
        ({"executor": Threads}, "executor must be an Executor"),
        ({"shard_size": 0}, "shard_size must be a whole number of contacts from 1"),
    ],
)
def test_what_no_worker_can_do_is_refused(options: dict[str, Any], words: str) -> None:
    np6 = NP6Client("key", base_url="http://127.0.0.1:1")
    with pytest.raises(InvalidInput, match=words):
        Export(np6, "out", **({"contacts": ["A"], "executor": Threads()} | options))


def test_a_client_that_cannot_be_made_elsewhere_is_refused() -> None:
    np6 = NP6Client("key", base_url="http://127.0.0.1:1", retry=RetryPolicy(random=lambda: 0.5))
    with pytest.raises(InvalidInput, match="cannot have the retry of this one: it cannot be pickled"):
        Export(np6, "out", ["A"], executor=Threads())


async def test_a_commit_that_is_slow_is_waited_for() -> None:
    """What has come back does not heap up: it is contacts, and a kill costs it."""
    read = committed = most = 0

    async def next_piece() -> int | None:
        nonlocal read
        read += 1
        return read if read <= 500 else None

    async def work(piece: int) -> Piece:
        return Piece()

    async def commit(pieces: list[Piece]) -> None:
        nonlocal committed, most
        for _ in range(1_000):
            await asyncio.sleep(0)
        most = max(most, read - committed)
        committed += len(pieces)

    await Dispatch(Threads(3), next_piece, work, commit).run()
    assert committed == 500
    assert most <= 3 * 4 + 1


class Piece:
    error = None


async def test_a_report_that_comes_late_counts_nothing(np6: NP6Client, server: FakeNP6, folder: Path) -> None:
    late: list[Any] = []

    class Late(Threads):
        async def run(self, name: str, call: Any, task: Any, report: Any) -> Any:
            fetched = await super().run(name, call, task, lambda _: None)
            late.append(lambda: report(fetched.counts))
            return fetched

    seen: list[Counts] = []

    def progress(counts: Counts) -> None:
        seen.append(counts)
        for report in late:
            report()

    report = await export(np6, folder, server.contact_ids, Late(), on_progress=progress).run()
    assert len(late) > 10
    assert (seen[-1].done, seen[-1].events) == (200, report.events)


@pytest.mark.parametrize("soon", [True, False])
async def test_what_on_progress_raises_ends_the_run(soon: bool, np6: NP6Client, server: FakeNP6, folder: Path) -> None:
    """Also where the executor would do nothing about it, as Dask, which logs it."""

    class Deaf(Threads):
        async def run(self, name: str, call: Any, task: Any, report: Any) -> Any:
            def heard(counts: Counts) -> None:
                try:
                    report(counts)
                except Exception:
                    raise AssertionError("an executor heard of an error of the program") from None

            if soon:
                heard(Counts(0, 0, 0))
            return await super().run(name, call, task, heard)

    def progress(counts: Counts) -> None:
        raise ZeroDivisionError("of the program")

    with pytest.raises(ZeroDivisionError, match="of the program"):
        await export(np6, folder, server.contact_ids, Deaf(), on_progress=progress).run()
    await export(np6, folder, server.contact_ids).run()
    assert exported.events(folder) == exported.truth(server, server.contact_ids)
    only_parts(folder)


async def test_all_windows_of_an_export_are_one_run_to_its_workers(
    np6: NP6Client, server: FakeNP6, folder: Path
) -> None:
    """They keep their client from one window to the next, and what it knows of the rate limit."""
    runs_seen = set()

    class Watched(Threads):
        async def run(self, name: str, call: Any, task: Any, report: Any) -> Any:
            runs_seen.add(task.salt)
            return await super().run(name, call, task, report)

    executor = Watched()
    await export(np6, folder, server.contact_ids, executor, start="2025-12-01", end="2026-01-01", every="1w").run()
    assert len(runs_seen) == 1
    assert len(set(executor.names)) == len(executor.names) == 70


async def test_contacts_that_may_all_have_failed_for_the_cause_that_ends_the_run_have_not_failed(
    np6: NP6Client, server: FakeNP6, folder: Path
) -> None:
    """As in one process: unknown contacts, and then a refusal of the API key, may be those of another account."""
    for contact in server.contact_ids[:15]:
        server.script(Fault.status(404 if contact != server.contact_ids[10] else 401), contact=contact, times=None)
    with pytest.raises(AuthError):
        await export(np6, folder, server.contact_ids, Threads(1), concurrency=1).run()
    assert not exported.begun(folder) or exported.manifest(folder)["failed"] == 0


async def test_a_stop_keeps_what_is_done_where_a_contact_in_flight_does_not_end(
    np6: NP6Client, server: FakeNP6, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As during a long wait for the rate limit, or where NP6 does not answer."""
    monkeypatch.setattr(_worker, "_STOP_SECONDS", 0.0)
    server.script(Fault.hang(), contact=server.contact_ids[50])
    first = export(np6, folder, server.contact_ids, Threads(1), shard_size=200, concurrency=2, part_bytes=3_000)
    task = asyncio.create_task(first.run())
    while server.request_count < 100:
        await asyncio.sleep(0)
    first.stop()
    report = await task
    assert not report.complete
    assert report.done > 0
    only_parts(folder)
    report = await export(np6, folder, server.contact_ids).run()
    assert (report.complete, report.done) == (True, 200)
    assert exported.events(folder) == exported.truth(server, server.contact_ids)
    only_parts(folder)


async def test_a_run_that_ends_leaves_alone_what_the_next_one_has_begun(
    np6: NP6Client, server: FakeNP6, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an object store nothing keeps that from beginning while the workers of the first are still released."""
    store = MemoryStore()
    store.use(monkeypatch)

    class Overlapping(Threads):
        async def __aexit__(self, *error: object) -> None:
            await super().__aexit__(*error)
            await Export(np6, "s3://lake/out", server.contact_ids, executor=Threads(), end="2027-01-01").run()

    first = Export(
        np6,
        "s3://lake/out",
        server.contact_ids,
        executor=Overlapping(),
        shard_size=15,
        end="2027-01-01",
        on_progress=lambda counts: first.stop() if counts.done > 50 else None,
    )
    assert not (await first.run()).complete
    report = await Export(np6, "s3://lake/out", server.contact_ids, end="2027-01-01").run()
    assert (report.complete, report.done) == (True, 200)
    assert store.events("lake/out", tmp_path) == exported.truth(server, server.contact_ids)


async def test_what_workers_leave_in_an_object_store_is_removed_when_the_run_ends(
    np6: NP6Client, server: FakeNP6, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    store.use(monkeypatch)
    twice = Threads(twice=lambda _: True)
    await Export(np6, "s3://lake/out", server.contact_ids, executor=twice, shard_size=15, end="2027-01-01").run()
    (manifest,) = store.names("lake/out.np6")
    assert manifest.startswith("manifest-")


async def test_a_run_whose_folder_another_one_has_taken_says_so(
    np6: NP6Client, server: FakeNP6, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its workers have written is removed by the other run."""
    store = MemoryStore()
    store.use(monkeypatch)

    class Overtaken(Threads):
        async def run(self, name: str, call: Any, task: Any, report: Any) -> Any:
            fetched = await super().run(name, call, task, report)
            if self.calls == 5:
                await Export(np6, "s3://lake/out", server.contact_ids, executor=Threads(), end="2027-01-01").run()
            return fetched

    options: dict[str, Any] = {"executor": Overtaken(1), "shard_size": 15, "end": "2027-01-01"}
    with pytest.raises(FolderError, match="another run has begun to write to"):
        await Export(np6, "s3://lake/out", server.contact_ids, **options).run()
    assert store.events("lake/out", tmp_path) == exported.truth(server, server.contact_ids)


async def test_files_of_a_worker_that_goes_on_may_vanish_while_the_next_run_begins(
    np6: NP6Client, server: FakeNP6, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await export(np6, folder, server.contact_ids, Threads()).run()
    left = exported.beside(folder) / "part-000001-0123456789abcdef.ndjson.tmp"
    left.touch()
    listed = Path.iterdir

    def vanishing(self: Path) -> Any:
        for file in listed(self):
            if file == left:
                left.unlink(missing_ok=True)
            yield file

    monkeypatch.setattr(Path, "iterdir", vanishing)
    assert (await export(np6, folder, server.contact_ids).run()).complete


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
async def test_workers_do_not_wait_for_an_api_key_in_a_pipe(
    np6: NP6Client, server: FakeNP6, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = folder.with_name("key")
    os.mkfifo(pipe)
    monkeypatch.delenv("NP6_API_KEY")
    monkeypatch.setenv("NP6_API_KEY_FILE", str(pipe))
    with pytest.raises(ConfigError, match="NP6_API_KEY_FILE names is a pipe"):
        await export(np6, folder, server.contact_ids).run()


@given(st.sets(st.integers(0, 60)))
def test_open_positions_are_kept_as_runs(numbers: set[int]) -> None:
    assert list(positions(runs(numbers))) == sorted(numbers)


async def test_a_client_with_a_session_of_another_is_refused(server: FakeNP6) -> None:
    """Its proxies and certificates would not be those of the workers."""
    async with aiohttp.ClientSession() as session:
        np6 = NP6Client("key", base_url=server.url, session=session)
        with pytest.raises(InvalidInput, match="cannot have the session of this one"):
            Export(np6, "out", ["A"], executor=Threads())
